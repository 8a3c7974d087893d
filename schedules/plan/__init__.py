"""One kernel of one layer or block: which algorithm with which knobs, within limits.

A line here compares forms of algorithms, and compiles the one that was chosen.
"""
