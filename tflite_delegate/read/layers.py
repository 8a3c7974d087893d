"""One convolution, depthwise, transposed or fully-connected node as a layer of leanconv."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tflite

from schedules.errors import LeanconvError
from schedules.layer.network import CONV, DENSE, DEPTHWISE, TRANSPOSED, VOLUME, Layer, describe
from schedules.layer.volume import Conv3dWorkload
from schedules.layer.words import SPREAD, WORD
from schedules.layer.workload import Conv2dWorkload
from tflite_delegate.read import upsampling, winograd
from tflite_delegate.read.graph import ACTIVATIONS, Graph, Node, Tensor
from tflite_delegate.read.quantisation import (
    READ_ROUNDING,
    TYPES,
    check_quantisation,
    check_scales,
    has_one_scale,
    overflows_pairs,
)
from tflite_delegate.read.zeros import zeros_of_layer

_PADDINGS = {tflite.Padding.SAME: "SAME", tflite.Padding.VALID: "VALID"}
#: The operators that layers are made of.
OPERATORS = {
    tflite.BuiltinOperator.CONV_2D: "CONV_2D",
    tflite.BuiltinOperator.DEPTHWISE_CONV_2D: "DEPTHWISE_CONV_2D",
    tflite.BuiltinOperator.FULLY_CONNECTED: "FULLY_CONNECTED",
    tflite.BuiltinOperator.TRANSPOSE_CONV: "TRANSPOSE_CONV",
    tflite.BuiltinOperator.CONV_3D: "CONV_3D",
}
#: Likewise, custom ones: MediaPipe's transposed convolution, and weights in Winograd's domain.
CUSTOM_OPERATORS = ("Convolution2DTransposeBias", winograd.NAME)
_KINDS = {
    "CONV_2D": CONV,
    "DEPTHWISE_CONV_2D": DEPTHWISE,
    "FULLY_CONNECTED": DENSE,
    "CONV_3D": VOLUME,
    winograd.NAME: CONV,
}
_OPTIONS = {
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
    "TRANSPOSE_CONV": "TransposeConvOptions",
    "CONV_3D": "Conv3DOptions",
}


@dataclass(frozen=True)
class _Window:
    """The options of a convolution."""

    padding: str
    stride: tuple[int, int]
    dilation: tuple[int, int]
    activation: str

    @classmethod
    def of(cls, op: str, node: Node) -> _Window:
        """The options of ``node``; raises LeanconvError if they make no sense."""
        if node.custom is not None:
            return cls._of_custom(node)
        options = node.options(_OPTIONS[op])
        if options is None:
            raise LeanconvError("malformed node: no options")
        scheme, stride, dilation = tflite.Padding.VALID, (1, 1), (1, 1)
        if op == "FULLY_CONNECTED":
            if options.WeightsFormat() != tflite.FullyConnectedOptionsWeightsFormat.DEFAULT:
                raise LeanconvError("shuffled weights: not supported")
        else:
            scheme, stride = options.Padding(), (options.StrideH(), options.StrideW())
            if op != "TRANSPOSE_CONV":
                dilation = (options.DilationHFactor(), options.DilationWFactor())
        return cls._checked(_PADDINGS.get(scheme), stride, dilation, options)

    @classmethod
    def _of_custom(cls, node: Node) -> _Window:
        """TfLiteTransposeConvParams as bytes: padding, stride along the width and the height."""
        data = node.operator.CustomOptionsAsNumpy()
        if not isinstance(data, np.ndarray) or data.nbytes < 12:
            raise LeanconvError("malformed node: no options")
        scheme, stride_width, stride_height = (int(value) for value in data[:12].view("<i4"))
        padding = {1: "SAME", 2: "VALID"}.get(scheme)
        return cls._checked(padding, (stride_height, stride_width), (1, 1), None)

    @classmethod
    def _checked(
        cls, padding: str | None, stride: tuple[int, int], dilation: tuple[int, int], options: Any
    ) -> _Window:
        if min(*stride, *dilation) < 1:
            raise LeanconvError(f"malformed node: stride {stride}, dilation {dilation}")
        activation: str | None = "none"
        if options is not None:
            activation = ACTIVATIONS.get(options.FusedActivationFunction())
        if activation is None:
            raise LeanconvError("fused activation is not supported")
        if padding is None:
            raise LeanconvError("unknown padding")
        return cls(padding, stride, dilation, activation)

    def sizes(
        self, image: Sequence[int], kernel: Sequence[int], out_channels: int
    ) -> dict[str, Any]:
        """The geometry of a layer over NHWC images, but for its padding and groups."""
        batch, height, width, channels = image
        return {
            "batch": batch,
            "in_height": height,
            "in_width": width,
            "in_channels": channels,
            "out_channels": out_channels,
            "kernel_height": kernel[0],
            "kernel_width": kernel[1],
            "stride_height": self.stride[0],
            "stride_width": self.stride[1],
            "dilation_height": self.dilation[0],
            "dilation_width": self.dilation[1],
            "activation": self.activation,
        }


def layer_operator(node: Node) -> str | None:
    """The operator's name, if it is one that layers are made of."""
    return node.custom if node.custom in CUSTOM_OPERATORS else OPERATORS.get(node.code)


