"""Two scheduled functions as one kernel: what the first computes, the second reads.

A schedule moves what computes a buffer only together with all that it reads. What computes the
image of another function is a function of its own, and in nobody's way.
"""

from __future__ import annotations

from tvm import s_tir, tirx
from tvm_ffi import structural_map

from schedules.lower.passes import inputs


def join(first: s_tir.Schedule, second: s_tir.Schedule) -> s_tir.Schedule:
    """The stages of ``first``, then those of ``second``.

    Arguments of the second that have the name of what the first computes are that, and live in the
    workspace.
    """
    before, after = (schedule.mod["main"] for schedule in (first, second))
    given = inputs(before)
    computed = [*before.params[len(given) :], *before.body.block.alloc_buffers]
    names = {str(buffer.name) for buffer in after.params}
    shared = {str(buffer.name): buffer for buffer in computed if str(buffer.name) in names}
    body = structural_map(
        after.body, (tirx.Buffer, lambda buffer: shared.get(str(buffer.name), buffer))
    )
    root = s_tir.SBlock(
        [],
        [],
        [],
        "root",
        tirx.SeqStmt([before.body.block.body, body.block.body]),
        None,
        [*computed, *body.block.alloc_buffers],
        [],
        body.block.annotations,
    )
    params = [buffer for buffer in after.params if str(buffer.name) not in shared]
    function = tirx.PrimFunc(
        [*given, *params], s_tir.SBlockRealize([], True, root), after.ret_type, after.attrs
    )
    return s_tir.Schedule(function)
