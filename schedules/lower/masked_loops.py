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

import tvm
from tvm import s_tir, tirx
from tvm_ffi import StructuralKey, structural_map, structural_walk

from schedules.lower.conditions import conjuncts

#: Annotation of a loop that does nothing but masked accumulation.
MASKED_ANNOTATION = "leanconv.masked"
#: Annotation of a loop of which there shall be a copy without masks.
SPECIALIZED_ANNOTATION = "leanconv.specialized"
#: Annotation of a loop of which there shall be a copy for each conjunct that fails.
DECIDED_ANNOTATION = "leanconv.decided"

#: Annotation of a loop in which what is masked is replaced, and has to be computed all the same.
BRANCHED_ANNOTATION = "leanconv.branched"

_IF_THEN_ELSE = tvm.ir.Op.get("prim.if_then_else")


def mark_masked(schedule: s_tir.Schedule, loop: s_tir.schedule.LoopRV) -> None:
    """Let :func:`SkipMaskedIterations` test the mask once an iteration of ``loop``."""
    schedule.annotate(loop, MASKED_ANNOTATION, 1)


def branch(schedule: s_tir.Schedule, loop: s_tir.schedule.LoopRV) -> None:
    """Let :func:`SkipMaskedIterations` test the mask once an iteration of ``loop``.

    An iteration in which it fails computes the same with what stands for masked elements. All masks
    in the loop must have the same conjuncts that do not change inside of it.
    """
    schedule.annotate(loop, BRANCHED_ANNOTATION, 1)


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
        branched = annotations.pop(BRANCHED_ANNOTATION, None) is not None
        body = loop.body
        if masked:
            for condition in _invariant_conjuncts(body):
                body = tirx.IfThenElse(condition, body, None)
        conditions = _invariant_conjuncts(body) if branched else []
        if conditions:
            body = tirx.IfThenElse(tirx.all(*conditions), body, _all_masked(body, conditions))
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

    return function.with_body(structural_map(function.body, (tirx.For, skip)))


def _all_masked(body: tirx.Stmt, conditions: list[tirx.Expr]) -> tirx.Stmt:
    """``body`` with what stands for masked elements where a mask has any of ``conditions``."""
    known = {StructuralKey(condition) for condition in conditions}

    def replaced(call: tvm.ir.Call) -> tirx.Expr:
        if not call.op.same_as(_IF_THEN_ELSE):
            return call
        has_failed = any(StructuralKey(part) in known for part in conjuncts(call.args[0]))
        return call.args[2] if has_failed else call

    return structural_map(body, (tvm.ir.Call, replaced))


def _invariant_conjuncts(body: tirx.Stmt) -> list[tirx.Expr]:
    """Conjuncts of the masks in ``body`` that use no variable of its own loops, each once."""
    own: set[tirx.Var] = set()
    masks: list[tirx.Expr] = []

    def note_loop(loop: tirx.For) -> None:
        own.add(loop.loop_var)

    def note_mask(call: tvm.ir.Call) -> None:
        if call.op.same_as(_IF_THEN_ELSE):
            masks.append(call.args[0])

    structural_walk(body, [(tirx.For, note_loop), (tvm.ir.Call, note_mask)], order="pre")
    found: dict[StructuralKey, tirx.Expr] = {}
    for conjunct in (part for mask in masks for part in conjuncts(mask)):
        used = set(tirx.analysis.undefined_vars(conjunct))
        if used and not used & own:
            found.setdefault(StructuralKey(conjunct), conjunct)
    return list(found.values())