def read_layer(graph: Graph, node: Node) -> Layer:
    """``node``, which has a :func:`layer_operator`, as a layer of its own."""
    op = layer_operator(node)
    assert op is not None, "not a layer's operator"
    kind = _KINDS.get(op, TRANSPOSED)
    facts: dict[str, Any] = {}  # all that is known until something makes no sense
    try:
        if kind == TRANSPOSED:
            _read_transposed(graph, node, op, facts)
        elif op == winograd.NAME:
            _read_winograd(graph, node, facts)
        elif kind == VOLUME:
            _read_volume(graph, node, op, facts)
        else:
            _read_direct(graph, node, op, facts)
    except LeanconvError as error:
        facts["reason"] = str(error)
    return replace(Layer(node.index, op, kind, "?", None, None, 0, 0, (node.index,)), **facts)


def _operands(node: Node, *order: int | None) -> tuple[int, int, int, int | None, int | None]:
    """Input, weights, output, bias and output shape; all but the third by their places."""
    x, weights, bias, shape = (
        None if place is None or place >= len(node.inputs) else node.inputs[place]
        for place in order
    )
    y = node.outputs[0] if node.outputs else None
    if x is None or weights is None or y is None:
        raise LeanconvError("malformed node: input, weights or output missing")
    return x, weights, y, bias, shape


