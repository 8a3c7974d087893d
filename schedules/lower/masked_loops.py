"""A lowering pass: test the masks of a loop once, where they do not change inside of it.

A convolution near the border multiplies zeros. Its compute definition says so with a mask around
each product, ``acc += if_then_else(row_is_inside, patch * weight, 0)``, evaluated in the innermost
loop. Where a conjunct of the mask depends on no loop inside of the kernel-row loop, one test a
kernel row is enough: the pass puts the whole body of that loop under it. What is left of the
conjunct inside then simplifies to true.

Where what is masked is not a product, the masked iterations have to be done, but those without a
masked element need no tests: a loop can also be made two, one for each case. And where a mask makes
most of a loop superfluous, there can be a copy for each of its conjuncts that fails.
"""

from __future__ import annotations

from collections.abc import Iterator

import tvm
from tvm import s_tir, tirx
from tvm.ir.expr import TensorLoad
from tvm.ir.prim.expr import BinaryOpExpr, CmpExpr, LogicalExpr
from tvm_ffi import structural_equal

from schedules.lower.statements import map_loops, statements

#: Annotation of a loop that does nothing but masked accumulation.
MASKED_ANNOTATION = "leanconv.masked"
#: Annotation of a loop of which there shall be a copy without masks.
SPECIALIZED_ANNOTATION = "leanconv.specialized"
#: Annotation of a loop of which there shall be a copy for each conjunct that fails.
DECIDED_ANNOTATION = "leanconv.decided"

_IF_THEN_ELSE = tvm.ir.Op.get("prim.if_then_else")


def mark_masked(schedule: s_tir.Schedule, loop: s_tir.schedule.LoopRV) -> None:
    """Let :func:`SkipMaskedIterations` test the mask once an iteration of ``loop``."""
    schedule.annotate(loop, MASKED_ANNOTATION, 1)


def specialize(schedule: s_tir.Schedule, loop: s_tir.schedule.LoopRV) -> None:
    """Let :func:`SkipMaskedIterations` make a copy of ``loop`` for when no mask applies in it."""
    schedule.annotate(loop, SPECIALIZED_ANNOTATION, 1)


def decide(schedule: s_tir.Schedule, loop: s_tir.schedule.LoopRV) -> None:
    """Let :func:`SkipMaskedIterations` test conjunct by conjunct before ``loop``.

    Unlike :func:`specialize`, the copy for a conjunct that fails knows it, so that what its masks
    leave nothing of is gone from it.
    """
    schedule.annotate(loop, DECIDED_ANNOTATION, 1)


@tirx.transform.prim_func_pass(opt_level=0)
def SkipMaskedIterations(
    function: tirx.PrimFunc, _module: tvm.IRModule, _context: tvm.transform.PassContext
) -> tirx.PrimFunc:
    """Hoist loop-invariant conjuncts of masks out of loops, as their annotations ask for it."""

    def skip(loop: tirx.For) -> tirx.Stmt:
        annotations = dict(loop.annotations)
        masked = annotations.pop(MASKED_ANNOTATION, None) is not None
        specialized = annotations.pop(SPECIALIZED_ANNOTATION, None) is not None
        decided = annotations.pop(DECIDED_ANNOTATION, None) is not None
        body = loop.body
        if masked:
            for condition in _invariant_conjuncts(body):
                body = tirx.IfThenElse(condition, body, None)
        result = tirx.For(
            loop.loop_var, loop.min, loop.extent, loop.kind, body, loop.thread_binding, annotations
        )
        if decided:
            copy = result
            for condition in _invariant_conjuncts(copy):
                result = tirx.IfThenElse(condition, result, copy)
            return result
        conditions = _invariant_conjuncts(result) if specialized else []
        return tirx.IfThenElse(tirx.all(*conditions), result, result) if conditions else result

    return function.with_body(map_loops(function.body, skip))


def _invariant_conjuncts(body: tirx.Stmt) -> list[tirx.Expr]:
    """Conjuncts of the masks in ``body`` that use no variable of its own loops, each once."""
    own = {loop.loop_var for loop in statements(body) if isinstance(loop, tirx.For)}
    found: list[tirx.Expr] = []
    for stmt in statements(body):
        if not isinstance(stmt, tirx.BufferStore):
            continue
        for node in _expressions(stmt.value):
            if not (isinstance(node, tvm.ir.Call) and node.op.same_as(_IF_THEN_ELSE)):
                continue
            for conjunct in _conjuncts(node.args[0]):
                used = {leaf for leaf in _expressions(conjunct) if isinstance(leaf, tirx.Var)}
                known = any(structural_equal(conjunct, other) for other in found)
                if used and not used & own and not known:
                    found.append(conjunct)
    return found


def _conjuncts(condition: tirx.Expr) -> Iterator[tirx.Expr]:
    if isinstance(condition, tirx.And):
        yield from _conjuncts(condition.a)
        yield from _conjuncts(condition.b)
    else:
        yield condition


def _expressions(expr: tirx.Expr) -> Iterator[tirx.Expr]:
    """Every expression in ``expr``, itself included."""
    yield expr
    if isinstance(expr, tirx.Not):
        yield from _expressions(expr.a)
    elif isinstance(expr, BinaryOpExpr | CmpExpr | LogicalExpr):
        yield from _expressions(expr.a)
        yield from _expressions(expr.b)
    elif isinstance(expr, tvm.ir.Call):
        for argument in expr.args:
            yield from _expressions(argument)
    elif isinstance(expr, TensorLoad):
        for index in expr.indices:
            yield from _expressions(index)
    elif isinstance(expr, tirx.Select):
        for child in (expr.condition, expr.true_value, expr.false_value):
            yield from _expressions(child)
    elif isinstance(expr, tirx.Cast):
        yield from _expressions(expr.value)
