"""A lowering pass: vectors that are stored side by side, element by element.

Where ``lanes`` vectors of as many elements are the rows of a matrix whose columns are stored one
after the other, NEON has one instruction for four of them (``st4``), which LLVM takes for a vector
that is a shuffle of theirs. TVM would store single elements.
"""

from __future__ import annotations

import tvm
from tvm import s_tir, tirx
from tvm_ffi import structural_map

#: Annotation of a loop over lanes, around one over vectors, that copies an element.
INTERLEAVED_ANNOTATION = "leanconv.interleaved"

_IF_THEN_ELSE = tvm.ir.Op.get("prim.if_then_else")


def interleave(schedule: s_tir.Schedule, loop: s_tir.schedule.LoopRV) -> None:
    """Let :func:`InterleaveVectors` store all of ``loop`` and the one inside of it at once.

    ``for lane: for vector: to[first + lane * vectors + vector] = of[start(vector) + lane]``

    Masked elements are stored as they are, whatever that is: nobody may read them.
    """
    schedule.annotate(loop, INTERLEAVED_ANNOTATION, 1)


@tirx.transform.prim_func_pass(opt_level=0)
def InterleaveVectors(
    function: tirx.PrimFunc, _module: tvm.IRModule, _context: tvm.transform.PassContext
) -> tirx.PrimFunc:
    """Store a shuffle of vectors where annotations of loops ask for it."""

    def store(loop: tirx.For) -> tirx.Stmt:
        if INTERLEAVED_ANNOTATION not in loop.annotations:
            return loop
        lane, vector, copy = loop.loop_var, loop.body.loop_var, loop.body.body
        lanes, vectors = int(loop.extent), int(loop.body.extent)

        def at(index: tirx.Expr, number: int) -> tirx.Expr:
            """``index`` of the first lane of a vector."""

            def known(variable: tirx.Var) -> tirx.Expr:
                if variable.same_as(lane):
                    return tirx.const(0, "int32")
                return tirx.const(number, "int32") if variable.same_as(vector) else variable

            return structural_map(index, (tirx.Var, known))

        masked = isinstance(copy.value, tvm.ir.Call) and copy.value.op.same_as(_IF_THEN_ELSE)
        value = copy.value.args[1] if masked else copy.value
        (to,), (of,) = copy.indices, value.indices
        rows = [
            tirx.BufferLoad(value.source, [tirx.Ramp(at(of, i), 1, lanes)]) for i in range(vectors)
        ]
        order = [row * lanes + column for column in range(lanes) for row in range(vectors)]
        columns = tirx.Shuffle(rows, [tirx.const(i, "int32") for i in order])
        place = tirx.Ramp(at(to, 0), 1, lanes * vectors)
        return tirx.BufferStore(copy.buffer, columns, [place])

    return function.with_body(structural_map(function.body, (tirx.For, store)))
