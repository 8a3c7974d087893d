"""QUANTIZE, as XNNPACK computes it; codes of another type as TFLite's own kernel does."""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import relax, te, tirx

from tflite_delegate.importer.conversions.operation import Operation
from tflite_delegate.importer.quantised.codes import Codes, clamped, nearest, real
from tflite_delegate.importer.quantised.tables import recoded


def _quantize(operation: Operation) -> relax.Expr | None:
    y = Codes.of_output(operation)
    if operation.input_type(0) != "float32" or y is None:
        return recoded(operation)
    inverse, least, most = (
        real(value) for value in (np.float32(1) / y.scale, y.least - y.zero, y.most - y.zero)
    )

    def compute(x: te.Tensor) -> te.Tensor:
        def code(*index: Any) -> Any:
            steps = tirx.max(tirx.min(x[index] * inverse, most), least)
            return clamped(nearest(steps) + y.zero, (y.least, y.most), y.dtype)

        return te.compute(x.shape, code, name="code")

    return operation.compute(compute, operation.codes(0))


CONVERSIONS = {"QUANTIZE": _quantize}
