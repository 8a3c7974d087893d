"""Pooling, means and resizing of codes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import relax, te, tirx

from schedules.errors import LeanconvError
from tflite_delegate.importer.conversions.operation import Operation
from tflite_delegate.importer.conversions.windows import resized_axes, same_padding
from tflite_delegate.importer.quantised import own_kernels
from tflite_delegate.importer.quantised.codes import Codes, clamped, integer, nearest, real

#: Bits behind the point of shares of neighbours: XNNPACK's, and those of TFLite's own kernel.
_SHARE_BITS, _OWN_SHARE_BITS = 11, 10


def _of_one_scale(operation: Operation) -> Codes | None:
    """The codes of both input and output."""
    x, y = Codes.of_input(operation), Codes.of_output(operation)
    return y if x == y else None


# Pooling


def _average_pool(operation: Operation) -> relax.Expr | None:
    """TFLite's own kernel: padding is not counted, ties go away from zero."""
    codes = _of_one_scale(operation)
    if codes is None:
        return None
    options, (batch, height, width, channels) = operation.options, operation.shape(0)
    window = options["filterHeight"], options["filterWidth"]
    strides = options["strideH"], options["strideW"]
    pads = same_padding(operation, (height, width), window)
    out = [
        (size + pads[axis] + pads[axis + 2] - reach) // stride + 1
        for axis, (size, reach, stride) in enumerate(
            zip((height, width), window, strides, strict=True)
        )
    ]
    bounds = codes.clamp(operation, as_xnnpack=False)

    def compute(x: te.Tensor) -> te.Tensor:
        rows, columns = (te.reduce_axis((0, reach)) for reach in window)

        def inside(n: Any, h: Any, w: Any, c: Any) -> Any:
            row, column = h * strides[0] + rows - pads[0], w * strides[1] + columns - pads[1]
            value = integer(x[n, row, column, c])
            if not any(pads):
                return value
            is_inside = tirx.all(row >= 0, row < height, column >= 0, column < width)
            return tirx.if_then_else(is_inside, value, 0)

        sums = te.compute(
            (batch, *out, channels),
            lambda *index: te.sum(inside(*index), axis=[rows, columns]),
            name="sums",
        )

        def average(n: Any, h: Any, w: Any, c: Any) -> Any:
            count: Any = 1
            for axis, place in enumerate((h, w)):
                size, first = (height, width)[axis], place * strides[axis] - pads[axis]
                behind = first + window[axis]
                if pads[axis] or pads[axis + 2]:
                    behind, first = tirx.min(behind, size), tirx.max(first, 0)
                    count = integer(behind - first) * count
                else:
                    count = window[axis] * count
            total, half = sums[n, h, w, c], count // 2
            return clamped(
                tirx.truncdiv(total + tirx.Select(total > 0, half, -half), _int32(count)),
                bounds,
                codes.dtype,
            )

        return te.compute((batch, *out, channels), average, name="average")

    return operation.compute(compute, operation.codes(0))


def _int32(value: Any) -> Any:
    return value if isinstance(value, tirx.Expr) else tirx.const(value, "int32")


def _mean(operation: Operation) -> relax.Expr | None:
    """XNNPACK's: in float32, over neighbouring axes; or those of TFLite's own kernels."""
    x, y = Codes.of_input(operation), Codes.of_output(operation)
    if x is None or y is None or x.dtype != y.dtype:
        return None
    shape = operation.shape(0)
    axes = sorted({operation.axis(axis, len(shape)) for axis in operation.integers(1, "axes")})
    if not axes or axes != list(range(axes[0], axes[-1] + 1)):
        return None
    keeps = operation.options["keepDims"]
    kept = [axis for axis in range(len(shape)) if axis not in axes]
    out = [1 if axis in axes else size for axis, size in enumerate(shape)]
    out = out if keeps else [shape[axis] for axis in kept]
    count = int(np.prod([shape[axis] for axis in axes]))
    own_code = own_kernels.mean_of(operation, (x, y), count, axes)
    scale = x.scale / y.scale * (np.float32(1) / np.float32(count))
    zeros = np.float32(count * x.zero)

    def compute(codes: te.Tensor) -> te.Tensor:
        averaged = [te.reduce_axis((0, shape[axis])) for axis in axes]

        def code(*index: Any) -> Any:
            own = [index[axis] for axis in kept] if keeps else index
            places: list[Any] = [None] * len(shape)
            for axis, place in zip([*kept, *axes], [*own, *averaged], strict=True):
                places[axis] = place
            return integer(codes[tuple(places)])

        sums = te.compute(out, lambda *index: te.sum(code(*index), axis=averaged), name="sums")

        def mean(*index: Any) -> Any:
            if not operation.as_xnnpack:
                code = own_code(integer(sums[index], 64), index[-1], shape[-1])
                return clamped(code, (y.least, y.most), y.dtype)
            steps = _affine(operation.is_for_arm, sums[index], scale, zeros, y.zero)
            within = tirx.max(tirx.min(steps, real(y.most)), real(y.least))
            return clamped(nearest(within), (y.least, y.most), y.dtype)

        return te.compute(out, mean, name="mean")

    return operation.compute(compute, operation.codes(0))


