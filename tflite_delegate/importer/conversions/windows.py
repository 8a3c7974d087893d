"""Operators that look at windows of an image: pooling, normalisation and resizing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from tvm import relax

from schedules.errors import LeanconvError
from tflite_delegate.importer.conversions.operation import Operation


def same_padding(
    operation: Operation, sizes: Sequence[int], window: Sequence[int], axes: str = "HW"
) -> list[int]:
    """What TFLite puts around the image: top, left, bottom, right; around a volume likewise.

    ``window`` is how far a window reaches along the ``axes``, dilation included.
    """
    strides = tuple(operation.options[f"stride{axis}"] for axis in axes)
    if min(strides) < 1 or min(window) < 1:
        raise LeanconvError(f"strides of {strides} and a window of {window}")
    if operation.options["padding"] == 1:  # VALID
        if any(reach > size for size, reach in zip(sizes, window, strict=True)):
            raise LeanconvError(f"a window of {window} over an image of {sizes}")
        return [0] * (2 * len(axes))
    totals = [
        max(0, (-(-size // stride) - 1) * stride + reach - size)
        for size, stride, reach in zip(sizes, strides, window, strict=True)
    ]
    before = [total // 2 for total in totals]
    return [*before, *(total - first for total, first in zip(totals, before, strict=True))]


def _pool(operation: Operation, function: Callable[..., relax.Expr], x: relax.Expr) -> relax.Expr:
    options, (_, height, width, _) = operation.options, operation.shape(0)
    window = options["filterHeight"], options["filterWidth"]
    padding = same_padding(operation, (height, width), window)
    return function(
        x,
        pool_size=window,
        strides=(options["strideH"], options["strideW"]),
        padding=padding,
        layout="NHWC",
    )


def _max_pool(operation: Operation) -> relax.Expr:
    return _pool(operation, relax.op.nn.max_pool2d, operation.value(0))


def _average_pool(operation: Operation) -> relax.Expr:
    """Averages do not count the padding."""
    return _pool(operation, relax.op.nn.avg_pool2d, operation.value(0))


def _l2_pool(operation: Operation) -> relax.Expr:
    x = operation.value(0)
    squares = operation.emit(relax.op.multiply(x, x))
    return relax.op.sqrt(_pool(operation, relax.op.nn.avg_pool2d, squares))


def _l2_normalization(operation: Operation) -> relax.Expr:
    x = operation.value(0)
    norm = relax.op.sqrt(relax.op.sum(relax.op.multiply(x, x), -1, keepdims=True))
    least = relax.const(1e-6, "float32")
    return relax.op.divide(x, relax.op.maximum(norm, least))


def _local_response_normalization(operation: Operation) -> relax.Expr:
    """Divided by a power of the sum of squares over ``radius`` channels to either side."""
    options, x, shape = operation.options, operation.value(0), operation.shape(0)
    places = np.arange(shape[-1])
    near = np.abs(places[:, None] - places) <= options["radius"]
    squares = operation.emit(relax.op.multiply(x, x))
    sums = relax.op.matmul(squares, relax.const(near.astype(np.float32)))
    base = relax.op.add(
        relax.op.multiply(sums, relax.const(options["alpha"], "float32")),
        relax.const(options["bias"], "float32"),
    )
    factor = relax.op.power(base, relax.const(-options["beta"], "float32"))
    return relax.op.multiply(x, factor)


# Resizing: TFLite's formulas, in float32 as it computes them.


def _scale(operation: Operation, size: int, wanted: int) -> np.float32:
    if operation.options["alignCorners"] and wanted > 1:
        return np.float32(size - 1) / np.float32(wanted - 1)
    return np.float32(size) / np.float32(wanted)


def resized_axes(operation: Operation) -> list[tuple[int, int, int]]:
    """Axis, size and wanted size of height and width."""
    if operation.options["alignCorners"] and operation.options["halfPixelCenters"]:
        raise LeanconvError("alignCorners and halfPixelCenters exclude each other")
    wanted = operation.integers(1, "sizes")
    if len(wanted) != 2 or min(wanted) < 1:
        raise LeanconvError(f"a size of {wanted}")
    return list(zip((1, 2), operation.shape(0)[1:3], wanted, strict=True))


def _take(operation: Operation, x: relax.Expr, places: NDArray[np.int32], axis: int) -> relax.Expr:
    return relax.op.take(x, relax.const(places.astype(np.int32)), axis, mode="clip")


def _resize_nearest(operation: Operation) -> relax.Expr:
    x, options = operation.codes(0), operation.options
    for axis, size, wanted in resized_axes(operation):
        offset = np.float32(0.5 if options["halfPixelCenters"] else 0)
        exact = (np.arange(wanted, dtype=np.float32) + offset) * _scale(operation, size, wanted)
        places = np.floor(exact + np.float32(0.5)) if options["alignCorners"] else np.floor(exact)
        places = np.clip(places, 0, size - 1).astype(np.int32)
        x = operation.emit(_take(operation, x, places, axis))
    return x


def _resize_bilinear(operation: Operation) -> relax.Expr:
    x, options = operation.value(0), operation.options
    for axis, size, wanted in resized_axes(operation):
        places = np.arange(wanted, dtype=np.float32)
        scale = _scale(operation, size, wanted)
        exact = places * scale
        if options["halfPixelCenters"]:
            exact = (places + np.float32(0.5)) * scale - np.float32(0.5)
        below = np.maximum(np.floor(exact), 0).astype(np.int32)
        above = np.clip(np.ceil(exact), 0, size - 1).astype(np.int32)
        below = np.minimum(below, size - 1)
        weight = (exact - below).reshape([-1 if i == axis else 1 for i in range(4)])
        first, second = (_take(operation, x, where, axis) for where in (below, above))
        x = operation.emit(
            relax.op.add(
                relax.op.multiply(first, relax.const(np.float32(1) - weight)),
                relax.op.multiply(second, relax.const(weight)),
            )
        )
    return x


ON_VALUES = {
    "AVERAGE_POOL_2D": _average_pool,
    "L2_NORMALIZATION": _l2_normalization,
    "L2_POOL_2D": _l2_pool,
    "LOCAL_RESPONSE_NORMALIZATION": _local_response_normalization,
    "MAX_POOL_2D": _max_pool,
    "RESIZE_BILINEAR": _resize_bilinear,
}
ON_CODES = {"RESIZE_NEAREST_NEIGHBOR": _resize_nearest}
