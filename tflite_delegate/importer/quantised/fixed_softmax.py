"""SOFTMAX of codes as TFLite's reference kernel computes it: in fixed point throughout.

Numbers are integers of 32 bits that count steps of 2^(i - 31), i being the bits before the point: 0
for powers and shares, 5 for exponents, 12 for sums of powers. e^x is a polynomial of the fourth
degree on the interval from -1/4 to 0, times the powers of e that x is further away; 1 / x is found
by three steps of Newton's method. (gemmlowp's fixedpoint.h has both.)
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import relax, te, tirx

from schedules.kernel.quantised.fixed_point import Multiplier, shift_away
from tflite_delegate.importer.conversions.operation import Operation
from tflite_delegate.importer.quantised.codes import Codes, clamped, integer

#: Bits before the point of exponents and of sums.
_EXPONENT_BITS, _SUM_BITS = 5, 12
_ONE, _CODE_BITS = 2**31 - 1, 8
#: e^(-2^n) for n from -2 to 4, of no bits before the point.
_POWERS = (1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242)
#: e^(-1/8) and 1/3, likewise; and 48/17 and -32/17, of two bits, for the first guess of 1 / x.
_EIGHTH, _THIRD = 1895147668, 715827883
_GUESS, _SLOPE = 1515870810, -1010580540


def softmax(operation: Operation, x: Codes, y: Codes) -> relax.Expr | None:
    """The node, whose output has 256 steps from 0 to 1."""
    step = float(x.scale) * operation.options["beta"]
    if not 2.0 ** (_EXPONENT_BITS - 31) < step < 2 ** (_EXPONENT_BITS - 1):
        return None
    powers = _powers_of(step)
    tables = (powers, shift_away(powers, _SUM_BITS))
    return operation.compute(
        lambda codes, whole, parts: _shares(codes, whole, parts, y),
        operation.codes(0),
        *(relax.const(table.astype(np.int32)) for table in tables),
    )


def _powers_of(step: float) -> NDArray[np.int64]:
    """e^-(n ``step``) for the distances n of a code from the largest; 0 where that is too small."""
    multiplier = Multiplier.of(step * 2 ** (31 - _EXPONENT_BITS))
    most = (2**_EXPONENT_BITS - 1) * 2 ** (31 - _EXPONENT_BITS) >> multiplier.shift
    distances = np.arange(256, dtype=np.int64)
    scaled = np.minimum(distances, most) << multiplier.shift
    powers = _power(_product(-scaled, multiplier.mantissa))
    return np.where(distances <= most, powers, 0)


def _product(a: Any, b: Any) -> Any:
    """Of numbers one of which has no bits before the point; ties go up."""
    return (a * b + 2**30) >> 31


def _power(exponents: NDArray[np.int64]) -> NDArray[np.int64]:
    """e^x for x up to 0."""
    quarter = 2 ** (31 - _EXPONENT_BITS - 2)
    near = (exponents & (quarter - 1)) - quarter
    x = (near << _EXPONENT_BITS) + 2**28  # from -1/8 to 1/8
    square = _product(x, x)
    fourth = shift_away(_product(square, square), 2)
    rest = _product(fourth + _product(square, x), _THIRD) + square
    result = _EIGHTH + _product(_EIGHTH, x + shift_away(rest, 1))
    for bit, power in enumerate(_POWERS):
        is_set = (near - exponents) & (quarter << bit)
        result = np.where(is_set, _product(result, power), result)
    return np.where(exponents == 0, _ONE, result)


def _shares(codes: te.Tensor, powers: te.Tensor, parts: te.Tensor, y: Codes) -> te.Tensor:
    *rows, count = codes.shape
    c, k = te.reduce_axis((0, count), "c"), te.reduce_axis((0, count), "k")
    most = te.compute(rows, lambda *row: te.max(integer(codes(*row, c)), axis=c), name="most")

    def distance(*index: Any) -> Any:
        return most[index[:-1]] - integer(codes[index])

    sums = te.compute(rows, lambda *row: te.sum(parts[distance(*row, k)], axis=k), name="sums")
    inverses = te.compute(rows, lambda *row: _inverse(sums[row]), name="inverses")

    def share(*index: Any) -> Any:
        row = index[:-1]
        product = _product(integer(powers[distance(*index)], 64), integer(inverses[row], 64))
        bits = integer(_length(sums[row]) - (31 - _SUM_BITS + 1) + 31 - _CODE_BITS, 64)
        half = tirx.const(1, "int64") << (bits - 1)
        return clamped(((product + half) >> bits) + y.least, (y.least, y.most), y.dtype)

    return te.compute(codes.shape, share, name="share")


def _length(value: Any) -> Any:
    """The bits of a sum of powers, the largest of which is 1."""
    longer = (tirx.Cast("int32", value >= 2**bit) for bit in range(32 - _SUM_BITS, 31))
    return sum(longer, tirx.const(32 - _SUM_BITS, "int32"))


def _inverse(value: Any) -> Any:
    """1 / x of a sum that is divided by the power of two below it."""
    half = integer(value, 64) << integer(31 - _length(value), 64)
    guess = _GUESS + _product(half, _SLOPE)
    for _ in range(3):
        guess = guess + (_product(guess, 2**29 - _product(half, guess)) << 2)
    return integer(tirx.min(guess << 1, tirx.const(_ONE, "int64")))
