"""Layers with weights in Winograd's domain: the custom operator, or what stands for it.

That is the composite of built-in operators that :mod:`tflite_delegate.read.composite` recognises:
it becomes one node. Either is a call that says all about one layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from tvm import relax
from tvm.relax.frontend.tflite.tflite_frontend import OperatorConverter

from schedules.errors import LeanconvError
from schedules.layer.network import Layer
from schedules.layer.workload import Conv2dWorkload
from schedules.relax.winograd import winograd_layer
from tflite_delegate.importer.editable import EditableGraph, EditableOperator, EditableTensor
from tflite_delegate.read.winograd import NAME, matrices_of, options_of, workload_of


class Composite(EditableOperator):
    """A node in the place of several; what it computes is known, but for how many images."""

    def __init__(self, last: EditableOperator, inputs: Sequence[int], layer: Layer) -> None:
        super().__init__(last, NAME, last.code, last.position, inputs, last.outputs)
        self.workload = layer.workload


def merge_composites(graph: EditableGraph, layers: Sequence[Layer]) -> None:
    """Put one node in the place of those of each layer, which were read from the same graph."""
    at = {node.position: node for node in graph.operators}
    for layer in layers:
        parts = [at[index] for index in layer.nodes]
        (product,) = (node for node in parts if node.name == "BATCH_MATMUL")
        bias, last = parts[-1].inputs[1], parts[-1]
        assert layer.input is not None
        inputs = [layer.input, product.inputs[1], bias]
        graph.operators[graph.operators.index(last)] = Composite(last, inputs, layer)
        for node in parts[:-1]:
            graph.operators.remove(node)


def convert(converter: OperatorConverter, node: EditableOperator) -> relax.Expr:
    """The layer; raises LeanconvError if it is none that kernels compute."""
    if len(node.inputs) != 3 or min(node.inputs) < 0 or len(node.outputs) != 1:
        raise LeanconvError("it has an image, weights, a bias, and one output")
    image, weights, bias = (converter.subgraph.tensors[index] for index in node.inputs)
    u, b = _constant(weights, 3), _constant(bias, 1)
    if len(image.shape) != 4:
        raise LeanconvError(f"an image of {len(image.shape)} dimensions")
    workload = _workload(node, image.shape, u)
    if b.size != workload.out_channels:
        raise LeanconvError(f"a bias of {b.size} for {workload.out_channels} channels")
    x, matrices = converter.get_expr(node.inputs[0]), np.ascontiguousarray(matrices_of(u))
    return converter.bb.emit(winograd_layer(converter.bb, workload, x, matrices, b))


def _constant(tensor: EditableTensor, rank: int) -> NDArray[np.float32]:
    data = tensor.data
    if data is None or data.dtype != np.float32 or data.ndim != rank or data.size == 0:
        raise LeanconvError("its weights and bias are constants of floats")
    return data


def _workload(
    node: EditableOperator, image: Sequence[int], weights: NDArray[np.float32]
) -> Conv2dWorkload:
    if not isinstance(node, Composite):
        return workload_of(options_of(node), image, weights)
    assert node.workload is not None
    if tuple(image[1:]) != node.workload.input_shape[1:]:
        raise LeanconvError(f"an image of {image}: its tiles are those of the file's")
    return replace(node.workload, batch=image[0])
