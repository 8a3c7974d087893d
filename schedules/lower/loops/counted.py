"""A lowering pass: loops that run as often as data says.

A sum over as many terms as a kernel finds in its weights is defined over the most that there may
be, each masked: ``if_then_else(begin[i] + k < begin[i + 1], term(k), 0)``. An index that is data is
clamped in the definition, so that TVM knows which part of a buffer is read. The pass ends the loop
where the mask begins to fail, and leaves out the clamps: whoever packs the data checks it.

Another one makes addresses in such a loop of 64 bits, term by term: a sum of 32 bits with an index
that is data would be extended anew in every iteration.
"""

from __future__ import annotations

import tvm
from tvm import s_tir, tirx
from tvm_ffi import StructuralKey, structural_map, structural_walk

from schedules.lower.conditions import conjuncts

#: Annotation of a loop over masked terms: the mask alone says how often it runs.
COUNTED_ANNOTATION = "leanconv.counted"
#: Annotation of a loop in which clamped indices are data that was checked.
CHECKED_ANNOTATION = "leanconv.checked"

_IF_THEN_ELSE = tvm.ir.Op.get("prim.if_then_else")


def mark_counted(schedule: s_tir.Schedule, loop: s_tir.schedule.LoopRV) -> None:
    """Let :func:`CountIterations` end ``loop`` where its mask begins to fail."""
    schedule.annotate(loop, COUNTED_ANNOTATION, 1)


def mark_checked(schedule: s_tir.Schedule, loop: s_tir.schedule.LoopRV) -> None:
    """Let :func:`CountIterations` leave out the clamps of indices in ``loop``."""
    schedule.annotate(loop, CHECKED_ANNOTATION, 1)


def clamped(index: tirx.Expr, size: int) -> tirx.Expr:
    """``index`` as one of ``size``, for a loop that is to be marked with :func:`mark_checked`."""
    return tirx.max(tirx.min(index, size - 1), 0)


@tirx.transform.prim_func_pass(opt_level=0)
def CountIterations(
    function: tirx.PrimFunc, _module: tvm.IRModule, _context: tvm.transform.PassContext
) -> tirx.PrimFunc:
    """Take lengths and indices from data, as annotations of loops ask for it."""

    def count(loop: tirx.For) -> tirx.Stmt:
        annotations = dict(loop.annotations)
        is_counted = annotations.pop(COUNTED_ANNOTATION, None) is not None
        is_checked = CHECKED_ANNOTATION in annotations
        extent, body = loop.extent, loop.body
        if is_counted:
            (mask,) = _masks_of(loop)
            k, zero = loop.loop_var, tirx.const(0, "int32")
            first = structural_map(mask.a, (tirx.Var, lambda v: zero if v.same_as(k) else v))
            extent = mask.b - first
            body = _without(body, mask)
        if is_checked:
            body = structural_map(body, (tirx.Max, _unclamped))
        return tirx.For(
            loop.loop_var, loop.min, extent, loop.kind, body, loop.thread_binding, annotations
        )

    return function.with_body(structural_map(function.body, (tirx.For, count)))


@tirx.transform.prim_func_pass(opt_level=0)
def WidenAddresses(
    function: tirx.PrimFunc, _module: tvm.IRModule, _context: tvm.transform.PassContext
) -> tirx.PrimFunc:
    """Compute addresses in loops with checked indices in 64 bits; the annotation goes."""

    def widen(loop: tirx.For) -> tirx.Stmt:
        annotations = dict(loop.annotations)
        if annotations.pop(CHECKED_ANNOTATION, None) is None:
            return loop
        body = structural_map(loop.body, (tvm.ir.TensorLoad, _with_wide_index))
        return tirx.For(
            loop.loop_var, loop.min, loop.extent, loop.kind, body, loop.thread_binding, annotations
        )

    return function.with_body(structural_map(function.body, (tirx.For, widen)))


def _with_wide_index(load: tvm.ir.TensorLoad) -> tirx.Expr:
    (index,) = load.indices
    if isinstance(index, tirx.Ramp):
        stride = tirx.Cast("int64", index.stride)
        index = tirx.Ramp(_wide(index.base), stride, index.lanes)
    elif not isinstance(index, tirx.IntImm):
        index = _wide(index)
    return tirx.BufferLoad(load.source, [index])


def _wide(index: tirx.Expr) -> tirx.Expr:
    """``index``, which is no vector, as a sum of terms of 64 bits."""
    if isinstance(index, tirx.Add):
        return _wide(index.a) + _wide(index.b)
    if isinstance(index, tirx.Mul):
        return _wide(index.a) * _wide(index.b)
    return tirx.Cast("int64", index)


def _masks_of(loop: tirx.For) -> list[tirx.LT]:
    """Conjuncts of masks in ``loop`` that depend on it and on data, each once."""
    found: dict[StructuralKey, tirx.LT] = {}

    def note(call: tvm.ir.Call) -> None:
        if call.op.same_as(_IF_THEN_ELSE):
            for part in conjuncts(call.args[0]):
                if loop.loop_var in set(tirx.analysis.undefined_vars(part)):
                    found.setdefault(StructuralKey(part), part)

    structural_walk(loop.body, [(tvm.ir.Call, note)], order="pre")
    return list(found.values())


def _without(body: tirx.Stmt, mask: tirx.LT) -> tirx.Stmt:
    """``body`` where ``mask`` is true."""

    def simplified(call: tvm.ir.Call) -> tirx.Expr:
        if not call.op.same_as(_IF_THEN_ELSE):
            return call
        condition, value, other = call.args
        left = [p for p in conjuncts(condition) if StructuralKey(p) != StructuralKey(mask)]
        return tirx.if_then_else(tirx.all(*left), value, other) if left else value

    return structural_map(body, (tvm.ir.Call, simplified))


def _unclamped(expression: tirx.Max) -> tirx.Expr:
    """The index of :func:`clamped`."""
    inner = expression.a
    return inner.a if isinstance(inner, tirx.Min) else expression
