"""Convolutions and products of matrices, in the forms in which leanconv's planner reads them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import relax

from schedules.errors import LeanconvError
from tflite_delegate.importer.conversions.operation import Operation
from tflite_delegate.importer.conversions.windows import same_padding
from tflite_delegate.importer.transposed import transposed_convolution
from tflite_delegate.read.upsampling import Axis


def _conv(operation: Operation) -> relax.Expr:
    """Weights OHWI become HWIO; fewer channels than the image has are those of a group."""
    channels, in_group = operation.shape(0)[3], operation.shape(1)[3]
    if channels % in_group:
        raise LeanconvError(f"weights of {in_group} channels over an image of {channels}")
    weights = relax.op.permute_dims(operation.value(1), [1, 2, 3, 0])
    return _convolved(operation, weights, "HWIO", channels // in_group)


def _depthwise(operation: Operation) -> relax.Expr:
    """Weights (1, H, W, channels * multiplier), as TVM's importer lays them out."""
    channels, (_, height, width, results) = operation.shape(0)[3], operation.shape(1)
    if results % channels:
        raise LeanconvError(f"weights of {results} channels over an image of {channels}")
    layout, last = ("HWIO", (1, results)) if channels == 1 else ("HWOI", (results, 1))
    weights = relax.op.reshape(operation.value(1), (height, width, *last))
    return _convolved(operation, weights, layout, channels)


def window_of(operation: Operation) -> dict[str, Any]:
    """The steps of a convolution's window, along height and width, and Relax's padding."""
    options, (_, height, width, _) = operation.options, operation.shape(0)
    dilation = options["dilationHFactor"], options["dilationWFactor"]
    kernel = operation.shape(1)[1:3]
    if min(dilation) < 1:
        raise LeanconvError(f"dilations of {dilation}")
    reach = (dilation[0] * (kernel[0] - 1) + 1, dilation[1] * (kernel[1] - 1) + 1)
    return {
        "strides": (options["strideH"], options["strideW"]),
        "padding": same_padding(operation, (height, width), reach),
        "dilation": dilation,
    }


def _convolved(operation: Operation, weights: relax.Expr, layout: str, groups: int) -> relax.Expr:
    result = relax.op.nn.conv2d(
        operation.value(0),
        weights,
        **window_of(operation),
        groups=groups,
        data_layout="NHWC",
        kernel_layout=layout,
    )
    return _with_bias(operation, result)


def _conv3d(operation: Operation) -> relax.Expr:
    options, (_, *volume, channels) = operation.options, operation.shape(0)
    *kernel, in_channels, _ = operation.shape(1)
    dilation = [options[f"dilation{axis}Factor"] for axis in "DHW"]
    if min(dilation) < 1 or channels != in_channels:
        raise LeanconvError(f"dilations of {dilation}, weights of {in_channels} channels")
    reach = [step * (taps - 1) + 1 for step, taps in zip(dilation, kernel, strict=True)]
    result = relax.op.nn.conv3d(
        operation.value(0),
        operation.value(1),
        strides=[options[f"stride{axis}"] for axis in "DHW"],
        padding=same_padding(operation, volume, reach, "DHW"),
        dilation=dilation,
        data_layout="NDHWC",
        kernel_layout="DHWIO",
    )
    return _with_bias(operation, result)


def _fully_connected(operation: Operation) -> relax.Expr:
    matrix = as_matrix(operation, operation.value(0))
    weights = relax.op.permute_dims(operation.value(1), [1, 0])
    return _with_bias(operation, relax.op.matmul(matrix, weights))


def as_matrix(operation: Operation, x: relax.Expr) -> relax.Expr:
    """``x``, the first input, as rows as long as the weights, wherever dimensions end."""
    shape, depth = operation.shape(0), operation.shape(1)[1]
    rows, remainder = divmod(math.prod(shape), depth)
    if remainder:
        raise LeanconvError(f"weights of {depth} columns for an input of {list(shape)}")
    return x if shape == (rows, depth) else operation.emit(relax.op.reshape(x, (rows, depth)))


def _in_shape(operation: Operation, result: relax.Expr) -> relax.Expr:
    """The rank of the input, where the model keeps it."""
    shape, (units, depth) = operation.shape(0), operation.shape(1)
    if not operation.options["keepNumDims"]:
        return result
    if shape[-1] != depth:
        raise LeanconvError(f"keepNumDims with weights of {depth} columns for {list(shape)}")
    return relax.op.reshape(result, (*shape[:-1], units))


def axes_of(operation: Operation) -> tuple[Axis, Axis]:
    """Rows and columns of a transposed convolution."""
    _, height, width, _ = operation.integers(0, "shapes")
    options, shape, kernel = operation.options, operation.shape(2), operation.shape(1)
    is_same = options["padding"] == 0
    rows = Axis.of(shape[1], height, kernel[1], options["strideH"], is_same)
    return rows, Axis.of(shape[2], width, kernel[2], options["strideW"], is_same)


def _transpose_conv(operation: Operation) -> relax.Expr:
    """As a sub-pixel convolution, with the output's exact size."""
    rows, columns = axes_of(operation)
    shape, weights = operation.shape(2), operation.numbers(1, "weights")
    bias = _bias(operation, 3, 2) if operation.has(3) else None
    return transposed_convolution(operation.value(2), shape, weights, bias, rows, columns)


def _with_bias(operation: Operation, result: relax.Expr) -> relax.Expr:
    if not operation.has(2):
        return result
    is_computed = operation.constant(2) is None and operation.input_type(2) == "float32"
    bias = operation.codes(2) if is_computed else relax.const(_bias(operation, 2, 0))
    return relax.op.add(result, bias)


def _bias(operation: Operation, position: int, image: int) -> NDArray[np.float32]:
    """A quantised bias has the scale of what it is added to, whatever the file says."""
    bias = operation.parameter(position, "quantised biases")
    if operation.input_type(position) == "float32":
        return bias
    scales = operation.input_quantization(image), operation.input_quantization(1)
    if scales[0] is None or scales[1] is None:
        raise LeanconvError(f"a bias of type {operation.input_type(position)}")
    scale = scales[0].scale.ravel() * scales[1].scale.ravel()
    return (bias.astype(np.float64) * scale).astype(np.float32)


def _batch_matmul(operation: Operation) -> relax.Expr:
    def oriented(position: int, is_transposed: bool) -> relax.Expr:
        axes = list(range(len(operation.shape(position))))
        if len(axes) < 2:
            raise LeanconvError(f"a tensor with {len(axes)} dimensions is no matrix")
        x = operation.value(position)
        return relax.op.permute_dims(x, [*axes[:-2], axes[-1], axes[-2]]) if is_transposed else x

    options = operation.options
    return relax.op.matmul(oriented(0, options["adjX"]), oriented(1, options["adjY"]))


ON_VALUES = {
    "BATCH_MATMUL": _batch_matmul,
    "CONV_2D": _conv,
    "CONV_3D": _conv3d,
    "DEPTHWISE_CONV_2D": _depthwise,
    "FULLY_CONNECTED": _fully_connected,
    "TRANSPOSE_CONV": _transpose_conv,
}
#: Where the form that the planner reads ends before the shape that the model has.
RESHAPED = {"FULLY_CONNECTED": _in_shape}