def _affine(is_for_arm: bool, total: Any, scale: Any, zeros: Any, zero: int) -> Any:
    """``total scale + (zero - zeros scale)``, fused on Arm; elsewhere each step is rounded."""
    if is_for_arm:
        exact = float(zero) - float(zeros) * float(scale)
        name = "llvm.fma.f32"
        return tirx.call_llvm_pure_intrin(
            "float32", name, real(total), real(scale), real(np.float32(exact))
        )
    # LLVM fuses products of float32 with sums, but not where they are rounded to float32.
    product = tirx.Cast("float64", total) * tirx.const(float(scale), "float64")
    return tirx.Cast("float32", product) + real(np.float32(zero) - zeros * scale)


# Resizing


def _resize_bilinear(operation: Operation) -> relax.Expr | None:
    """XNNPACK's, whose ties go up; or TFLite's own for int8, whose ties go away from zero."""
    codes = _of_one_scale(operation)
    if codes is None:
        return None
    as_xnnpack = operation.as_xnnpack
    if not as_xnnpack and codes.dtype != "int8":
        raise LeanconvError(f"modules do not have it of uint8 by --rounding {operation.rounding}")
    (batch, _, _, channels), axes = operation.shape(0), resized_axes(operation)
    find = _places if as_xnnpack else _own_places
    places = [find(operation, size, wanted) for _, size, wanted in axes]
    tables = [relax.const(values) for axis in places for values in axis]
    digits = _SHARE_BITS if as_xnnpack else _OWN_SHARE_BITS
    half = 1 << (2 * digits - 1)

    def compute(x: te.Tensor, *tables: te.Tensor) -> te.Tensor:
        def pixel(n: Any, h: Any, w: Any, c: Any) -> Any:
            def mixed(row: Any) -> Any:
                first, second = (integer(x[n, row, tables[3 + k][w], c]) for k in range(2))
                return (first << digits) + (second - first) * tables[5][w]

            above, below = (mixed(tables[k][h]) for k in range(2))
            total = (above << digits) + (below - above) * tables[2][h]
            rounded = (total + half) >> (2 * digits)
            if not as_xnnpack:
                rounded = tirx.Select(total < 0, -((half - total) >> (2 * digits)), rounded)
            return tirx.Cast(codes.dtype, rounded)

        return te.compute((batch, axes[0][2], axes[1][2], channels), pixel, name="pixel")

    return operation.compute(compute, operation.codes(0), *tables)


def _places(operation: Operation, size: int, wanted: int) -> Sequence[NDArray[np.int32]]:
    """For each place of the output: two neighbours, and the share of the second."""
    options = operation.options
    skipped = int(options["alignCorners"] and wanted > 1)
    scale = np.float32(size - skipped) / np.float32(wanted - skipped)
    exact = np.arange(wanted, dtype=np.float32) * scale
    if options["halfPixelCenters"]:
        exact = exact + (np.float32(0.5) * scale - np.float32(0.5))
    exact = np.clip(exact, np.float32(0), np.float32(size - 1))
    lower = exact.astype(np.int32)
    shares = np.rint((exact - lower.astype(np.float32)) * np.float32(1 << _SHARE_BITS))
    return lower, np.minimum(lower + 1, size - 1).astype(np.int32), shares.astype(np.int32)


def _own_places(operation: Operation, size: int, wanted: int) -> Sequence[NDArray[np.int32]]:
    """The same of TFLite's own kernel: positions are whole multiples of a share."""
    options, one = operation.options, 1 << _OWN_SHARE_BITS
    scale = (one * size + wanted // 2) // wanted
    if options["alignCorners"] and wanted > 1:
        scale = (one * (size - 1) + (wanted - 1) // 2) // (wanted - 1)
    positions = np.arange(wanted, dtype=np.int64) * scale
    if options["halfPixelCenters"]:
        positions = positions + scale // 2 - one // 2
    # Those before the first pixel are between it and itself.
    lower = np.clip(positions // one, 0, size - 1)
    upper = np.minimum(-(-positions // one), size - 1).clip(0)
    return tuple(v.astype(np.int32) for v in (lower, upper, positions - one * lower))


CONVERSIONS = {
    "AVERAGE_POOL_2D": _average_pool,
    "MEAN": _mean,
    "RESIZE_BILINEAR": _resize_bilinear,
}
