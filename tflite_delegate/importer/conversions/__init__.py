"""TFLite's operators as Relax expressions, each option with TFLite's meaning.

Functions are of two kinds. Those in ``ON_VALUES`` compute real numbers: quantised inputs are
dequantised before and results quantised behind them, as TFLite's reference defines them. Those in
``ON_CODES`` move or compare what is stored.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import relax

from schedules.errors import LeanconvError
from tflite_delegate.importer.conversions import (
    elementwise,
    indexing,
    layers,
    movement,
    reductions,
    slices,
    spectra,
    windows,
)
from tflite_delegate.importer.conversions.operation import Operation

__all__ = ["CONVERTED", "Operation", "convert"]

_ON_VALUES: dict[str, Callable[[Operation], relax.Expr]] = {
    **elementwise.ON_VALUES,
    **indexing.ON_VALUES,
    **layers.ON_VALUES,
    **reductions.ON_VALUES,
    **windows.ON_VALUES,
}
_ON_CODES: dict[str, Callable[[Operation], Any]] = {
    **elementwise.ON_CODES,
    **indexing.ON_CODES,
    **movement.ON_CODES,
    **reductions.ON_CODES,
    **slices.ON_CODES,
    **spectra.ON_CODES,
    **windows.ON_CODES,
}
#: Operators that take complex numbers.
_OF_COMPLEX = {*spectra.ON_CODES, "RESHAPE"}
#: The operators that :func:`convert` knows.
CONVERTED = frozenset(_ON_VALUES) | frozenset(_ON_CODES)


def convert(operation: Operation) -> list[relax.Expr]:
    """The node's results in order.

    Raises
    ------
    LeanconvError
        That names the node and what of it is not supported.
    """
    if operation.is_complex and operation.name not in _OF_COMPLEX:
        raise LeanconvError("complex numbers are not supported")
    if operation.name in _ON_VALUES:
        return [operation.emit(_finished(operation, _ON_VALUES[operation.name](operation)))]
    results = _ON_CODES[operation.name](operation)
    return [operation.emit(part) for part in (results if isinstance(results, list) else [results])]


def _finished(operation: Operation, values: relax.Expr) -> relax.Expr:
    """Clamped as the fused activation says, in the model's shape, and quantised if it was."""
    activation = operation.options.get("fusedActivationFunction", 0)
    if activation:
        values = _activated(values, activation)
    if operation.name in layers.RESHAPED:
        values = layers.RESHAPED[operation.name](operation, values)
    values = operation.emit(values)
    quantization = operation.output_quantization()
    if quantization is None:
        return values
    return operation.quantised(values, quantization, operation.output_type())


def _activated(values: relax.Expr, activation: int) -> relax.Expr:
    """RELU, RELU_N1_TO_1 or RELU6, as the schema numbers them."""
    if activation == 1:
        return relax.op.nn.relu(values)
    return relax.op.clip(values, -1, 1) if activation == 2 else relax.op.clip(values, 0, 6)
