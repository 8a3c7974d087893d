"""Operators of one code, by tables of all 256 results: activations, and codes of another scale."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import relax, te, tirx

from schedules.kernel.quantised.fixed_point import Multiplier, shift_away, shift_up
from tflite_delegate.importer.conversions.operation import Operation
from tflite_delegate.importer.quantised.codes import Codes, integer, round_away

Integers = NDArray[np.int64]
#: Elements that TFLite's kernels compute at once, of those that round the rest in another way.
_RECODED_AT_ONCE, _SWISHED_AT_ONCE = 16, 8


def _ends(operation: Operation) -> tuple[Codes, Codes] | None:
    x, y = Codes.of_input(operation), Codes.of_output(operation)
    return None if x is None or y is None else (x, y)


def look_up(
    operation: Operation,
    codes: relax.Expr,
    ends: tuple[Codes, Codes],
    table: NDArray[Any],
    rest: NDArray[Any] | None = None,
    lanes: int = 1,
) -> relax.Expr:
    """The entry of ``table`` for each code; of ``rest`` behind the last whole vector of lanes."""
    x, y = ends
    shape = operation.shape_of(codes)
    size = math.prod(shape)
    whole = size if rest is None else size - size % lanes
    parts = [table] if rest is None else [table, rest]
    entries = np.clip(np.concatenate(parts), y.least, y.most).astype(y.dtype)

    def compute(codes: te.Tensor, entries: te.Tensor) -> te.Tensor:
        def element(*index: Any) -> Any:
            place = integer(codes[index]) - x.least
            if whole < size:
                flat: Any = 0
                for axis, extent in zip(index, shape, strict=True):
                    flat = flat * extent + axis
                place = place + tirx.Select(flat >= whole, 256, 0)
            return entries[place]

        return te.compute(shape, element, name="entry")

    return operation.compute(compute, codes, relax.const(entries))


def _by_table(
    fill: Callable[[Operation, Codes, Codes], Integers | None],
) -> Callable[[Operation], relax.Expr | None]:
    def convert(operation: Operation) -> relax.Expr | None:
        ends = _ends(operation)
        table = None if ends is None else fill(operation, *ends)
        if ends is None or table is None:
            return None
        return look_up(operation, operation.codes(0), ends, table)

    return convert


def _logistic(operation: Operation, x: Codes, y: Codes) -> Integers | None:
    """XNNPACK's, in double precision; TFLite's in single."""
    if y.scale != np.float32(2.0**-8) or y.zero != y.least:
        return None  # which LiteRT refuses too
    values = (x.all - x.zero).astype(np.float32) * x.scale
    if not operation.as_xnnpack:
        with np.errstate(over="ignore"):
            single = np.float32(1) / (
                np.float32(1) + np.exp(-values.astype(np.float64)).astype("f4")
            )
        return (round_away(single * (np.float32(1) / y.scale)) + y.zero).astype(np.int64)
    shares = (1 / (1 + np.exp(-np.clip(values.astype(np.float64), -700, 700)))).astype(np.float32)
    steps = shares * (np.float32(1) / y.scale) + np.float32(y.zero)
    return np.rint(steps).astype(np.int64)


def _leaky_relu(operation: Operation, x: Codes, y: Codes) -> Integers | None:
    """XNNPACK's multipliers have 8 bits; what these cannot tell TFLite's own kernel computes."""
    alpha, values = np.float32(operation.options["alpha"]), x.all - x.zero
    above = x.scale / y.scale
    below = above * alpha
    least, most = 2.0**-8, 2.0**7
    fits = least <= above <= most and abs(below) >= least and -127.99609375 <= below <= most
    if operation.as_xnnpack and fits:
        factors = [int(np.rint(np.float32(256) * ratio)) for ratio in (above, below)]
        return shift_up(values * np.where(values > 0, *factors), 8) + y.zero
    own = Multiplier.of(abs(float(x.scale * alpha / y.scale))).scale_away(values)
    upper = Multiplier.of(float(above)).scale_away(values)
    return np.where(values >= 0, upper, own if alpha > 0 else -own) + y.zero


def _relu(activation: str) -> Callable[[Operation, Codes, Codes], Integers | None]:
    """A node of its own is never XNNPACK's."""

    def fill(_operation: Operation, x: Codes, y: Codes) -> Integers | None:
        steps = Multiplier.of(float(x.scale / y.scale)).scale_away(x.all - x.zero)
        return np.clip(steps + y.zero, *y.tflite_range(activation))

    return fill


