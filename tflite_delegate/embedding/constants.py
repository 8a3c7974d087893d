"""Weights and biases of a model's layers, as it stores them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import tflite

from schedules.kernel.hybrid.scales import ChannelScales
from schedules.kernel.quantised.quantisation import Quantisation
from schedules.layer.network import DENSE, DEPTHWISE, Layer
from tflite_delegate.embedding.codes import quantisation_of, weight_codes
from tflite_delegate.read.graph import Graph
from tflite_delegate.read.model import Model, opened


@dataclass(frozen=True)
class LayerConstants:
    """Of one layer: ``stored`` are its weights as the file has them.

    ``weights`` are the same in the order of the layouts, ``[M][K_h][K_w][C]``, C those of a group;
    ``bias`` of shape (M,) are zeros where the model has none: int32 of a layer of integers, else
    float32. ``quantisation`` is that of weights of int8 or uint8. ``exact`` is what else tells
    whether a model has the same: biases of integers, which are packed less sums of weights, and
    scales of weights that stand for floats.
    """

    stored: np.ndarray
    weights: np.ndarray
    bias: np.ndarray
    quantisation: Quantisation | ChannelScales | None
    exact: tuple[np.ndarray, ...]

    def of_filters(self, count: int) -> LayerConstants:
        """Those of so many filters: all that are not zero, and the first of the others."""
        if count == len(self.bias):
            return self
        is_zero = ~self.weights.reshape(len(self.bias), -1).any(axis=1)
        is_filler = is_zero & (np.cumsum(is_zero) <= count - np.sum(~is_zero))
        kept = ~is_zero | is_filler
        return replace(self, weights=self.weights[kept], bias=self.bias[kept])


def read_constants(model: Model, layers: Sequence[Layer]) -> list[LayerConstants]:
    """The constants of ``layers``, whose weights are dense.

    Raises
    ------
    LeanconvError
        If the file is gone or damaged.
    """
    with opened(model.path) as content:
        graph = Graph(tflite.Model.GetRootAs(content, 0), content, model.subgraph)
        return [_constants(graph, layer) for layer in layers]


def _constants(graph: Graph, layer: Layer) -> LayerConstants:
    inputs = graph.nodes[layer.index].inputs
    assert inputs[1] is not None, "a layer has weights"
    stored = _values(graph, inputs[1])
    weights = stored
    if layer.kind == DENSE:
        weights = stored[:, None, None, :]
    elif layer.kind == DEPTHWISE:
        weights = stored.transpose(3, 1, 2, 0)
    bias_index = inputs[2] if len(inputs) > 2 else None
    own = quantisation_of(graph, layer)
    is_integer = isinstance(own, Quantisation)
    dtype = np.int32 if is_integer else np.float32
    if bias_index is None:
        bias = np.zeros(len(weights), dtype)
    else:
        bias = _values(graph, bias_index).reshape(-1).astype(dtype)
    exact: tuple[np.ndarray, ...] = ()
    if isinstance(own, ChannelScales):
        exact = (weight_codes(graph, inputs[1])[0],)
    elif is_integer and bias_index is not None:
        exact = (bias,)
    return LayerConstants(stored, weights, bias, own, exact)


def _values(graph: Graph, index: int) -> np.ndarray:
    """A copy of what is stored of a constant, or of what a DEQUANTIZE makes floats of."""
    source = graph.dequantized_by(index)
    tensor = graph.tensor(source)
    dtype = np.dtype(tensor.type).newbyteorder("<")
    size = math.prod(tensor.shape) * dtype.itemsize
    return graph.content_of(source)[:size].view(dtype).reshape(tensor.shape)
