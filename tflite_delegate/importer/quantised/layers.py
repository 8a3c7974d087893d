"""Convolutions and fully-connected layers of int8 or uint8, by LiteRT's rules."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from tvm import relax

from schedules.errors import LeanconvError
from schedules.kernel.quantised.quantisation import Quantisation
from schedules.layer.network import CONV, DEPTHWISE, TRANSPOSED
from schedules.layer.workload import Conv2dWorkload
from schedules.relax.quantised import quantised_layer
from tflite_delegate.importer.conversions.layers import axes_of
from tflite_delegate.importer.conversions.operation import Operation
from tflite_delegate.importer.quantised.codes import Codes
from tflite_delegate.importer.quantised.geometry import (
    KINDS,
    image_of,
    kind_of,
    ohwi,
    reshaped,
    workload_of,
)
from tflite_delegate.importer.quantised.hybrid import hybrid_layer_of
from tflite_delegate.importer.transposed import spread_pixels
from tflite_delegate.read import upsampling
from tflite_delegate.read.graph import ACTIVATIONS
from tflite_delegate.read.quantisation import MOST_RATIO
from tflite_delegate.rules import cases


def _layer(operation: Operation) -> relax.Expr | None:
    """``None`` if there is no rule for its types, or if it is not quantised as the rule needs."""
    if operation.input_type(0) == "float32":
        return hybrid_layer_of(operation)
    x, y, stored = Codes.of_input(operation), Codes.of_output(operation), operation.constant(1)
    if x is None or y is None or stored is None:
        return None
    if not x.dtype == y.dtype == operation.input_type(1):
        return None
    operator = KINDS[operation.name]
    axis = 3 if operator == DEPTHWISE else 0
    weights, bias = _weight_codes(operation, axis), _bias(operation, 2, stored.shape[axis])
    if weights is None or bias is None:
        return None
    workload = workload_of(operation, dtype=x.dtype, weight_dtype=x.dtype)
    ruled = _by_rule(operation, operator, workload, weights, (x, y))
    if ruled is None:
        return None
    workload, quantisation = ruled
    layer = (kind_of(operator, workload), workload, image_of(operation), ohwi(workload, stored))
    result = quantised_layer(operation.converter.bb, *layer, bias, quantisation)
    return reshaped(operation, result)


def _transposed(operation: Operation) -> relax.Expr | None:
    """Likewise; a sub-pixel convolution, and its pixels spread."""
    x, y, stored = Codes.of_input(operation, 2), Codes.of_output(operation), operation.constant(1)
    if x is None or y is None or stored is None:
        return None
    weights, bias = _weight_codes(operation, 0), _bias(operation, 3, len(stored))
    if weights is None or bias is None or not x.dtype == y.dtype == operation.input_type(1):
        return None
    rows, columns = axes_of(operation)
    phases = rows.stride * columns.stride
    batch, height, width, depth = operation.shape(2)
    activation = ACTIVATIONS[operation.options["fusedActivationFunction"]]
    shape = (batch, height, width, depth)
    workload = upsampling.workload(shape, len(stored), rows, columns, activation)
    workload = replace(workload, dtype=x.dtype, weight_dtype=x.dtype)
    scales, zero = weights
    own = (np.tile(scales, phases) if scales.size > 1 else scales), zero
    ruled = _by_rule(operation, TRANSPOSED, workload, own, (x, y))
    if ruled is None:
        return None
    subpixels = upsampling.weights(stored, rows, columns, zero)
    builder = operation.converter.bb
    result = quantised_layer(
        builder, CONV, ruled[0], operation.codes(2), subpixels, np.tile(bias, phases), ruled[1]
    )
    return spread_pixels(operation.emit(result), workload, rows, columns)


def _by_rule(
    operation: Operation,
    kind: str,
    workload: Conv2dWorkload,
    weights: tuple[NDArray[np.float32], int],
    ends: tuple[Codes, Codes],
) -> tuple[Conv2dWorkload, Quantisation] | None:
    """The layer with its rule, and what that computes with; ``ends`` are of input and output."""
    x, y = ends
    known = cases(operation.rounding, operation.simd)
    rule = next((case.rule for case in known if case.fits(kind, workload)), None)
    if rule is None:
        raise LeanconvError(f"no rule is known of {operation.rounding} kernels of {x.dtype}")
    workload = replace(workload, rounding=rule)
    if not (x.scale * weights[0] / y.scale < np.float32(MOST_RATIO)).all():
        return None
    image, output = ((float(codes.scale), codes.zero) for codes in ends)
    return workload, Quantisation.of(workload, weights, image, output, kind)


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


def _bias(operation: Operation, position: int, channels: int) -> NDArray[np.int32] | None:
    """Zeros if there is none; its own scale is never looked at."""
    if not operation.has(position):
        return np.zeros(channels, np.int32)
    bias = operation.constant(position)
    fits = bias is not None and bias.dtype == np.int32 and bias.size == channels
    return bias.reshape(channels) if bias is not None and fits else None


CONVERSIONS = {**dict.fromkeys(KINDS, _layer), "TRANSPOSE_CONV": _transposed}
