"""Convolutions in numpy that round to float32 where the kernels do: bit by bit the same results.

Sums over products are running sums of fused multiply-adds, and the transforms of Winograd's
algorithm are evaluated from the very expressions that the kernels are compiled from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm import tirx

from schedules.algorithms.winograd import linear
from schedules.transforms.cook_toom import ExactMatrix, Filtering, as_floats

Array = NDArray[np.float32]


def fused(a: Array, b: Array, c: Array) -> Array:
    """``a * b + c``, rounded once.

    The product is exact in float64 and the sum is good to 53 bits: rounding those to 24 bits gives
    another result than rounding the exact sum in one of some 2^29 cases.
    """
    return (np.multiply(a, b, dtype=np.float64) + c).astype(np.float32)


def evaluate(expression: Any, values: Mapping[str, Array]) -> Array:
    """A scalar expression, on whole arrays at once: one for the name of every variable."""

    def value(node: Any) -> Array:
        match node:
            case tirx.Var():
                return values[node.name]
            case tirx.FloatImm():
                return np.asarray(node.value, np.float32)
            case tirx.Add():
                return value(node.a) + value(node.b)
            case tirx.Sub():
                return value(node.a) - value(node.b)
            case tirx.Mul():
                return value(node.a) * value(node.b)
            case tvm.ir.Call() if node.op.name == "tirx.fma":
                return fused(*map(value, node.args))
        raise TypeError(f"no arithmetic: {type(node).__name__} {node}")

    return value(expression)


def multiply(matrix: ExactMatrix, values: Sequence[Array]) -> list[Array]:
    """``matrix @ values`` as :func:`schedules.algorithms.winograd.linear.multiply` writes it."""
    named = {f"x{i}": value for i, value in enumerate(values)}
    return [evaluate(row, named) for row in _rows(matrix)]


@cache
def _rows(matrix: ExactMatrix) -> list[Any]:
    variables = [tirx.Var(f"x{i}", "float32") for i in range(len(matrix[0]))]
    return linear.multiply(matrix, variables, "float32")


def transform(matrix: ExactMatrix, values: Array) -> Array:
    """``matrix @ values @ matrix^T`` over the first two axes, the first of them first."""
    rows = multiply(matrix, list(values))
    return np.array([multiply(matrix, list(row)) for row in rows])


def direct(image: Array, weights: Array) -> Array:
    """The definition: ``(H, W, C)`` and ``(M, r, r, C)`` to ``(H - r + 1, W - r + 1, M)``."""
    taps = weights.shape[1]
    height, width = (size - taps + 1 for size in image.shape[:2])
    total = np.zeros((height, width, len(weights)), np.float32)
    for kh, kw, c in np.ndindex(weights.shape[1:]):
        pixels = image[kh : kh + height, kw : kw + width, c, None]
        total = fused(pixels, weights[:, kh, kw, c], total)
    return total


def winograd(image: Array, weights: Array, form: Filtering, block: int | None = None) -> Array:
    """The same, in tiles of ``m x m`` outputs from ``n x n`` pixels.

    ``block`` channels are summed before they are added to the sum of those before; all by default.
    """
    m, n = form.outputs, form.inputs
    height, width = (size - form.taps + 1 for size in image.shape[:2])
    down, across = -(-height // m), -(-width // m)
    beyond = [(0, count * m - size) for count, size in ((down, height), (across, width))]
    padded = np.pad(image, (*beyond, (0, 0)))
    tiles = np.lib.stride_tricks.sliding_window_view(padded, (n, n), axis=(0, 1))[::m, ::m]
    pixels = tiles.transpose(3, 4, 0, 1, 2).reshape(n, n, down * across, -1)
    transformed = transform(form.image, pixels)
    kernel = as_floats(form.kernel)
    exact = np.einsum("ai,mijc,bj->abcm", kernel, weights.astype(np.float64), kernel)
    points = exact.astype(np.float32)
    products = np.zeros((n, n, down * across, len(weights)), np.float32)
    channels = range(image.shape[2])
    for first in channels[:: block or len(channels)]:
        sums = np.zeros_like(products)
        for c in channels[first:][: block or len(channels)]:
            sums = fused(transformed[..., c, None], points[:, :, None, c], sums)
        products += sums
    outputs = transform(form.output, products).reshape(m, m, down, across, -1)
    whole = outputs.transpose(2, 0, 3, 1, 4).reshape(down * m, across * m, -1)
    return whole[:height, :width]