def _read_direct(graph: Graph, node: Node, op: str, facts: dict[str, Any]) -> None:
    x_index, w_index, y_index, bias_index, _ = _operands(node, 0, 1, 2, None)
    x, stored, y = (graph.tensor(index) for index in (x_index, w_index, y_index))
    is_dense = op == "FULLY_CONNECTED"
    if len(stored.shape) != (2 if is_dense else 4) or min(stored.shape) < 1:
        raise LeanconvError(f"malformed node: weights of shape {list(stored.shape)}")
    weights = graph.constant_behind(w_index)
    facts["weight_bytes"] = weights.bytes
    window = _Window.of(op, node)
    channels = f"{_input_channels(op, weights)}->{_outputs(op, weights)}"
    facts["geometry"] = f"{_kind(op, weights)} ?x?x{channels}"
    if not x.is_known or (not is_dense and len(x.shape) != 4):
        raise LeanconvError("input shape is not known before the model runs")
    workload = _with_type(_workload(op, x, weights, window), weights)
    facts |= {"geometry": describe(_KINDS[op], workload), "macs": workload.macs}
    bias = None if bias_index is None else graph.constant_behind(bias_index)
    if x.type in TYPES and {x.type, y.type, weights.type} == {x.type}:
        workload = replace(workload, dtype=x.type, weight_dtype=x.type, rounding=READ_ROUNDING)
        facts["geometry"] = describe(_KINDS[op], workload)
        axis = 3 if op == "DEPTHWISE_CONV_2D" else 0
        check_quantisation(graph, x_index, w_index, y_index, axis)
        facts["overflows_pairs"] = overflows_pairs(graph, w_index, workload)
    if stored.type == "int8" and {x.type, y.type} == {"float32"}:
        rounding = _dynamic_rounding(graph, node, op, w_index)
        workload = replace(workload, weight_dtype="int8", rounding=rounding)
        facts["geometry"] = describe(_KINDS[op], workload)
        if workload.groups > 1 and op != "DEPTHWISE_CONV_2D":
            raise LeanconvError("int8 weights of groups whose image is quantised as a whole")
        facts["overflows_pairs"] = overflows_pairs(graph, w_index, workload)
    types = {x.type, y.type}
    if types == {"float16"}:
        workload, types = replace(workload, dtype="float16"), {"float32"}
        facts["geometry"] = describe(_KINDS[op], workload)
    _check_constants(types, weights, bias, workload.out_channels)
    if workload.dtype == "float32" and weights.type == "int8":
        check_scales(graph, graph.dequantized_by(w_index), 3 if op == "DEPTHWISE_CONV_2D" else 0)
    zeros, facts["zero_filters"] = zeros_of_layer(graph, w_index, workload)
    workload = replace(workload, zeros=zeros)
    facts |= {"workload": workload, "input": x_index, "output": y_index}
    if workload.zeros:
        facts["geometry"] = describe(_KINDS[op], workload)
    if weights.sparsity is None:
        facts["weight_order"] = "taps" if op == "DEPTHWISE_CONV_2D" else "rows"
    if bias is not None and bias.type == "float32" and bias.sparsity is None:
        facts["is_float_biased"] = True


def _read_transposed(graph: Graph, node: Node, op: str, facts: dict[str, Any]) -> None:
    """Its workload is the sub-pixel convolution."""
    # A TRANSPOSE_CONV has the shape of its output in front, the custom operator does not.
    is_builtin = op == "TRANSPOSE_CONV"
    x_index, w_index, y_index, bias_index, shape_index = _operands(
        node, *((2, 1, 3, 0) if is_builtin else (0, 1, 2, None))
    )
    weights, x, y = graph.constant_behind(w_index), graph.tensor(x_index), graph.tensor(y_index)
    if len(weights.shape) != 4 or min(weights.shape) < 1:
        raise LeanconvError(f"malformed node: weights of shape {list(weights.shape)}")
    channels, kernel_height, kernel_width, depth = weights.shape
    name = f"tconv{kernel_height}x{kernel_width}"
    facts |= {"geometry": f"{name} ?x?x{depth}->{channels}", "weight_bytes": weights.bytes}
    window = _Window.of(op, node)
    if not x.is_known or len(x.shape) != 4:
        raise LeanconvError("input shape is not known before the model runs")
    out: list[int] | list[None] = [None, None]
    if is_builtin:
        shape = None if shape_index is None else graph.integers(shape_index)
        if shape is None or len(shape) != 4:
            raise LeanconvError("the shape of its output is computed at run time")
        out = shape[1:3]
    batch, height, width, in_channels = x.shape
    if in_channels != depth:
        raise LeanconvError(f"malformed node: {in_channels} channels, weights for {depth}")
    same = window.padding == "SAME"
    rows = upsampling.Axis.of(height, out[0], kernel_height, window.stride[0], same)
    columns = upsampling.Axis.of(width, out[1], kernel_width, window.stride[1], same)
    workload = upsampling.workload(
        (batch, height, width, depth), channels, rows, columns, window.activation
    )
    workload = _with_type(workload, weights)
    strides = "x".join(map(str, dict.fromkeys(window.stride)))
    activation = "" if window.activation == "none" else f" {window.activation}"
    facts["geometry"] = f"{name} s{strides} {height}x{width}x{depth}->{channels}{activation}"
    facts["macs"] = batch * height * width * math.prod(weights.shape)
    if x.type in TYPES and {x.type, y.type, weights.type} == {x.type}:
        workload = replace(workload, dtype=x.type, weight_dtype=x.type, rounding=READ_ROUNDING)
        facts["geometry"] += f" {x.type} {READ_ROUNDING}"
        check_quantisation(graph, x_index, w_index, y_index, 0)
        # Else taps, which come in another order, share vectors. Of uint8, taps that are not there
        # are zero points.
        in_vectors = depth % (SPREAD * WORD) == 0 and x.type == "int8"
        facts["overflows_pairs"] = not in_vectors or overflows_pairs(graph, w_index, workload)
    bias = None if bias_index is None else graph.constant_behind(bias_index)
    _check_constants({x.type, y.type}, weights, bias, channels)
    if x.type == "float32" and weights.type == "int8":
        if graph.dtype(w_index) == "int8":
            raise LeanconvError("int8 weights of a transposed convolution: not supported")
        check_scales(graph, graph.dequantized_by(w_index), 0)
    facts |= {"workload": workload, "input": x_index, "output": y_index}
    facts["staged_bytes"] = workload.with_batch(1).output_bytes


