"""Operators that reduce axes, or run along one."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from tvm import relax, te, tirx

from schedules.errors import LeanconvError
from tflite_delegate.importer.conversions.operation import Operation


def _reduced(function: Callable[..., relax.Expr], operation: Operation, x: relax.Expr) -> Any:
    """``function`` over the axes of the second input; axes may be named twice, or none."""
    rank = len(operation.shape_of(x))
    axes = sorted({operation.axis(a, rank) for a in operation.integers(1, "axes")})
    return function(x, axes, operation.options["keepDims"]) if axes else x


def _on_values(function: Callable[..., relax.Expr]) -> Callable[[Operation], relax.Expr]:
    return lambda operation: _reduced(function, operation, operation.value(0))


def _on_codes(function: Callable[..., relax.Expr]) -> Callable[[Operation], relax.Expr]:
    return lambda operation: _reduced(function, operation, operation.codes(0))


def _mean(operation: Operation) -> relax.Expr:
    """Of integers, truncated towards zero."""
    element = operation.input_type(0)
    if operation.input_quantization(0) is not None or element == "float32":
        return _on_values(relax.op.mean)(operation)
    total = operation.emit(
        _reduced(relax.op.sum, operation, relax.op.astype(operation.codes(0), "int64"))
    )
    count = np.prod(operation.shape(0), dtype=int) // max(
        1, np.prod(operation.shape_of(total), dtype=int)
    )

    def compute(x: te.Tensor) -> te.Tensor:
        by = tirx.const(int(count), "int64")
        return te.compute(x.shape, lambda *i: tirx.truncdiv(x[i], by).astype(element))

    return operation.compute(compute, total)


def _of_bools(function: Callable[..., relax.Expr], operation: Operation) -> relax.Expr:
    bits = relax.op.astype(operation.codes(0), "int8")
    return relax.op.astype(_reduced(function, operation, bits), "bool")


def _place(function: Callable[..., relax.Expr], operation: Operation) -> relax.Expr:
    (axis,) = operation.integers(1, "axes")
    axis = operation.axis(axis, len(operation.shape(0)))
    return relax.op.astype(function(operation.codes(0), axis), operation.output_type())


def _cumsum(operation: Operation) -> relax.Expr:
    (axis,) = operation.integers(1, "axes")
    axis = operation.axis(axis, len(operation.shape(0)))
    x, backwards = operation.codes(0), operation.options["reverse"]
    if backwards:
        x = relax.op.flip(x, axis)
    exclusive = bool(operation.options["exclusive"])
    total = relax.op.cumsum(x, axis, operation.input_type(0), exclusive)
    return relax.op.flip(total, axis) if backwards else total


def _topk(operation: Operation) -> list[relax.Expr]:
    (count,) = operation.integers(1, "counts")
    if not 0 <= count <= operation.shape(0)[-1]:
        raise LeanconvError(f"the {count} largest of {operation.shape(0)[-1]}")
    both = operation.emit(
        relax.op.topk(operation.codes(0), count, -1, "both", True, operation.output_type(1))
    )
    return [both[0], both[1]]


ON_VALUES = {
    "MEAN": _mean,
    "REDUCE_PROD": _on_values(relax.op.prod),
    "SUM": _on_values(relax.op.sum),
}
ON_CODES: dict[str, Callable[[Operation], Any]] = {
    "ARG_MAX": functools.partial(_place, relax.op.argmax),
    "ARG_MIN": functools.partial(_place, relax.op.argmin),
    "CUMSUM": _cumsum,
    "REDUCE_ALL": functools.partial(_of_bools, relax.op.min),
    "REDUCE_ANY": functools.partial(_of_bools, relax.op.max),
    "REDUCE_MAX": _on_codes(relax.op.max),
    "REDUCE_MIN": _on_codes(relax.op.min),
    "TOPK_V2": _topk,
}
