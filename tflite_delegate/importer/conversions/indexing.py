"""Operators that index by data, whose indices are checked when the module runs.

TFLite refuses to run with an index out of range; a module raises an error that names the node.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm import relax, te, tirx

from schedules.errors import LeanconvError
from tflite_delegate.importer.conversions.operation import Operation

#: Of functions that are not fused with others, and that nobody schedules.
_OPAQUE = {"op_pattern": 8, "tirx.is_scheduled": True}


def checked(
    operation: Operation,
    tensor: relax.Expr,
    is_right: Callable[[Any, Any], Any],
    problem: str,
) -> relax.Expr:
    """``tensor``, behind a check of its elements.

    Parameters
    ----------
    operation : Operation
        The node that is named if the check fails.
    tensor : Expr
        Of integers.
    is_right : function of (element, place along the last axis) to bool
        Both are TIR expressions.
    problem : str
        What to say if it is not.
    """
    shape = operation.shape_of(tensor)
    count, last = math.prod(shape), (shape or (1,))[-1]
    message = tvm.ir.StringImm(f"operator {operation.position} ({operation.name}): {problem}")

    def copy(source: Any, target: Any) -> tirx.Stmt:
        place = tirx.Var("place", "int32")
        value = tirx.BufferLoad(source, [place])
        condition = is_right(value, tirx.floormod(place, tirx.const(last, "int32")))
        # The order of arguments is that of the FFI's constructor, which TVM 0.27's is not.
        check = tirx.AssertStmt(condition, tvm.ir.StringImm("RuntimeError"), [message])
        steps = tirx.SeqStmt([check, tirx.BufferStore(target, value, [place])])
        return tirx.For(place, 0, count, tirx.ForKind.SERIAL, steps)

    def compute(flat: te.Tensor) -> te.Tensor:
        source, target = (
            tirx.decl_buffer(flat.shape, str(flat.dtype), name) for name in ("source", "target")
        )
        return te.extern(
            [flat.shape],
            [flat],
            lambda _sources, _targets: copy(source, target),
            in_buffers=[source],
            out_buffers=[target],
        )

    flat = operation.emit(relax.op.reshape(tensor, (count,)))
    return operation.emit(relax.op.reshape(operation.compute(compute, flat, **_OPAQUE), shape))


def _indices(operation: Operation, position: int, sizes: Sequence[int]) -> relax.Expr:
    """An input of indices into dimensions of ``sizes``, which count along its last axis.

    Of one size, all indices are into the same dimension.
    """
    known = operation.constant(position)
    problem = f"an index is out of range, which ends at {' x '.join(map(str, sizes))}"
    if known is not None:
        if np.any(known < 0) or np.any(known >= np.array(sizes)):
            raise LeanconvError(problem)
        return operation.codes(position)

    def is_right(value: Any, place: Any) -> Any:
        limit = tirx.const(sizes[-1], str(value.ty.dtype) if hasattr(value, "ty") else value.dtype)
        for number, size in enumerate(sizes[:-1]):
            limit = tirx.Select(place == number, tirx.const(size, limit.ty.dtype), limit)
        return tirx.all(value >= 0, value < limit)

    return checked(operation, operation.codes(position), is_right, problem)


def _gather(operation: Operation) -> relax.Expr:
    shape, index_shape = operation.shape(0), operation.shape(1)
    axis = operation.axis(operation.options["axis"], len(shape))
    batch = operation.axis(operation.options["batchDims"], len(index_shape) + 1)
    if batch > axis or shape[:batch] != index_shape[:batch]:
        raise LeanconvError(f"batchDims {batch} of an axis {axis}")
    indices = _indices(operation, 1, shape[axis : axis + 1])
    result = (*shape[:axis], *index_shape[batch:], *shape[axis + 1 :])
    behind = axis + len(index_shape) - batch

    def compute(data: te.Tensor, places: te.Tensor) -> te.Tensor:
        def element(*index: Any) -> Any:
            place = places[index[:batch] + index[axis:behind]]
            return data[index[:axis] + (place,) + index[behind:]]

        return te.compute(result, element)

    return operation.compute(compute, operation.codes(0), indices)


def _gather_nd(operation: Operation) -> relax.Expr:
    shape, index_shape = operation.shape(0), operation.shape(1)
    depth = index_shape[-1]
    indices = _indices(operation, 1, shape[:depth])
    result = (*index_shape[:-1], *shape[depth:])
    rank = len(index_shape) - 1

    def compute(data: te.Tensor, places: te.Tensor) -> te.Tensor:
        def element(*index: Any) -> Any:
            start = tuple(places[index[:rank] + (i,)] for i in range(depth))
            return data[start + index[rank:]]

        return te.compute(result, element)

    return operation.compute(compute, operation.codes(0), indices)


def _embedding_lookup(operation: Operation) -> relax.Expr:
    """Rows of the second input, whose numbers are the first."""
    shape, (count,) = operation.shape(1), operation.shape(0)
    indices = _indices(operation, 0, shape[:1])

    def compute(table: te.Tensor, rows: te.Tensor) -> te.Tensor:
        return te.compute((count, *shape[1:]), lambda i, *index: table[(rows[i],) + index])

    return operation.compute(compute, operation.value(1), indices)


def _scatter_nd(operation: Operation) -> relax.Expr:
    """Sums of updates, where several are for one place."""
    shape = tuple(operation.integers(2, "shapes"))
    depth = operation.shape(0)[-1]
    indices = _indices(operation, 0, shape[:depth])
    zeros = relax.op.zeros(shape, operation.output_type())
    return relax.op.scatter_nd(zeros, relax.op.astype(indices, "int64"), operation.codes(1), "add")


def _one_hot(operation: Operation) -> relax.Expr:
    shape, axis = operation.shape(0), operation.options["axis"]
    axis = len(shape) if axis == -1 else operation.axis(axis, len(shape) + 1)
    (depth,) = operation.integers(1, "depths")
    levels = np.arange(depth, dtype=operation.input_type(0))
    places: NDArray[Any] = levels.reshape([-1 if i == axis else 1 for i in range(len(shape) + 1)])
    hit = relax.op.equal(
        relax.op.expand_dims(operation.codes(0), axis), relax.const(places, str(places.dtype))
    )
    on, off = (relax.op.reshape(operation.codes(i), ()) for i in (2, 3))
    return relax.op.where(hit, on, off)


def _dynamic_update_slice(operation: Operation) -> relax.Expr:
    """The start is moved so that all of the update lies inside."""
    shape, size = operation.shape(0), operation.shape(1)

    def compute(data: te.Tensor, update: te.Tensor, starts: te.Tensor) -> te.Tensor:
        def element(*index: Any) -> Any:
            inside, places = [], []
            for axis, (i, whole, part) in enumerate(zip(index, shape, size, strict=True)):
                start = tirx.max(tirx.min(starts[axis].astype("int64"), whole - part), 0)
                place = i.astype("int64") - start
                inside += [place >= 0, place < part]
                places.append(tirx.max(tirx.min(place, part - 1), 0))
            return tirx.if_then_else(tirx.all(*inside), update[tuple(places)], data[index])

        return te.compute(shape, element)

    return operation.compute(compute, *(operation.codes(i) for i in range(3)))


ON_VALUES = {"EMBEDDING_LOOKUP": _embedding_lookup}
ON_CODES = {
    "DYNAMIC_UPDATE_SLICE": _dynamic_update_slice,
    "GATHER": _gather,
    "GATHER_ND": _gather_nd,
    "ONE_HOT": _one_hot,
    "SCATTER_ND": _scatter_nd,
}
