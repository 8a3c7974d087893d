"""One convolution, depthwise, transposed or fully-connected node as a layer of leanconv."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import tflite

from schedules.errors import LeanconvError
from schedules.layer.network import CONV, DENSE, DEPTHWISE, TRANSPOSED, Layer, describe
from schedules.layer.workload import Conv2dWorkload
from tflite_delegate.read import upsampling
from tflite_delegate.read.graph import ACTIVATIONS, Graph, Node, Tensor

_PADDINGS = {tflite.Padding.SAME: "SAME", tflite.Padding.VALID: "VALID"}
#: The operators that layers are made of.
OPERATORS = {
    tflite.BuiltinOperator.CONV_2D: "CONV_2D",
    tflite.BuiltinOperator.DEPTHWISE_CONV_2D: "DEPTHWISE_CONV_2D",
    tflite.BuiltinOperator.FULLY_CONNECTED: "FULLY_CONNECTED",
    tflite.BuiltinOperator.TRANSPOSE_CONV: "TRANSPOSE_CONV",
}
#: Likewise, custom ones: MediaPipe's transposed convolution.
CUSTOM_OPERATORS = ("Convolution2DTransposeBias",)
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


def layer_operator(node: Node) -> str | None:
    """The operator's name, if it is one that layers are made of."""
    return node.custom if node.custom in CUSTOM_OPERATORS else OPERATORS.get(node.code)


def read_layer(graph: Graph, node: Node) -> Layer:
    """``node``, which has a :func:`layer_operator`, as a layer of its own."""
    op = layer_operator(node)
    assert op is not None, "not a layer's operator"
    if op in ("TRANSPOSE_CONV", *CUSTOM_OPERATORS):
        return _read_transposed(graph, node, op)
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
    reason_or_none = _why_not({x.type, y.type}, weights, bias, workload.out_channels)
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
        order if all(map(_is_readable_in_place, constants)) else None,
    )


def _read_transposed(graph: Graph, node: Node, op: str) -> Layer:
    """A transposed convolution; its workload is the sub-pixel one."""
    unknown = Layer(node.index, op, TRANSPOSED, "?", None, None, 0, 0, (node.index,))
    # A TRANSPOSE_CONV has the shape of its output in front, the custom operator does not.
    order = (2, 1, 3, 0) if op == "TRANSPOSE_CONV" else (0, 1, 2, None)
    operands = [
        None if place is None or place >= len(node.inputs) else node.inputs[place]
        for place in order
    ]
    x_index, w_index, bias_index, shape_index = operands
    y_index = node.outputs[0] if node.outputs else None
    if x_index is None or w_index is None or y_index is None:
        return replace(unknown, reason="malformed node: input, weights or output missing")
    weights, x, y = graph.constant_behind(w_index), graph.tensor(x_index), graph.tensor(y_index)
    if len(weights.shape) != 4 or min(weights.shape) < 1:
        return replace(unknown, reason=f"malformed node: weights of shape {list(weights.shape)}")
    channels, kernel_height, kernel_width, depth = weights.shape
    name = f"tconv{kernel_height}x{kernel_width}"
    unknown = replace(
        unknown, geometry=f"{name} ?x?x{depth}->{channels}", weight_bytes=weights.bytes
    )
    window = _transposed_window(node)
    if isinstance(window, str):
        return replace(unknown, reason=window)
    if not x.is_known or len(x.shape) != 4:
        return replace(unknown, reason="input shape is not known before the model runs")
    out: list[int] | list[None] = [None, None]
    if op == "TRANSPOSE_CONV":
        shape = None if shape_index is None else graph.integers(shape_index)
        if shape is None or len(shape) != 4:
            return replace(unknown, reason="the shape of its output is computed at run time")
        out = shape[1:3]
    batch, height, width, in_channels = x.shape
    same = window.padding == "SAME"
    try:
        if in_channels != depth:
            raise LeanconvError(f"malformed node: {in_channels} channels, weights for {depth}")
        rows = upsampling.Axis.of(height, out[0], kernel_height, window.stride[0], same)
        columns = upsampling.Axis.of(width, out[1], kernel_width, window.stride[1], same)
        workload = upsampling.workload(
            (batch, height, width, depth), channels, rows, columns, window.activation
        )
    except LeanconvError as error:
        return replace(unknown, reason=str(error))
    bias = None if bias_index is None else graph.constant_behind(bias_index)
    macs = batch * height * width * math.prod(weights.shape)
    strides = "x".join(map(str, dict.fromkeys(window.stride)))
    activation = "" if window.activation == "none" else f" {window.activation}"
    known = replace(
        unknown,
        geometry=f"{name} s{strides} {height}x{width}x{depth}->{channels}{activation}",
        reason=_why_not({x.type, y.type}, weights, bias, channels),
        macs=macs,
    )
    if known.reason is not None:
        return known
    staged = workload.with_batch(1).output_bytes
    return replace(known, workload=workload, input=x_index, output=y_index, staged_bytes=staged)


def _transposed_window(node: Node) -> _Window | str:
    """The options of a transposed convolution, or why they make no sense."""
    if node.custom is not None:
        # TfLiteTransposeConvParams as bytes: padding, stride along the width, along the height.
        data = node.operator.CustomOptionsAsNumpy()
        if not isinstance(data, np.ndarray) or data.nbytes < 12:
            return "malformed node: no options"
        scheme, stride_width, stride_height = (int(value) for value in data[:12].view("<i4"))
        padding = {1: "SAME", 2: "VALID"}.get(scheme)
        activation: str | None = "none"
    else:
        options = node.options("TransposeConvOptions")
        if options is None:
            return "malformed node: no options"
        stride_height, stride_width = options.StrideH(), options.StrideW()
        padding = _PADDINGS.get(options.Padding())
        activation = ACTIVATIONS.get(options.FusedActivationFunction())
    if padding is None:
        return "unknown padding"
    if activation is None:
        return "fused activation is not supported"
    if min(stride_height, stride_width) < 1:
        return f"malformed node: stride {stride_height, stride_width}"
    return _Window(padding, (stride_height, stride_width), (1, 1), activation)


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


def _is_readable_in_place(constant: Tensor) -> bool:
    return constant.type == "float32" and constant.sparsity is None


def _why_not(
    types: set[str], weights: Tensor, bias: Tensor | None, out_channels: int
) -> str | None:
    """Why leanconv does not take a layer of good shape, or ``None``."""
    foreign = sorted(types - {"float32"})
    if foreign:
        return f"{' and '.join(foreign)} tensors: not supported yet"
    if weights.type not in ("float32", "float16"):
        return f"{weights.type} weights: not supported yet"
    if not weights.is_constant:
        return "weights are computed at run time"
    if not weights.is_whole_constant:
        return "weights are incomplete"
    if bias is None:
        return None
    if bias.type not in ("float32", "float16"):
        return f"{bias.type} bias: not supported yet"
    if not bias.is_constant:
        return "bias is computed at run time"
    if not bias.is_whole_constant or math.prod(bias.shape) != out_channels:
        return "malformed node: bias does not fit the weights"
    return None
