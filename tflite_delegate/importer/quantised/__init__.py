"""TFLite's operators on codes, in the integer arithmetic of what LiteRT runs them with.

That is XNNPACK, or TFLite's own kernels for what XNNPACK does not take.

What is not here, or not of these types, is computed in real numbers between ``dequantize`` and
``quantize`` (:mod:`tflite_delegate.importer.conversions`), to the nearest code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tvm import relax

from tflite_delegate.importer.conversions.operation import Operation
from tflite_delegate.importer.quantised import (
    arithmetic,
    conversions,
    layers,
    softmax,
    tables,
    windows,
)

#: Results by the operator's name; ``None`` where an operation is not of a kind that is known.
_CONVERSIONS: Mapping[str, Callable[[Operation], relax.Expr | None]] = {
    **arithmetic.CONVERSIONS,
    **conversions.CONVERSIONS,
    **layers.CONVERSIONS,
    **softmax.CONVERSIONS,
    **tables.CONVERSIONS,
    **windows.CONVERSIONS,
}


def convert(operation: Operation) -> relax.Expr | None:
    """The node's result, or ``None`` if it has to be computed in real numbers."""
    conversion = _CONVERSIONS.get(operation.name)
    return None if conversion is None else conversion(operation)
