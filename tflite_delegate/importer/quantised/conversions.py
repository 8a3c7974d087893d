"""QUANTIZE, as XNNPACK computes it; codes of another type as TFLite's own kernel does.

By another choice of rounding TFLite's own kernels compute both QUANTIZE and DEQUANTIZE.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import relax, te, tirx

from tflite_delegate.importer.conversions.operation import Operation
from tflite_delegate.importer.quantised import own_kernels
from tflite_delegate.importer.quantised.codes import Codes, clamped, nearest, real
from tflite_delegate.importer.quantised.tables import recoded
from tflite_delegate.rules import BUILTIN


def _quantize(operation: Operation) -> relax.Expr | None:
    y = Codes.of_output(operation)
    if operation.input_type(0) != "float32" or y is None:
        return recoded(operation)
    if not operation.as_xnnpack:
        return own_kernels.quantize(operation, y)
    inverse, least, most = (
        real(value) for value in (np.float32(1) / y.scale, y.least - y.zero, y.most - y.zero)
    )

    def compute(x: te.Tensor) -> te.Tensor:
        def code(*index: Any) -> Any:
            steps = tirx.max(tirx.min(x[index] * inverse, most), least)
            return clamped(nearest(steps) + y.zero, (y.least, y.most), y.dtype)

        return te.compute(x.shape, code, name="code")

    return operation.compute(compute, operation.codes(0))


def _dequantize(operation: Operation) -> relax.Expr | None:
    """``None`` unless a number is computed in another way than others do it."""
    x = Codes.of_input(operation)
    if operation.rounding != BUILTIN or x is None or operation.constant(0) is not None:
        return None
    return own_kernels.dequantize(operation, x)


CONVERSIONS = {"DEQUANTIZE": _dequantize, "QUANTIZE": _quantize}
