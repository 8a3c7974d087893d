"""Bytes on the heap that a delegate keeps for itself: its nodes, and those of its operators.

They hardly depend on what is compiled, so that one bound is for every plan of a model: a node of
its own for each layer, and every operator that could join them. The numbers are sizes of structs in
csrc, which are the same on all targets of 64 bits; tests compare them with the C.
"""

from __future__ import annotations

import tflite

from schedules.plan.filters import narrower
from tflite_delegate.read.model import Layer, Model, Step
from tflite_delegate.read.supported import between

#: What there is once: struct lc_delegate.
DELEGATE = 440
#: A node of struct lc_node up to its chain's layers, and for each layer struct lc_layer and struct
#: lc_geometry, which is kept to the end where it is not that of a kernel.
NODE, LAYER = 360, 256 + 168
#: An operator's node, struct lc_operator_node.
OPERATOR = 232
#: The number in front of a list of tensors, and one of these or of nodes.
INDEX = 4
#: struct lc_filters, the place of each filter, and the value of each that no kernel computes.
FILTERS, PLACE, VALUE = 24, 4, 4
#: struct lc_halved.
HALVED = 24
#: The most that is kept of parameters, and of what is found as an operator is prepared.
PARAMETERS, PREPARED = 36, 136


def _of(size: int, *names: str) -> dict[int, int]:
    return {getattr(tflite.BuiltinOperator, name): size for name in names}


#: What operators on codes of 8 bits keep: tables, factors.
CODED = {
    **_of(120, "ADD", "MUL", "PRELU", "SUB"),
    **_of(520, "HARD_SWISH", "LEAKY_RELU", "LOGISTIC", "QUANTIZE", "RELU", "RELU6", "RELU_N1_TO_1"),
    **_of(2076, "SOFTMAX"),
}
#: What is prepared for each part: output, or input.
PARTS = {**_of(136, "SPLIT", "SPLIT_V", "UNPACK"), **_of(8, "CONCATENATION", "PACK")}


def own_bytes(model: Model) -> int:
    """No fewer than a delegate keeps for one interpreter of a model, whatever its plan is."""
    return DELEGATE + sum(map(_graph_bytes, model.graphs))


def _graph_bytes(model: Model) -> int:
    taken = [layer for layer in model.layers if layer.workload is not None]
    is_half = any(w.dtype == "float16" for layer in taken if (w := layer.workload))
    operators = between(model, [node for layer in taken for node in layer.nodes])
    return (
        sum(_layer_bytes(model, layer, is_half) for layer in taken)
        + sum(operator_bytes(step, is_half) for step in operators)
        + is_half * (HALVED + INDEX * len(model.sizes))
    )


def _layer_bytes(model: Model, layer: Layer, is_half: bool) -> int:
    """Of the layer's node; or, if it is left to TFLite, of the operators around it."""
    assert layer.workload is not None
    node = NODE + LAYER + INDEX * len(layer.nodes)
    few = narrower(layer)
    if few is not None:
        filters = layer.workload.out_channels
        node += FILTERS + PLACE * filters + VALUE * (filters - few.out_channels)
    around = [model.steps[i] for i in layer.nodes if i != layer.index]
    return max(node, sum(operator_bytes(step, is_half) for step in around))


def operator_bytes(step: Step, is_half: bool = False) -> int:
    """Of an operator's node; ``is_half`` says that it may have float16 of its constants."""
    parts = max(len(step.inputs), len(step.outputs))
    lists = INDEX * (2 + len(step.inputs) + len(step.outputs))
    coded = 0 if step.types <= {"float32"} else CODED.get(step.code, 0)
    narrowed = 8 * (len(step.inputs) + 1) + step.constant_bytes // 2 if is_half else 0
    prepared = PREPARED + PARTS.get(step.code, 0) * parts
    return OPERATOR + PARAMETERS + prepared + coded + lists + narrowed
