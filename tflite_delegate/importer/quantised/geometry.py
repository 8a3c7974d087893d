"""Convolutions and fully-connected nodes as layers that are computed from weights of integers."""

from __future__ import annotations

import math
from typing import Any

from numpy.typing import NDArray
from tvm import relax

from schedules.errors import LeanconvError
from schedules.layer.network import CONV, DENSE, DEPTHWISE
from schedules.layer.workload import Conv2dWorkload
from tflite_delegate.importer.conversions.layers import RESHAPED, as_matrix, window_of
from tflite_delegate.importer.conversions.operation import Operation
from tflite_delegate.read.graph import ACTIVATIONS

#: What an operator is to the rules.
KINDS = {"CONV_2D": CONV, "DEPTHWISE_CONV_2D": DEPTHWISE, "FULLY_CONNECTED": DENSE}


def workload_of(operation: Operation, **types: str) -> Conv2dWorkload:
    """The layer that a node is, of these types of elements."""
    activation = ACTIVATIONS[operation.options["fusedActivationFunction"]]
    make = _dense if KINDS[operation.name] == DENSE else _conv
    return make(operation, activation, **types)


def kind_of(operator: str, workload: Conv2dWorkload) -> str:
    """What a layer is to kernels: a depthwise operator on one channel is a convolution."""
    return operator if operator == DENSE or workload.is_depthwise else CONV


def image_of(operation: Operation) -> relax.Expr:
    """What the layer reads: of a fully-connected one a matrix."""
    image = operation.codes(0)
    return as_matrix(operation, image) if KINDS[operation.name] == DENSE else image


def ohwi(workload: Conv2dWorkload, stored: NDArray[Any]) -> NDArray[Any]:
    """Weights as a node has them, in the order of kernels."""
    if stored.ndim == 4 and stored.shape != workload.weight_shape:
        return stored.transpose(3, 1, 2, 0)
    return stored.reshape(workload.weight_shape)


def reshaped(operation: Operation, result: relax.Expr) -> relax.Expr:
    """A layer's result in the shape that the model has."""
    to_shape = RESHAPED.get(operation.name)
    return result if to_shape is None else to_shape(operation, operation.emit(result))


def _conv(operation: Operation, activation: str, **others: Any) -> Conv2dWorkload:
    batch, height, width, channels = operation.shape(0)
    stored = operation.shape(1)
    if operation.name == "DEPTHWISE_CONV_2D":
        results, groups = stored[3], channels
    else:
        results, groups = stored[0], channels // stored[3]
    if channels % groups or results % groups:
        raise LeanconvError(f"weights of {list(stored)} over an image of {channels} channels")
    window = window_of(operation)
    top, left, bottom, right = window["padding"]
    return Conv2dWorkload(
        in_height=height,
        in_width=width,
        in_channels=channels,
        out_channels=results,
        kernel_height=stored[1],
        kernel_width=stored[2],
        batch=batch,
        stride_height=window["strides"][0],
        stride_width=window["strides"][1],
        dilation_height=window["dilation"][0],
        dilation_width=window["dilation"][1],
        pad_top=top,
        pad_bottom=bottom,
        pad_left=left,
        pad_right=right,
        groups=groups,
        activation=activation,
        **others,
    )


def _dense(operation: Operation, activation: str, **others: Any) -> Conv2dWorkload:
    units, depth = operation.shape(1)
    rows = math.prod(operation.shape(0)) // depth
    return Conv2dWorkload(1, rows, depth, units, 1, 1, activation=activation, **others)
