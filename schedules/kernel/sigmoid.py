"""The logistic function by arithmetic alone: a loop that calls the C library is not vectorised."""

from __future__ import annotations

from typing import Any

from tvm import tirx

#: An IEEE-754 single has so many bits of mantissa, and so much is added to its exponent.
_MANTISSA_BITS, _EXPONENT_BIAS = 23, 127
#: The polynomial that is 2^x for |x| <= 1/2 has these coefficients, from the constant term on. It
#: is minimax in the relative error, which is 2e-9.
_EXP2 = (
    1.0, 0.6931472028550458, 0.24022647913632086, 0.055503324711582036, 0.009618437357437254,
    0.0013398874403918362, 0.00015353361948196152,
)  # fmt: skip
_LOG2_E = 1.4426950408889634


def sigmoid(x: Any) -> Any:
    """``1 / (1 + e^-x)`` in float32; not a number if ``x`` is none."""
    one = tirx.const(1.0, "float32")
    return tirx.Select(tirx.isnan(x), x, one / (one + _exp_of_negative(x)))


def swish(x: Any) -> Any:
    """``x / (1 + e^-x)`` in float32 (Ramachandran et al., arXiv 1710.05941, with beta = 1).

    The roundings add up to less than 10 u |x|: those of the exponent, whose error grows with |x|,
    count for as much less as the function is flat there.
    """
    return x / (tirx.const(1.0, "float32") + _exp_of_negative(x))


def _exp_of_negative(x: Any) -> Any:
    """``e^-x``: infinite if 2^128 is nearer than 2^127, and never less than 2^-126."""
    exponent = tirx.max(tirx.min(x * tirx.const(-_LOG2_E, "float32"), 128.0), -126.0)
    whole = tirx.floor(exponent + tirx.const(0.5, "float32"))
    fraction = exponent - whole
    power = tirx.const(_EXP2[-1], "float32")
    for coefficient in reversed(_EXP2[:-1]):
        power = power * fraction + tirx.const(coefficient, "float32")
    bits = tirx.shift_left(
        whole.astype("int32") + _EXPONENT_BIAS, tirx.const(_MANTISSA_BITS, "int32")
    )
    return power * tirx.reinterpret("float32", bits)
