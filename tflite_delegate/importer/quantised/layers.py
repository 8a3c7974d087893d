"""Convolutions and fully-connected layers of int8 or uint8, by XNNPACK's rules."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import relax

from schedules.errors import LeanconvError
from schedules.kernel.quantised.quantisation import Quantisation
from schedules.layer.network import CONV, DENSE, DEPTHWISE
from schedules.layer.workload import Conv2dWorkload
from schedules.relax.quantised import quantised_layer
from tflite_delegate.importer.conversions.layers import RESHAPED, as_matrix, window_of
from tflite_delegate.importer.conversions.operation import Operation
from tflite_delegate.importer.quantised.codes import Codes
from tflite_delegate.read.graph import ACTIVATIONS
from tflite_delegate.read.quantisation import MOST_RATIO
from tflite_delegate.rules import DEFAULT, cases

#: What an operator is to the rules.
_KINDS = {"CONV_2D": CONV, "DEPTHWISE_CONV_2D": DEPTHWISE, "FULLY_CONNECTED": DENSE}


def _layer(operation: Operation) -> relax.Expr | None:
    """``None`` if there is no rule for its types, or if it is not quantised as the rule needs."""
    x, y, stored = Codes.of_input(operation), Codes.of_output(operation), operation.constant(1)
    if x is None or y is None or stored is None:
        return None
    if not x.dtype == y.dtype == operation.input_type(1):
        return None
    operator = _KINDS[operation.name]
    axis = 3 if operator == DEPTHWISE else 0
    weights, bias = _weight_codes(operation, axis), _bias(operation, stored.shape[axis])
    if weights is None or bias is None:
        return None
    workload = (_dense if operator == DENSE else _conv)(
        operation,
        dtype=x.dtype,
        weight_dtype=x.dtype,
        activation=ACTIVATIONS[operation.options["fusedActivationFunction"]],
    )
    rules = (case.rule for case in cases(DEFAULT, operation.simd) if case.fits(operator, workload))
    workload = replace(workload, rounding=next(rules))
    if not (x.scale * weights[0] / y.scale < np.float32(MOST_RATIO)).all():
        return None
    ends = ((float(codes.scale), codes.zero) for codes in (x, y))
    quantisation = Quantisation.of(workload, weights, *ends)
    ohwi = stored.transpose(3, 1, 2, 0) if axis else stored.reshape(workload.weight_shape)
    image = operation.codes(0)
    if operator == DENSE:
        image = as_matrix(operation, image)
    kind = operator if operator == DENSE or workload.is_depthwise else CONV
    builder = operation.converter.bb
    result = quantised_layer(builder, kind, workload, image, ohwi, bias, quantisation)
    reshaped = RESHAPED.get(operation.name)
    return result if reshaped is None else reshaped(operation, operation.emit(result))


def _conv(operation: Operation, **others: Any) -> Conv2dWorkload:
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
        **others,
    )


def _dense(operation: Operation, **others: Any) -> Conv2dWorkload:
    units, depth = operation.shape(1)
    rows = math.prod(operation.shape(0)) // depth
    return Conv2dWorkload(1, rows, depth, units, 1, 1, **others)


def _weight_codes(operation: Operation, axis: int) -> tuple[NDArray[np.float32], int] | None:
    """Scales, one or one for each channel, and the zero point; ``None`` if there are others.

    As converters write them: uint8 has one scale, and int8 zero points of 0.
    """
    quantization = operation.input_quantization(1)
    if quantization is None:
        return None
    scales, zeros = quantization.scale, quantization.zero_point
    is_unsigned = operation.input_type(1) == "uint8"
    if scales.size > 1 and (is_unsigned or scales.shape[axis] != operation.shape(1)[axis]):
        return None
    if not (np.isfinite(scales) & (scales > 0)).all() or (zeros.any() and not is_unsigned):
        return None
    return scales.ravel(), int(zeros.ravel()[0])


def _bias(operation: Operation, channels: int) -> NDArray[np.int32] | None:
    """Zeros if there is none; its own scale is never looked at."""
    if not operation.has(2):
        return np.zeros(channels, np.int32)
    bias = operation.constant(2)
    fits = bias is not None and bias.dtype == np.int32 and bias.size == channels
    return bias.reshape(channels) if bias is not None and fits else None


CONVERSIONS = dict.fromkeys(("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"), _layer)
