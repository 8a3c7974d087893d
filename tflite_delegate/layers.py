"""One convolution, depthwise convolution or fully-connected node as a layer of leanconv."""

from __future__ import annotations

import math
from dataclasses import dataclass

import tflite

from schedules.errors import LeanconvError
from schedules.network import CONV, DENSE, DEPTHWISE, Layer, describe
from schedules.workload import Conv2dWorkload
from tflite_delegate.graph import Graph, Node, Tensor

#: Fused activations by TFLite's numbers.
ACTIVATIONS = {
    tflite.ActivationFunctionType.NONE: "none",
    tflite.ActivationFunctionType.RELU: "relu",
    tflite.ActivationFunctionType.RELU6: "relu6",
    tflite.ActivationFunctionType.RELU_N1_TO_1: "relu_n1_to_1",
}
_PADDINGS = {tflite.Padding.SAME: "SAME", tflite.Padding.VALID: "VALID"}
#: The operators that layers are made of.
OPERATORS = {
    tflite.BuiltinOperator.CONV_2D: "CONV_2D",
    tflite.BuiltinOperator.DEPTHWISE_CONV_2D: "DEPTHWISE_CONV_2D",
    tflite.BuiltinOperator.FULLY_CONNECTED: "FULLY_CONNECTED",
}
_KINDS = {"CONV_2D": CONV, "DEPTHWISE_CONV_2D": DEPTHWISE, "FULLY_CONNECTED": DENSE}
_OPTIONS = {"CONV_2D": "Conv2DOptions", "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions"}


@dataclass(frozen=True)
class _Window:
    """The options of a convolution."""

    padding: str
    stride: tuple[int, int]
    dilation: tuple[int, int]
    activation: str

    @classmethod
    def of(cls, op: str, node: Node) -> _Window | str:
        """The options of ``node``, or why they make no sense."""
        if op == "FULLY_CONNECTED":
            return cls._of_dense(node)
        options = node.options(_OPTIONS[op])
        if options is None:
            return "malformed node: no options"
        stride = (options.StrideH(), options.StrideW())
        dilation = (options.DilationHFactor(), options.DilationWFactor())
        if min(*stride, *dilation) < 1:
            return f"malformed node: stride {stride}, dilation {dilation}"
        activation = ACTIVATIONS.get(options.FusedActivationFunction())
        if activation is None:
            return "fused activation is not supported"
        padding = _PADDINGS.get(options.Padding())
        if padding is None:
            return "unknown padding"
        return cls(padding, stride, dilation, activation)

    @classmethod
    def _of_dense(cls, node: Node) -> _Window | str:
        options = node.options("FullyConnectedOptions")
        if options is None:
            return "malformed node: no options"
        if options.WeightsFormat() != tflite.FullyConnectedOptionsWeightsFormat.DEFAULT:
            return "shuffled weights: not supported"
        activation = ACTIVATIONS.get(options.FusedActivationFunction())
        if activation is None:
            return "fused activation is not supported"
        return cls("VALID", (1, 1), (1, 1), activation)


