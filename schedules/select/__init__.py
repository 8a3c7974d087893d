"""The kernels of a whole network: choice, memory, report, and compiling them side by side.

A line here sees all layers at once, and not how any is computed.
"""
