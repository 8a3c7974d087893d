"""Convolution in float64, a few output rows at a time, to measure errors against."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import tflite
from numpy.typing import NDArray

from schedules.errors import LeanconvError
from schedules.layer.workload import ACTIVATIONS, Conv2dWorkload
from schedules.target.simd import Simd
from scripts.benchmarks.harness.inference import max_difference
from tflite_delegate.targeted import read_for

Array = NDArray[np.float32]
Exact = NDArray[np.float64]

#: What one block of output rows takes at most, so that it stays in the cache.
BLOCK_BYTES = 1 << 20


def max_errors(
    workload: Conv2dWorkload,
    image: Array,
    weights: Array,
    bias: Array,
    outputs: Mapping[str, Array],
) -> dict[str, float]:
    """Largest absolute error of each of several outputs of one layer.

    Parameters
    ----------
    image : (N, H, W, C)
    weights : (M, K_h, K_w, C)
    bias : (M,)
    outputs : mapping of name to (N, H', W', M)

    Returns
    -------
    mapping of name to float
        Infinite where an output has a NaN.
    """
    errors = dict.fromkeys(outputs, 0.0)
    for rows, exact in blocks(workload, image, weights, bias):
        for name, output in outputs.items():
            errors[name] = max(errors[name], max_difference([output[:, rows]], [exact]))
    return errors


def blocks(
    workload: Conv2dWorkload, image: Array, weights: Array, bias: Array
) -> Iterator[tuple[slice, Exact]]:
    """Ranges of output rows, and the rows in float64: ``(N, rows, W', M)``."""
    w = workload
    padding = ((0, 0), (w.pad_top, w.pad_bottom), (w.pad_left, w.pad_right), (0, 0))
    padded = np.pad(image, padding)
    taps = weights.astype(np.float64).transpose(1, 2, 3, 0)
    count = max(1, BLOCK_BYTES // (w.batch * w.out_width * w.out_channels * 8))
    span = (w.out_width - 1) * w.stride_width + 1
    least, most = ACTIVATIONS[w.activation]
    for first in range(0, w.out_height, count):
        last = min(first + count, w.out_height)
        total = np.tile(bias.astype(np.float64), (w.batch, last - first, w.out_width, 1))
        for kh in range(w.kernel_height):
            top = first * w.stride_height + kh * w.dilation_height
            bottom = top + (last - first - 1) * w.stride_height + 1
            rows = padded[:, top : bottom : w.stride_height].astype(np.float64)
            for kw in range(w.kernel_width):
                left = kw * w.dilation_width
                total += rows[:, :, left : left + span : w.stride_width] @ taps[kh, kw]
        if (least, most) != (None, None):
            np.clip(total, least, most, out=total)
        yield slice(first, last), total


def constant(path: Path, operator: int, position: int) -> Array:
    """A float32 constant among the inputs of an operator of a model that was read before."""
    model = tflite.Model.GetRootAs(path.read_bytes(), 0)
    graph = model.Subgraphs(0)
    tensor = graph.Tensors(graph.Operators(operator).Inputs(position))
    if tensor.Type() != tflite.TensorType.FLOAT32:
        raise LeanconvError(f"{path}, node {operator}: weights of float32 are needed")
    values: Array = model.Buffers(tensor.Buffer()).DataAsNumpy().view(np.float32)
    return values.reshape(tensor.ShapeAsNumpy())


def single_convolution(path: Path) -> tuple[Conv2dWorkload, Array, Array]:
    """Workload, weights (M, K_h, K_w, C) and bias (M,) of a model of one convolution."""
    weights, bias = (constant(path, 0, position) for position in (1, 2))
    return layer_of(path), weights, bias


def layer_of(path: Path) -> Conv2dWorkload:
    """The only layer of a model, as it is computed here."""
    (layer,) = read_for(path, Simd.named("host")).layers
    assert layer.workload is not None, "convolutions are all that is made here"
    return layer.workload
