"""One byte budget over all that a network holds: the plans worth having, found exactly.

A line here knows layers, tensors and what a kernel costs, and neither loops nor files.
"""
