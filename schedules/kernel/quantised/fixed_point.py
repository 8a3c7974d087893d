"""Integers times real numbers, as TFLite's kernels compute them: with multipliers of 31 bits.

Functions take numpy's int64 or TVM's, as what is known of a node is computed when it is imported.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

_BITS = 31


@dataclass(frozen=True)
class Multiplier:
    """``mantissa 2^(shift - 31)``."""

    mantissa: int
    shift: int

    @classmethod
    def of(cls, real: float, bits: int = _BITS) -> Multiplier:
        """The nearest to ``real``, which is positive or zero, with a mantissa of so many bits."""
        if real >= 2.0**30:  # more is no use for products of 32 bits
            return cls(2**bits - 1, 30)
        fraction, shift = math.frexp(real)
        mantissa = math.floor(fraction * 2**bits + 0.5)
        if mantissa == 2**bits:
            mantissa, shift = mantissa // 2, shift + 1
        return cls(0, 0) if shift < -_BITS else cls(mantissa, shift)

    def scale_up(self, value: Any) -> Any:
        """``value`` times this, rounded twice; ties go up."""
        return shift_up(self._high_product(value), max(-self.shift, 0))

    def scale_away(self, value: Any) -> Any:
        """Likewise; the second time, ties go away from zero."""
        return shift_away(self._high_product(value), max(-self.shift, 0))

    def _high_product(self, value: Any) -> Any:
        if self.shift > 0:
            value = _wrapped(value << self.shift)
        return (value * self.mantissa + 2 ** (_BITS - 1)) >> _BITS


def shift_up(value: Any, bits: int) -> Any:
    """``value / 2^bits`` rounded, ties up."""
    return (value + (1 << (bits - 1))) >> bits if bits else value


def shift_away(value: Any, bits: int) -> Any:
    """``value / 2^bits`` rounded, ties away from zero."""
    return (value + (1 << (bits - 1)) + (value >> 63)) >> bits if bits else value


def _wrapped(value: Any) -> Any:
    """What 32 bits hold of it."""
    return ((value + 2**31) & (2**32 - 1)) - 2**31
