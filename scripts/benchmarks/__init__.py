"""Benchmarks, a module each; what they share is in ``harness``, what they printed in ``results``.

A line here says which inputs and runners are compared. How they are timed, their memory and how
rows become tables, JSON and pictures is the harness's.
"""
