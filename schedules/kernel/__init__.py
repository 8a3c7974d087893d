"""What algorithms are built from: patches, packed weights, register tiles, their steps, products.

A line here may know TE and schedules, and serves several algorithms.
"""
