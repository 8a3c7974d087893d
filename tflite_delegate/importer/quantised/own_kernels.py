"""ADD, SUB, MUL, MEAN and conversions of codes as TFLite's own kernels compute them.

Those for a processor compute the elements that fill their vectors in another way than the rest; the
reference kernels have no vectors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tvm import relax, te, tirx

from schedules.kernel.quantised.fixed_point import Multiplier
from schedules.lower.exact import away, rounded
from tflite_delegate.importer.conversions.operation import Operation
from tflite_delegate.importer.quantised.codes import Codes, clamped, integer, nearest, real

#: Bits behind the point of sums.
_LEFT = 20
#: Elements of the vectors of sums and products, by type; and of other loops.
_ARITHMETIC = {"int8": 16, "uint8": 8}
_CONVERTED, _AVERAGED = 8, 16


def _flat(index: Sequence[Any], shape: Sequence[int]) -> Any:
    """The number of an element in the order of memory."""
    place: Any = tirx.const(0, "int32")
    for axis, extent in zip(index, shape, strict=True):
        place = place * extent + axis
    return place


# Two operands


def arithmetic(
    operation: Operation,
    codes: tuple[Codes, Codes, Codes],
    function: Callable[[Any, Any, bool], Any],
    has_vectors: bool = True,
) -> relax.Expr:
    """``function`` of both operands less their zero points, and of whether it is in a vector.

    What it gives are steps from the output's zero point on, of 64 bits.
    """
    a, b, y = codes
    exprs = operation.codes(0), operation.codes(1)
    shapes = operation.shape_of(exprs[0]), operation.shape_of(exprs[1])
    out = np.broadcast_shapes(*shapes)
    row = _row(*shapes) if has_vectors and not operation.as_reference else 0
    vector = _ARITHMETIC[y.dtype]
    whole = row - row % vector
    low, high = y.clamp(operation, as_xnnpack=False)

    def own(tensor: te.Tensor, codes: Codes, index: Sequence[Any]) -> Any:
        places = zip(index[len(index) - len(tensor.shape) :], tensor.shape, strict=True)
        value = tensor[tuple(0 if int(size) == 1 else i for i, size in places)]
        return integer(value, 64) - codes.zero

    def element(first: Any, second: Any, in_vector: bool) -> Any:
        value = function(first, second, in_vector) + y.zero
        if in_vector:
            value = _wrapped16(value)
        bounded = tirx.max(tirx.min(value, _wide(y.most)), _wide(y.least))
        return clamped(bounded, (low, high), y.dtype)

    def compute(first: te.Tensor, second: te.Tensor) -> te.Tensor:
        def at(*index: Any) -> Any:
            values = own(first, a, index), own(second, b, index)
            if not whole:
                return element(*values, False)
            is_whole = _flat(index, out) % row < whole
            return tirx.Select(is_whole, element(*values, True), element(*values, False))

        return te.compute(out, at, name="code")

    return operation.compute(compute, *exprs)


def _row(a: Sequence[int], b: Sequence[int]) -> int:
    """Elements that TFLite's vectors run along at once; 0 where it has none.

    It goes through the operands in five loops, as long as each is stretched along one run of axes
    at most.
    """
    rank = max(len(a), len(b))
    sizes = [((1,) * (rank - len(shape)) + tuple(shape)) for shape in (a, b)]
    runs: list[tuple[tuple[bool, bool], int]] = []
    for first, second in zip(*sizes, strict=True):
        extent, moves = max(first, second), (first > 1, second > 1)
        if extent == 1:
            continue
        if runs and runs[-1][0] == moves:
            runs[-1] = moves, runs[-1][1] * extent
        else:
            runs.append((moves, extent))
    stretched = (sum(not moves[operand] for moves, _ in runs) for operand in range(2))
    return (runs[-1][1] if runs else 1) if max(stretched) <= 1 else 0


def _wide(value: int) -> Any:
    return tirx.const(value, "int64")


def _wrapped16(value: Any) -> Any:
    return tirx.Cast("int64", tirx.Cast("int16", value))


def total(operation: Operation, codes: tuple[Codes, Codes, Codes]) -> relax.Expr:
    """A sum: operands in the larger scale, with bits behind the point."""
    a, b, y = codes
    twice = np.float32(2) * max(a.scale, b.scale)
    by = [Multiplier.of(float(own.scale) / float(twice)) for own in (a, b)]
    whole = Multiplier.of(float(twice) / float(np.float32(1 << _LEFT) * y.scale))
    subtracts = operation.name == "SUB"

    def function(first: Any, second: Any, in_vector: bool) -> Any:
        parts = []
        for value, factor in zip((first, second), by, strict=True):
            wide = value * (1 << _LEFT)
            if in_vector:
                shifted = wide >> max(-factor.shift, 0)
                parts.append((shifted * factor.mantissa + (1 << 30)) >> 31)
            else:
                parts.append(factor.scale_away(wide))
        both = parts[0] - parts[1] if subtracts else parts[0] + parts[1]
        steps = whole.scale_away(both)
        return _wrapped16(steps) if in_vector else steps

    return arithmetic(operation, codes, function, has_vectors=not subtracts)


def product(operation: Operation, codes: tuple[Codes, Codes, Codes]) -> relax.Expr:
    """A product, rounded twice."""
    a, b, y = codes
    by = Multiplier.of(float(a.scale * b.scale / y.scale))

    def function(first: Any, second: Any, in_vector: bool) -> Any:
        steps = by.scale_away(first * second)
        if in_vector:
            steps = tirx.max(tirx.min(steps, _wide(2**15 - 1)), _wide(-(2**15)))
        return steps

    return arithmetic(operation, codes, function)


# Means


def mean_of(
    operation: Operation, ends: tuple[Codes, Codes], count: int, axes: Sequence[int]
) -> Callable[[Any, Any, int], Any]:
    """The code of a sum of ``count`` codes, of its place along the last axis, and its channels."""
    x, y = ends
    is_image = operation.options["keepDims"] and list(axes) == [1, 2]
    if len(operation.shape(0)) == 4 and is_image and not operation.as_reference:
        number = np.float32(count)
        by = Multiplier.of(float(x.scale / (number * y.scale)))
        zero = np.float32(x.zero) * x.scale / y.scale
        bias = y.zero - int(zero + np.float32(0.5 if zero > 0 else -0.5))

        def code(total: Any, channel: Any, channels: int) -> Any:
            whole = channels - channels % _AVERAGED
            steps = tirx.Select(channel < whole, by.scale_up(total), by.scale_away(total))
            return steps + bias

        return code
    by = Multiplier.of(float(x.scale) / float(y.scale))
    shift = min(count.bit_length() - 1, 31 + by.shift)
    by = Multiplier((by.mantissa << shift) // count, by.shift - shift)
    return lambda total, _channel, _channels: by.scale_away(total - x.zero * count) + y.zero


# Conversions


def quantize(operation: Operation, y: Codes) -> relax.Expr:
    """Numbers as codes: by the inverse of the scale, ties to even; the rest in double precision.

    The reference kernels divide in float32. Both have ties go away from zero.
    """
    least, most = (real(code - y.zero) for code in (y.least, y.most))
    inverse = real(np.float32(1) / y.scale)

    def compute(x: te.Tensor) -> te.Tensor:
        shape = [int(size) for size in x.shape]
        size = math.prod(shape)
        whole = size - size % _CONVERTED

        def bounded(steps: Any, wide: bool = False) -> Any:
            ends = (tirx.Cast("float64", end) if wide else end for end in (most, least))
            return tirx.max(tirx.min(steps, next(ends)), next(ends))

        def code(*index: Any) -> Any:
            if operation.as_reference:
                steps = tirx.Cast("int32", away(bounded(rounded(x[index] / real(y.scale)))))
            else:
                in_vector = nearest(bounded(rounded(x[index] * inverse)))
                exact = tirx.Cast("float64", x[index]) / tirx.const(float(y.scale), "float64")
                rest = tirx.Cast("int32", bounded(away(exact), wide=True))
                steps = tirx.Select(_flat(index, shape) < whole, in_vector, rest)
            return clamped(steps + y.zero, (y.least, y.most), y.dtype)

        return te.compute(x.shape, code, name="code")

    return operation.compute(compute, operation.codes(0))


def dequantize(operation: Operation, x: Codes) -> relax.Expr:
    """Codes as numbers: in vectors, the zero point's product is added to the code's."""
    offset, scale = real(np.float32(-x.zero * float(x.scale))), real(x.scale)

    def compute(codes: te.Tensor) -> te.Tensor:
        shape = [int(size) for size in codes.shape]
        size = math.prod(shape)
        whole = size - size % _CONVERTED

        def number(*index: Any) -> Any:
            code = integer(codes[index])
            if operation.is_for_arm:
                name = "llvm.fma.f32"
                in_two = tirx.call_llvm_pure_intrin("float32", name, real(code), scale, offset)
            else:
                in_two = rounded(real(code) * scale) + offset
            rest = real(code - x.zero) * scale
            return tirx.Select(_flat(index, shape) < whole, in_two, rest)

        return te.compute(codes.shape, number, name="number")

    return operation.compute(compute, operation.codes(0))
