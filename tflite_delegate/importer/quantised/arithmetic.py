"""ADD, SUB and MUL of codes, as XNNPACK computes them, and PRELU, as TFLite's own kernel does.

What XNNPACK does not take, TFLite's own kernels compute, and all by another choice of rounding.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from tvm import relax, tirx

from schedules.kernel.quantised.fixed_point import Multiplier, shift_up
from tflite_delegate.importer.conversions.elementwise import broadcast
from tflite_delegate.importer.conversions.operation import Operation
from tflite_delegate.importer.quantised import own_kernels
from tflite_delegate.importer.quantised.codes import Codes, clamped, integer, nearest, real

#: Bits behind the point of the larger of a sum's factors.
_DIGITS = 20


def _codes(operation: Operation) -> tuple[Codes, Codes, Codes] | None:
    """Those of both operands and the result; ``None`` if they are not of one type."""
    a, b = (Codes.of_input(operation, position) for position in range(2))
    y = Codes.of_output(operation)
    if a is None or b is None or y is None or not a.dtype == b.dtype == y.dtype:
        return None
    return a, b, y


def _sum(operation: Operation) -> relax.Expr | None:
    """Operands times factors that share a shift, rounded once; ties go up."""
    codes = _codes(operation)
    if codes is None:
        return None
    a, b, y = codes
    ratios = a.scale / y.scale, b.scale / y.scale
    if not (operation.as_xnnpack and min(ratios) >= 2.0**-10 and max(ratios) < 2.0**8):
        return own_kernels.total(operation, codes)
    shift = _DIGITS - (math.frexp(max(ratios))[1] - 1)
    by_a, by_b = (int(np.rint(math.ldexp(float(ratio), shift))) for ratio in ratios)
    by_b = -by_b if operation.name == "SUB" else by_b
    rest = (1 << shift >> 1) - a.zero * by_a - b.zero * by_b
    bounds = y.clamp(operation, as_xnnpack=True)

    def element(first: Any, second: Any) -> Any:
        total = integer(first) * by_a + integer(second) * by_b + rest
        return clamped((total >> shift) + y.zero, bounds, y.dtype)

    return broadcast(operation, element, operation.codes(0), operation.codes(1))


def _product(operation: Operation) -> relax.Expr | None:
    """By a float32, ties to even; on Arm in fixed point, ties up."""
    codes = _codes(operation)
    if codes is None:
        return None
    a, b, y = codes
    scale = a.scale * b.scale / y.scale
    if not (operation.as_xnnpack and 2.0**-16 <= scale < 2.0**8):
        return own_kernels.product(operation, codes)
    fraction, exponent = math.frexp(float(scale))
    bounds = y.clamp(operation, as_xnnpack=True)

    def element(first: Any, second: Any) -> Any:
        product = (integer(first) - a.zero) * (integer(second) - b.zero)
        if operation.is_for_arm:
            fixed = integer(product, 64) * int(math.ldexp(fraction, 24))
            whole = integer(shift_up(fixed, 24 - exponent))
        else:
            whole = nearest(real(product) * real(scale))
        return clamped(whole + y.zero, bounds, y.dtype)

    return broadcast(operation, element, operation.codes(0), operation.codes(1))


def _prelu(operation: Operation) -> relax.Expr | None:
    codes = _codes(operation)
    if codes is None:
        return None
    x, slope, y = codes
    above = Multiplier.of(float(x.scale / y.scale))
    below = Multiplier.of(float(x.scale * slope.scale / y.scale))

    def element(first: Any, second: Any) -> Any:
        value, factor = integer(first, 64) - x.zero, integer(second, 64) - slope.zero
        scaled = tirx.Select(value >= 0, above.scale_away(value), below.scale_away(value * factor))
        return clamped(scaled + y.zero, (y.least, y.most), y.dtype)

    return broadcast(operation, element, operation.codes(0), operation.codes(1))


CONVERSIONS = {"ADD": _sum, "SUB": _sum, "MUL": _product, "PRELU": _prelu}