def _read_volume(graph: Graph, node: Node, op: str, facts: dict[str, Any]) -> None:
    """Its weights have the output channels last."""
    x_index, w_index, y_index, bias_index, _ = _operands(node, 0, 1, 2, None)
    weights, x, y = graph.constant_behind(w_index), graph.tensor(x_index), graph.tensor(y_index)
    if len(weights.shape) != 5 or min(weights.shape) < 1:
        raise LeanconvError(f"malformed node: weights of shape {list(weights.shape)}")
    *kernel, depth, channels = weights.shape
    name = f"conv{'x'.join(map(str, kernel))}"
    facts |= {"geometry": f"{name} ?x?x?x{depth}->{channels}", "weight_bytes": weights.bytes}
    window = _Window.of(op, node)
    options: Any = node.options(_OPTIONS[op])
    if not x.is_known or len(x.shape) != 5:
        raise LeanconvError("input shape is not known before the model runs")
    if x.shape[4] != depth:
        raise LeanconvError(f"malformed node: {x.shape[4]} channels, weights for {depth}")
    if min(options.StrideD(), options.DilationDFactor()) < 1:
        raise LeanconvError("malformed node: stride or dilation below 1")
    workload = Conv3dWorkload.with_padding(
        window.padding,
        in_depth=x.shape[1],
        kernel_depth=kernel[0],
        stride_depth=options.StrideD(),
        dilation_depth=options.DilationDFactor(),
        **window.sizes((x.shape[0], *x.shape[2:]), kernel[1:], channels),
    )
    facts |= {"geometry": workload.describe(), "macs": workload.macs}
    bias = None if bias_index is None else graph.constant_behind(bias_index)
    if weights.type == "int8":
        raise LeanconvError("int8 weights of a convolution of volumes: not supported")
    _check_constants({x.type, y.type}, weights, bias, channels)
    workload = replace(workload, weight_dtype=weights.type)
    facts |= {"workload": workload, "input": x_index, "output": y_index}


def _read_winograd(graph: Graph, node: Node, facts: dict[str, Any]) -> None:
    """Its weights have the output channels last."""
    x_index, w_index, y_index, bias_index, _ = _operands(node, 0, 1, 2, None)
    weights, x, y = (graph.tensor(index) for index in (w_index, x_index, y_index))
    if len(weights.shape) != 3 or min(weights.shape) < 1:
        raise LeanconvError(f"malformed node: weights of shape {list(weights.shape)}")
    facts["weight_bytes"] = weights.bytes
    if not x.is_known or len(x.shape) != 4:
        raise LeanconvError("input shape is not known before the model runs")
    workload = winograd.read_workload(graph, node, x, weights)
    facts |= {"geometry": workload.describe(), "macs": workload.macs}
    bias = None if bias_index is None else graph.constant_behind(bias_index)
    _check_constants({x.type, y.type}, weights, bias, workload.out_channels)
    facts |= {"workload": workload, "input": x_index, "output": y_index}


