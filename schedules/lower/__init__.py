"""Scheduled TensorIR as bare C functions with one planned workspace.

A line here rewrites loops and buffers, and knows nothing of convolutions.
"""
