"""Exact matrices of minimal filtering, which Winograd convolution is built from.

A line here knows numbers alone, so that what reads files need not load TVM for them.
"""
