"""The neighbours of a layer whose work its kernel does as well.

In front of a convolution that pads nothing, a PAD of zeros. Behind a layer, an activation; the ADD
of a tensor that is there already, as in a residual connection; and an activation behind that. An
activation may be several that make up one, as RELU behind RELU6.
Tensors in between must be read by nobody else. The delegate merges by the same rules.
"""

from __future__ import annotations

from dataclasses import replace

import tflite

from schedules.layer.network import DENSE, TRANSPOSED, Layer, describe
from schedules.layer.workload import Conv2dWorkload, composed
from tflite_delegate.read.graph import Graph, Node
from tflite_delegate.read.layers import ACTIVATIONS

#: Operators that are activations.
_ACTIVATION_NODES = {
    tflite.BuiltinOperator.RELU: "relu",
    tflite.BuiltinOperator.RELU6: "relu6",
    tflite.BuiltinOperator.RELU_N1_TO_1: "relu_n1_to_1",
    tflite.BuiltinOperator.HARD_SWISH: "hard_swish",
}


def merge_neighbours(graph: Graph, layer: Layer) -> Layer:
    """``layer`` with all neighbours that can be merged into it."""
    if layer.workload is None:
        return layer
    if layer.kind == TRANSPOSED:
        return _merge_transposed(graph, layer)
    layer = _merge_pad(graph, layer)
    layer = _merge_activation(graph, layer, "activation")
    with_residual = _merge_residual(graph, layer)
    if with_residual is not layer:
        layer = _merge_activation(graph, with_residual, "output_activation")
    assert layer.workload is not None
    return replace(layer, geometry=describe(layer.kind, layer.workload))


def _merge_transposed(graph: Graph, layer: Layer) -> Layer:
    """Its sub-pixel convolution is neither that of the padded image nor what a residual adds to."""
    merged = _merge_activation(graph, layer, "activation")
    if merged is layer:
        return layer
    assert merged.workload is not None
    return replace(merged, geometry=f"{layer.geometry} {merged.workload.activation}")


def _merge_pad(graph: Graph, layer: Layer) -> Layer:
    assert layer.workload is not None and layer.input is not None
    pad = graph.producers.get(layer.input)
    is_pad = pad is not None and pad.code == tflite.BuiltinOperator.PAD and len(pad.inputs) == 2
    if not is_pad or layer.kind == DENSE or layer.workload.is_padded:
        return layer
    assert pad is not None
    source, amounts_index = pad.inputs
    if source is None or amounts_index is None or graph.only_reader(layer.input) is None:
        return layer
    amounts, image = graph.integers(amounts_index), graph.tensor(source)
    if amounts is None or len(amounts) != 8 or min(amounts) < 0:
        return layer
    known = image.type == "float32" and image.is_known and len(image.shape) == 4
    if any(amounts[:2] + amounts[6:]) or not known:
        return layer
    workload = replace(
        layer.workload,
        in_height=image.shape[1],
        in_width=image.shape[2],
        pad_top=amounts[2],
        pad_bottom=amounts[3],
        pad_left=amounts[4],
        pad_right=amounts[5],
    )
    if workload.output_shape != layer.workload.output_shape:  # the file contradicts itself
        return layer
    return replace(layer, workload=workload, input=source, nodes=(pad.index, *layer.nodes))


def _merge_activation(graph: Graph, layer: Layer, slot: str) -> Layer:
    assert layer.workload is not None and layer.output is not None
    node = graph.only_reader(layer.output)
    if node is None:
        return _merge_swish(graph, layer, slot)
    if node.code not in _ACTIVATION_NODES:
        return layer
    activation = composed(getattr(layer.workload, slot), _ACTIVATION_NODES[node.code])
    if activation is None:
        return layer
    longer = _extended(layer, node, {slot: activation})
    return layer if longer is layer else _merge_activation(graph, longer, slot)


def _merge_swish(graph: Graph, layer: Layer, slot: str) -> Layer:
    """``layer`` with a LOGISTIC of its output and the product of both, if nobody else reads it."""
    assert layer.workload is not None and layer.output is not None
    readers = graph.readers.get(layer.output, [])
    if len(readers) != 2 or layer.output in graph.outputs:
        return layer
    logistic, product = sorted(readers, key=lambda node: node.index)
    codes = (tflite.BuiltinOperator.LOGISTIC, tflite.BuiltinOperator.MUL)
    options = product.options("MulOptions")
    gate, swish = (node.outputs[0] if node.outputs else None for node in (logistic, product))
    is_swish = (
        (logistic.code, product.code) == codes
        and gate is not None
        and swish is not None
        and set(product.inputs) == {layer.output, gate}
        and graph.only_reader(gate) is product
        and options is not None
        and options.FusedActivationFunction() == tflite.ActivationFunctionType.NONE
    )
    if not is_swish or getattr(layer.workload, slot) != "none":
        return layer
    return _extended(_extended(layer, logistic, {}), product, {slot: "swish"})


def _merge_residual(graph: Graph, layer: Layer) -> Layer:
    assert layer.workload is not None and layer.output is not None
    node = graph.only_reader(layer.output)
    if node is None or node.code != tflite.BuiltinOperator.ADD or len(node.inputs) != 2:
        return layer
    if layer.workload.groups > 1 and not layer.workload.is_depthwise:
        return layer  # its kernels are made for one group
    (other,) = (tensor for tensor in node.inputs if tensor != layer.output)
    options = node.options("AddOptions")
    activation = ACTIVATIONS.get(options.FusedActivationFunction()) if options else None
    if other is None or activation is None or not _is_there(graph, other, layer.index):
        return layer
    added = graph.tensor(other)
    if added.type != "float32" or added.is_constant:
        return layer
    if added.shape != graph.tensor(layer.output).shape:
        return layer
    return _extended(layer, node, {"residual": True, "output_activation": activation})


def _is_there(graph: Graph, tensor: int, index: int) -> bool:
    """Whether a tensor is computed before node ``index``, or given."""
    producer = graph.producers.get(tensor)
    return producer is None or producer.index < index


def _extended(layer: Layer, node: Node, changes: dict[str, str | bool]) -> Layer:
    """``layer`` with the work of the node behind it."""
    assert layer.workload is not None
    if not node.outputs or node.outputs[0] is None:
        return layer
    workload: Conv2dWorkload = replace(layer.workload, **changes)  # type: ignore[arg-type]
    nodes = (*layer.nodes, node.index)
    return replace(layer, workload=workload, nodes=nodes, output=node.outputs[0])