# HARD_SWISH: never XNNPACK's; fixed point of 16 bits. On Arm, vectors round in other ways.


def _hard_swish(operation: Operation) -> relax.Expr | None:
    ends = _ends(operation)
    if ends is None:
        return None
    x, y = ends
    fine = np.float32(1 / 128) * x.scale
    outer = _multiplier16(float(fine / y.scale))
    inner = _multiplier16(float(fine / (np.float32(3) / np.float32(32768))))
    if outer.shift > 0:
        return None
    exact = _swished(x, y, outer, inner, ties_up=False)
    if not operation.is_for_arm or operation.as_reference:
        return look_up(operation, operation.codes(0), ends, exact)
    table = _swished(x, y, outer, inner, ties_up=True)
    return look_up(operation, operation.codes(0), ends, table, exact, _SWISHED_AT_ONCE)


def _multiplier16(real: float) -> Multiplier:
    by = Multiplier.of(real)
    is_last = by.mantissa >= 2**31 - 1 - 2**15
    return replace(by, mantissa=2**15 - 1 if is_last else (by.mantissa + 2**15) >> 16)


def _saturated(values: Integers) -> Integers:
    return np.clip(values, -(2**15), 2**15 - 1)


def _swished(x: Codes, y: Codes, outer: Multiplier, inner: Multiplier, ties_up: bool) -> Integers:
    def product(values: Integers, by: Multiplier) -> Integers:
        return _saturated((values * by.mantissa + 2**14) >> 15)

    shift = shift_up if ties_up else shift_away
    values = (x.all - x.zero) << 7
    gate = _saturated(values << (inner.shift - 1)) if inner.shift > 0 else values
    gate = product(gate, inner)
    gate = _saturated(gate << 1) if inner.shift > 0 else shift(gate, -inner.shift)
    whole = ((gate + 2**15) >> 1) * product(values, outer)
    high = whole >> 15 if ties_up else np.where(whole >= 0, whole >> 15, -(-whole >> 15))
    return np.asarray(shift(high, -outer.shift) + y.zero)


# Codes of another scale


def recoded(operation: Operation) -> relax.Expr | None:
    """QUANTIZE of codes: XNNPACK's multiplier of 8 bits, or TFLite's between types."""
    ends = _ends(operation)
    if ends is None:
        return None
    x, y = ends
    ratio, values = x.scale / y.scale, x.all - x.zero
    if operation.as_xnnpack and x.dtype == y.dtype and 2.0**-8 <= ratio <= 2.0**7:
        factor = int(np.rint(np.float32(256) * ratio))
        table = shift_up(values * factor, 8) + y.zero
        return look_up(operation, operation.codes(0), ends, table)
    by = Multiplier.of(float(ratio))
    if operation.as_reference:
        table = by.scale_away(values) + y.zero
        return look_up(operation, operation.codes(0), ends, table)
    tables = by.scale_up(values) + y.zero, by.scale_away(values) + y.zero
    return look_up(operation, operation.codes(0), ends, *tables, _RECODED_AT_ONCE)


def _concatenation(operation: Operation) -> relax.Expr | None:
    """Of uint8 by other scales: TFLite's own kernel, in float32. LiteRT refuses such int8."""
    y, parts = Codes.of_output(operation), []
    if y is None or y.dtype != "uint8":
        return None
    inverse = np.float32(1) / y.scale
    for position in range(len(operation.inputs)):
        x, codes = Codes.of_input(operation, position), operation.codes(position)
        if x is None or x.dtype != y.dtype:
            return None
        if x != y:
            ratio = x.scale * inverse
            steps = x.all.astype(np.float32) * ratio + np.float32(-x.zero) * ratio
            table = round_away(steps) + y.zero
            codes = look_up(operation, codes, (x, y), table)
        parts.append(codes)
    axis = operation.axis(operation.options["axis"], len(operation.shape(0)))
    return relax.op.concat(parts, axis)


CONVERSIONS = {
    "CONCATENATION": _concatenation,
    "HARD_SWISH": _hard_swish,
    "LEAKY_RELU": _by_table(_leaky_relu),
    "LOGISTIC": _by_table(_logistic),
    "RELU": _by_table(_relu("relu")),
    "RELU6": _by_table(_relu("relu6")),
    "RELU_N1_TO_1": _by_table(_relu("relu_n1_to_1")),
}
