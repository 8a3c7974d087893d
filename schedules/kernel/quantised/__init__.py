"""Quantised layers: the constants that their kernels read, and how sums become elements again.

A line here serves every algorithm that sums products of integers.
"""
