"""The neighbours of a layer whose work its kernel does as well.

In front of a convolution that pads nothing, a pad of zeros. Behind a layer of floats, an
activation; the addition of a tensor that is there already, as in a residual connection; and an
activation behind that. Behind a layer of integers such an addition, where XNNPACK's rules are
followed. An activation may be several that make up one, as RELU behind RELU6, or the operators that
it is made of. Tensors in between must be read by nobody else. The delegate (csrc/layer/merge.c)
merges by the same rules.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from schedules.layer.graph import Graph, Operation, follower, only_reader
from schedules.layer.network import DENSE, TRANSPOSED, Layer, describe
from schedules.layer.workload import ACTIVATIONS, HARD_SWISH, SWISH

#: Axes of images and volumes, and what surrounds them, as a workload's fields.
_SIZES = ("in_depth", "in_height", "in_width")
_PADS = ("pad_front", "pad_back", "pad_top", "pad_bottom", "pad_left", "pad_right")
#: Activations of x that are several operators, one behind the other: their names, and the numbers
#: that they add or divide by. The product is that with x.
_COMPOUNDS: dict[str, Sequence[tuple[str, float | None]]] = {
    SWISH: [("sigmoid", None), ("multiply", None)],
    HARD_SWISH: [("add", 3.0), ("relu6", None), ("multiply", None), ("divide", 6.0)],
}


def merge_neighbours(graph: Graph, layer: Layer) -> Layer:
    """``layer`` with all neighbours that can be merged into it."""
    if layer.workload is None:
        return layer
    # An activation behind a layer of integers rounds once more.
    is_quantised = layer.workload.is_quantised and not layer.workload.is_dynamic
    if layer.kind == TRANSPOSED:
        return layer if is_quantised else _merge_transposed(graph, layer)
    layer = _merge_pad(graph, layer)
    assert layer.workload is not None
    if not is_quantised:
        return merge_followers(graph, layer)
    if layer.workload.rounding.startswith("xnn"):
        layer = _merge_residual(graph, layer)
    assert layer.workload is not None
    return replace(layer, geometry=describe(layer.kind, layer.workload))


def merge_followers(graph: Graph, layer: Layer) -> Layer:
    """``layer``, a convolution of floats, with what is behind it."""
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
    workload, padded = layer.workload, layer.input
    assert workload is not None and padded is not None
    pad = graph.operation(graph.producers[padded]) if padded in graph.producers else None
    if pad is None or pad.name != "pad" or only_reader(graph, padded) is None:
        return layer
    (image,), amounts = pad.operands, pad.paddings
    shape, rank = graph.shape(image), len(workload.input_shape)
    if workload.is_dynamic and workload.is_pointwise:
        return layer  # pixel by pixel of the padded image, each is quantised by itself
    if layer.kind == DENSE or workload.is_padded or graph.dtype(image) != workload.dtype:
        return layer
    if shape is None or len(shape) != rank or len(amounts) != 2 * rank or min(amounts) < 0:
        return layer
    if any(amounts[:2] + amounts[-2:]):
        return layer
    sizes = dict(zip(_SIZES[-(rank - 2) :], shape[1:], strict=False))
    pads = dict(zip(_PADS[-2 * (rank - 2) :], amounts[2:], strict=False))
    merged = replace(workload, **sizes, **pads)  # type: ignore[arg-type]
    if merged.output_shape != workload.output_shape:  # the network contradicts itself
        return layer
    return replace(layer, workload=merged, input=image, nodes=(pad.node, *layer.nodes))


def _merge_activation(graph: Graph, layer: Layer, slot: str) -> Layer:
    assert layer.workload is not None and layer.output is not None
    before = getattr(layer.workload, slot)
    behind = follower(graph, layer.output)
    if behind is not None and behind.name in (*ACTIVATIONS, HARD_SWISH):
        activation = composed(before, behind.name)
        if activation is not None:
            return _merge_activation(graph, _extended(layer, behind, slot, activation), slot)
    if before == "none":
        for activation, parts in _COMPOUNDS.items():
            for part in _compound(graph, layer.output, parts):
                layer = _extended(layer, part, slot, activation)
    return layer


def _compound(
    graph: Graph, x: int, parts: Sequence[tuple[str, float | None]]
) -> Sequence[Operation]:
    """The nodes of an activation of ``x`` if they alone read it, or none."""
    readers = graph.readers.get(x, ())
    if len(readers) != 2 or x in graph.outputs:
        return ()
    found: list[Operation] = []
    operation, tensor = graph.operation(min(readers)), x
    for name, number in parts:
        if operation is None or (operation.name, operation.number) != (name, number):
            return ()
        is_product = operation.node == max(readers) and set(operation.operands) == {x, tensor}
        if operation.activation != "none" or (name == "multiply" and not is_product):
            return ()
        found.append(operation)
        tensor = operation.output
        operation = follower(graph, tensor)
    return found


def _merge_residual(graph: Graph, layer: Layer) -> Layer:
    workload, output = layer.workload, layer.output
    assert workload is not None and output is not None
    addition = follower(graph, output)
    if addition is None or addition.name != "add" or len(addition.operands) != 2:
        return layer
    if workload.groups > 1 and not workload.is_depthwise:
        return layer  # its kernels are made for one group
    (other,) = set(addition.operands) - {output}
    if not graph.is_there(other, layer) or graph.dtype(other) != workload.dtype:
        return layer
    if graph.shape(other) != graph.shape(output):
        return layer
    layer = replace(layer, workload=replace(workload, residual=True), residual=other)
    return _extended(layer, addition, "output_activation", addition.activation)


def _extended(layer: Layer, behind: Operation, slot: str, activation: str) -> Layer:
    """``layer`` with the work of the node behind it, and an activation."""
    assert layer.workload is not None
    workload = replace(layer.workload, **{slot: activation})  # type: ignore[arg-type]
    return replace(
        layer, workload=workload, nodes=(*layer.nodes, behind.node), output=behind.output
    )


def composed(first: str, second: str) -> str | None:
    """The activation that is ``second`` behind ``first``; ``None`` if it has no name here.

    A clamp behind a clamp is one, to the second's interval of the first's ends.
    """
    if first == "none":
        return second
    if first not in ACTIVATIONS or second not in ACTIVATIONS:
        return None
    (a, b), (least, most) = _interval(first), _interval(second)
    ends = (min(max(a, least), most), min(max(b, least), most))
    return next((name for name in ACTIVATIONS if _interval(name) == ends), None)


def _interval(activation: str) -> tuple[float, float]:
    lower, upper = ACTIVATIONS[activation]
    return (-math.inf if lower is None else lower, math.inf if upper is None else upper)
