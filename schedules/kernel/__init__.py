"""What algorithms are built from: patches, packed weights, register tiles, the matrix product.

A line here may know TE and schedules, and serves several algorithms.
"""
