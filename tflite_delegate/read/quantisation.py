"""The types of a layer's tensors, and what the codes of quantised ones stand for.

A layer of int8 or uint8 is one whose input, weights and output are of that type, with one zero
point and scale of the input and of the output, and a bias of int32: what XNNPACK computes too
(csrc/layer/quantised_layer.c). Weights of int8 have zero point 0 and one scale or one for each
output channel, those of uint8 one zero point and scale. Scales and zero points are data of the
model, and none of its kernels depends on them.
"""

from __future__ import annotations

import numpy as np

from schedules.errors import LeanconvError
from schedules.layer.words import pairs_overflow
from schedules.layer.workload import Conv2dWorkload
from tflite_delegate.read.graph import Graph

#: Types of image and weights.
TYPES = ("int8", "uint8")
#: The rule by which layers are read: XNNPACK's on x86, until a target is known
#: (:func:`tflite_delegate.rules.with_rules`).
READ_ROUNDING = "xnn_fp32"
#: Ratios of scales from which on XNNPACK refuses a layer.
MOST_RATIO = 256.0


def check_scales(graph: Graph, weights: int, axis: int) -> None:
    """Refuse a hybrid layer whose weights no kernel multiplies; raises LeanconvError."""
    _scales(graph, weights, graph.shape(weights)[axis], axis)
    if any(_zero_points(graph, weights)):
        raise LeanconvError("int8 weights with a zero point other than 0: not supported")


def has_one_scale(graph: Graph, weights: int, axis: int) -> bool:
    """Whether all channels of a layer's weights have the same; raises LeanconvError as above."""
    scales = _scales(graph, weights, graph.shape(weights)[axis], axis)
    return bool((scales == scales[0]).all())


def check_quantisation(graph: Graph, x: int, weights: int, y: int, axis: int) -> None:
    """Refuse a layer of integers that no kernel computes; raises LeanconvError.

    ``axis`` is that of the output channels among the weights' axes.
    """
    input_scales, output_scales = (_scales(graph, tensor, 1, 0) for tensor in (x, y))
    is_unsigned = graph.tensor(weights).type == "uint8"
    channels = 1 if is_unsigned else graph.shape(weights)[axis]
    scales = _scales(graph, weights, channels, axis)
    if not is_unsigned and any(_zero_points(graph, weights)):
        raise LeanconvError("int8 weights with a zero point other than 0: not supported")
    if (input_scales * scales / output_scales >= np.float32(MOST_RATIO)).any():
        raise LeanconvError("the scales of input and weights are too large for the output's")


def overflows_pairs(graph: Graph, weights: int, workload: Conv2dWorkload) -> bool:
    """Whether sums of pairs of products may pass 16 bits; false if there are no weights."""
    data = graph.model.Buffers(graph.graph.Tensors(weights).Buffer()).DataAsNumpy()
    if not isinstance(data, np.ndarray):
        return False
    return pairs_overflow(data.view(graph.tensor(weights).type), workload)


def _scales(graph: Graph, tensor: int, channels: int, axis: int) -> np.ndarray:
    quantisation = graph.graph.Tensors(tensor).Quantization()
    count = 0 if quantisation is None else quantisation.ScaleLength()
    if count not in (1, channels) or quantisation.ZeroPointLength() not in (1, count):
        raise LeanconvError(f"tensor {tensor} of integers has no scale and zero point")
    scales = np.array([quantisation.Scale(i) for i in range(count)], np.float32)
    if not (np.isfinite(scales) & (scales > 0)).all():
        raise LeanconvError(f"tensor {tensor} has a scale that is no positive number")
    if count > 1 and quantisation.QuantizedDimension() != axis:
        raise LeanconvError(f"tensor {tensor} has scales along another axis than its channels")
    return scales


def _zero_points(graph: Graph, tensor: int) -> list[int]:
    quantisation = graph.graph.Tensors(tensor).Quantization()
    return [quantisation.ZeroPoint(i) for i in range(quantisation.ZeroPointLength())]
