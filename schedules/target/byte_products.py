"""How processors multiply bytes, as far as it decides what kernels are made of.

:mod:`schedules.lower.integers` tells of the operations.
"""

from __future__ import annotations

from schedules.target.cores import I8MM
from schedules.target.simd import Simd


def spreads(simd: Simd) -> bool:
    """Whether ``simd`` has ``spread_dot4``: Arm without dot products, which it saves a lot."""
    return simd.arch == "aarch64" and "dotprod" not in simd.features


def multiplies_matrices(simd: Simd) -> bool:
    """Whether ``simd`` has ``matrix_dot8``: twice as many products as in an instruction of dots."""
    return I8MM in simd.features
