"""How the layers of a model are quantised, as kernels read it."""

from __future__ import annotations

import numpy as np

from schedules.kernel.hybrid.scales import ChannelScales
from schedules.kernel.quantised.quantisation import Quantisation
from schedules.layer.network import Layer
from tflite_delegate.read.graph import Graph

#: Scales of the weights, one or one for each output channel, and their zero point.
WeightCodes = tuple[np.ndarray, int]


def quantisation_of(graph: Graph, layer: Layer) -> Quantisation | ChannelScales | None:
    """What a layer's kernel computes with beside weights and bias; ``None`` if these are floats.

    Its tensors are known to have scales and zero points as kernels need them.
    """
    workload, node = layer.workload, graph.nodes[layer.index]
    x, weights, y = node.inputs[0], node.inputs[1], node.outputs[0]
    assert workload is not None and x is not None and weights is not None and y is not None
    if workload.weight_dtype not in ("int8", "uint8"):
        return None
    scales, zero = weight_codes(graph, weights)
    if workload.dtype == "float32":
        return ChannelScales(np.broadcast_to(scales, workload.out_channels))
    output = _codes(graph, y)
    own = Quantisation.of(workload, (scales, zero), _codes(graph, x), output, layer.kind)
    if not workload.residual:
        return own
    assert layer.residual is not None and layer.output is not None
    ends = (_codes(graph, tensor) for tensor in (layer.residual, layer.output))
    return own.with_sum(workload, output[0], *ends)


def weight_codes(graph: Graph, tensor: int) -> WeightCodes:
    """Those of the weights that a node reads, as the model has them."""
    codes = graph.graph.Tensors(graph.dequantized_by(tensor)).Quantization()
    assert codes is not None, "weights of a quantised layer have scales"
    return codes.ScaleAsNumpy().astype(np.float32), int(codes.ZeroPoint(0))


def _codes(graph: Graph, tensor: int) -> tuple[float, int]:
    found = graph.codes_of(tensor)
    assert found is not None, "tensors of a quantised layer have one scale and zero point"
    return found[:2]
