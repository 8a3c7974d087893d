"""Sums of two tensors of integers, as XNNPACK computes them.

    y = ((a f_a + b f_b + offset) >> shift) + z_y,    offset = 2^(shift - 1) - z_a f_a - z_b f_b

``f`` is the ratio of an operand's scale to that of the sum, in so many steps that the larger one
has 20 or 21 bits: ties go up, and nothing passes 32 bits. The delegate computes the same numbers
(csrc/kernels/quantised/sums.h).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

#: Bits of the larger factor, but for its highest.
FRACTION_BITS = 20
#: Ratios of scales that XNNPACK takes.
LEAST_RATIO, RATIO_LIMIT = 2.0**-10, 2.0**8


@dataclass(frozen=True)
class CodeSum:
    """What a sum of two tensors is computed with.

    Parameters
    ----------
    factors : tuple of int
        Of the operands.
    shift : int
        Bits behind the point of the factors.
    offset : int
        Half a step, less what the zero points add.
    """

    factors: tuple[int, int]
    shift: int
    offset: int

    @classmethod
    def of(cls, a: tuple[float, int], b: tuple[float, int], output_scale: float) -> CodeSum | None:
        """That of operands with these scales and zero points; ``None`` if XNNPACK has none."""
        ratios = [np.float32(scale) / np.float32(output_scale) for scale, _ in (a, b)]
        if not (min(ratios) >= LEAST_RATIO and max(ratios) < RATIO_LIMIT):
            return None
        shift = FRACTION_BITS - (math.frexp(float(max(ratios)))[1] - 1)
        first, second = (round(math.ldexp(float(ratio), shift)) for ratio in ratios)
        offset = (1 << (shift - 1)) - a[1] * first - b[1] * second
        return cls((first, second), shift, offset)
