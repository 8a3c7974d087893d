"""Layers of floats whose weights the model has in int8, as the delegate computes them.

Without a DEQUANTIZE in front of the weights, TFLite quantises the image by its range: a hybrid
layer. Behind one, products are of floats.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from tvm import relax

from schedules.layer.network import DENSE, DEPTHWISE
from schedules.relax.hybrid import hybrid_layer
from tflite_delegate.importer.conversions.operation import Operation, Quantization
from tflite_delegate.importer.quantised.geometry import (
    KINDS,
    image_of,
    kind_of,
    ohwi,
    reshaped,
    workload_of,
)
from tflite_delegate.rules import dynamic_rule


def hybrid_layer_of(operation: Operation) -> relax.Expr | None:
    """``None`` if it is no such layer, or not quantised as TFLite's kernels need it."""
    stored = operation.stored(1)
    if stored is None or stored[0].dtype != np.int8 or operation.output_type() != "float32":
        return None
    weights, quantization = stored
    operator = KINDS[operation.name]
    axis = 3 if operator == DEPTHWISE else 0
    scales, bias = _scales(quantization, weights, axis), _bias(operation, weights.shape[axis])
    if scales is None or bias is None:
        return None
    workload = workload_of(operation, weight_dtype="int8")
    kind = kind_of(operator, workload)
    if operation.input_type(1) == "int8":
        if workload.groups > 1 and not workload.is_depthwise:
            return None  # the image is quantised as a whole
        workload = replace(workload, rounding=_read_rule(operation, operator, scales))
        rule = dynamic_rule(operation.rounding, operator, workload, operation.simd)
        workload = replace(workload, rounding=rule)
    layer = (kind, workload, image_of(operation), ohwi(workload, weights))
    result = hybrid_layer(operation.converter.bb, *layer, bias, scales, operation.simd)
    return reshaped(operation, result)


def _read_rule(operation: Operation, operator: str, scales: NDArray[np.float32]) -> str:
    """That of TFLite's own kernel on x86, from which others follow."""
    if operator == DEPTHWISE:
        return "builtin_depthwise"
    if operator == DENSE:
        is_asymmetric = operation.options["asymmetricQuantizeInputs"]
        return "builtin_asymmetric_rows" if is_asymmetric else "builtin_symmetric_rows"
    return "builtin_symmetric" if (scales == scales[0]).all() else "builtin_asymmetric"


def _scales(
    quantization: Quantization, weights: NDArray[np.int8], axis: int
) -> NDArray[np.float32] | None:
    """One for each output channel."""
    scales, channels = quantization.scale, weights.shape[axis]
    if scales.size > 1 and scales.shape[axis] != channels:
        return None
    if not (np.isfinite(scales) & (scales > 0)).all() or quantization.zero_point.any():
        return None
    return np.broadcast_to(scales.ravel(), channels).astype(np.float32)


def _bias(operation: Operation, channels: int) -> NDArray[np.float32] | None:
    if not operation.has(2):
        return np.zeros(channels, np.float32)
    bias = operation.constant(2)
    fits = bias is not None and bias.dtype == np.float32 and bias.size == channels
    return bias.reshape(channels) if bias is not None and fits else None