def _dynamic_rounding(graph: Graph, node: Node, op: str, weights: int) -> str:
    """That of TFLite's own kernel on x86, until :mod:`tflite_delegate.read.dynamic` knows more."""
    if op == "DEPTHWISE_CONV_2D":
        return "builtin_depthwise"
    if op == "FULLY_CONNECTED":
        options = node.options(_OPTIONS[op])
        is_asymmetric = options is not None and options.AsymmetricQuantizeInputs()
        return "builtin_asymmetric_rows" if is_asymmetric else "builtin_symmetric_rows"
    return "builtin_symmetric" if has_one_scale(graph, weights, 0) else "builtin_asymmetric"


def _kind(op: str, weights: Tensor) -> str:
    if op == "FULLY_CONNECTED":
        return "dense"
    prefix = "dwconv" if op == "DEPTHWISE_CONV_2D" else "conv"
    return f"{prefix}{weights.shape[1]}x{weights.shape[2]}"


def _input_channels(op: str, weights: Tensor) -> int | str:
    return "?" if op == "DEPTHWISE_CONV_2D" else weights.shape[-1]


def _outputs(op: str, weights: Tensor) -> int:
    return weights.shape[-1 if op == "DEPTHWISE_CONV_2D" else 0]


def _with_type(workload: Conv2dWorkload, weights: Tensor) -> Conv2dWorkload:
    """``workload`` with weights of float16 or int8, if the model has them so."""
    is_narrow = weights.type in ("float16", "int8")
    return replace(workload, weight_dtype=weights.type) if is_narrow else workload


def _workload(op: str, x: Tensor, weights: Tensor, window: _Window) -> Conv2dWorkload:
    """What the node computes; raises LeanconvError where shapes do not fit together."""
    if op == "FULLY_CONNECTED":
        units, depth = weights.shape
        rows, rest = divmod(math.prod(x.shape), depth)
        if rest:
            raise LeanconvError(f"malformed node: input {list(x.shape)}, weights for {depth}")
        return Conv2dWorkload(1, rows, depth, units, 1, 1, activation=window.activation)
    channels = x.shape[3]
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
    kernel = (kernel_height, kernel_width)
    return Conv2dWorkload.with_padding(
        window.padding, groups=groups, **window.sizes(x.shape, kernel, out_channels)
    )


def _check_constants(
    types: set[str], weights: Tensor, bias: Tensor | None, out_channels: int
) -> None:
    """Refuse a layer of good shape whose tensors are not what kernels read."""
    is_quantised = len(types) == 1 and types <= {*TYPES} and types == {weights.type}
    foreign = [] if is_quantised else sorted(types - {"float32"})
    if foreign:
        raise LeanconvError(f"{' and '.join(foreign)} tensors: not supported yet")
    for name, constant in (("weights", weights), ("bias", bias)):
        if constant is None:
            continue
        known: tuple[str, ...] = ("float32", "float16")
        if types == {"float32"} and weights.type == "int8":
            known = ("int8",) if name == "weights" else ("float32",)
        if is_quantised:
            known = TYPES if name == "weights" else ("int32", "int32")
        if constant.type not in known or (known[0] in (*TYPES, "int32") and constant.sparsity):
            raise LeanconvError(f"{constant.type} {name}: not supported yet")
        if not constant.is_constant:
            are = "are" if name == "weights" else "is"
            raise LeanconvError(f"{name} {are} computed at run time")
    if not weights.is_whole_constant:
        raise LeanconvError("weights are incomplete")
    if bias and not (bias.is_whole_constant and math.prod(bias.shape) == out_channels):
        raise LeanconvError("malformed node: bias does not fit the weights")