def read_layer(graph: Graph, node: Node) -> Layer:
    """``node``, whose code is one of :data:`OPERATORS`, as a layer of its own."""
    op = OPERATORS[node.code]
    kind = _KINDS[op]

    def refused(reason: str, geometry: str = "?", weight_bytes: int = 0, macs: int = 0) -> Layer:
        return Layer(
            node.index, op, kind, geometry, None, reason, weight_bytes, macs, (node.index,)
        )

    if len(node.inputs) < 2 or not node.outputs:
        return refused("malformed node: input, weights or output missing")
    x_index, w_index, y_index = *node.inputs[:2], node.outputs[0]
    if x_index is None or w_index is None or y_index is None:
        return refused("malformed node: input, weights or output missing")
    x, stored, y = (graph.tensor(index) for index in (x_index, w_index, y_index))
    expected_rank = 2 if op == "FULLY_CONNECTED" else 4
    if len(stored.shape) != expected_rank or min(stored.shape) < 1:
        return refused(f"malformed node: weights of shape {list(stored.shape)}")
    weights = graph.constant_behind(w_index)
    window = _Window.of(op, node)
    if isinstance(window, str):
        return refused(window, weight_bytes=weights.bytes)
    geometry = f"{_kind(op, weights)} ?x?x{_input_channels(op, weights)}->{_outputs(op, weights)}"
    if not x.is_known or (op != "FULLY_CONNECTED" and len(x.shape) != 4):
        reason = "input shape is not known before the model runs"
        return refused(reason, geometry, weights.bytes)
    try:
        workload = _workload(op, x, weights, window)
    except LeanconvError as error:
        return refused(str(error), geometry, weights.bytes)
    bias_index = node.inputs[2] if len(node.inputs) > 2 else None
    bias = None if bias_index is None else graph.constant_behind(bias_index)
    reason_or_none = _why_not({x.type, y.type}, weights, bias, workload)
    if reason_or_none is not None:
        return refused(reason_or_none, describe(kind, workload), weights.bytes, workload.macs)
    constants = [weights] if bias is None else [weights, bias]
    order = "taps" if op == "DEPTHWISE_CONV_2D" else "rows"
    return Layer(
        node.index,
        op,
        kind,
        describe(kind, workload),
        workload,
        None,
        weights.bytes,
        workload.macs,
        (node.index,),
        x_index,
        y_index,
        order if all(constant.type == "float32" for constant in constants) else None,
    )


def _kind(op: str, weights: Tensor) -> str:
    if op == "FULLY_CONNECTED":
        return "dense"
    prefix = "dwconv" if op == "DEPTHWISE_CONV_2D" else "conv"
    return f"{prefix}{weights.shape[1]}x{weights.shape[2]}"


def _input_channels(op: str, weights: Tensor) -> int | str:
    return "?" if op == "DEPTHWISE_CONV_2D" else weights.shape[-1]


def _outputs(op: str, weights: Tensor) -> int:
    return weights.shape[-1 if op == "DEPTHWISE_CONV_2D" else 0]


def _workload(op: str, x: Tensor, weights: Tensor, window: _Window) -> Conv2dWorkload:
    """What the node computes; raises LeanconvError where shapes do not fit together."""
    if op == "FULLY_CONNECTED":
        units, depth = weights.shape
        rows, rest = divmod(math.prod(x.shape), depth)
        if rest:
            raise LeanconvError(f"malformed node: input {list(x.shape)}, weights for {depth}")
        return Conv2dWorkload(1, rows, depth, units, 1, 1, activation=window.activation)
    batch, height, width, channels = x.shape
    if op == "DEPTHWISE_CONV_2D":
        _, kernel_height, kernel_width, out_channels = weights.shape
        groups = channels
        if weights.shape[0] != 1:
            raise LeanconvError(f"malformed node: weights of shape {list(weights.shape)}")
    else:
        out_channels, kernel_height, kernel_width, depth = weights.shape
        groups, rest = divmod(channels, depth)
        if rest:
            raise LeanconvError(f"malformed node: {channels} channels, weights for {depth}")
    return Conv2dWorkload.with_padding(
        window.padding,
        batch=batch,
        in_height=height,
        in_width=width,
        in_channels=channels,
        out_channels=out_channels,
        kernel_height=kernel_height,
        kernel_width=kernel_width,
        stride_height=window.stride[0],
        stride_width=window.stride[1],
        dilation_height=window.dilation[0],
        dilation_width=window.dilation[1],
        groups=groups,
        activation=window.activation,
    )


def _why_not(
    types: set[str], weights: Tensor, bias: Tensor | None, workload: Conv2dWorkload
) -> str | None:
    """Why leanconv does not take a layer of good shape, or ``None``."""
    foreign = sorted(types - {"float32"})
    if foreign:
        return f"{' and '.join(foreign)} tensors: not supported yet"
    if weights.type not in ("float32", "float16"):
        return f"{weights.type} weights: not supported yet"
    if not weights.is_constant:
        return "weights are computed at run time"
    if weights.sparse or not weights.is_whole_constant:
        return "weights are sparse or incomplete"
    if bias is None:
        return None
    if bias.type not in ("float32", "float16"):
        return f"{bias.type} bias: not supported yet"
    if not bias.is_constant:
        return "bias is computed at run time"
    if bias.sparse or not bias.is_whole_constant or math.prod(bias.shape) != workload.out_channels:
        return "malformed node: bias does not fit the weights"
    return None
