"""Two loop nests as one, and the buffer between them.

TVM's own ``compute_at`` works out which part of a buffer the inner loops need. Where they need all
of it, but at shifted places that it cannot solve for, these steps do what the caller knows to be
right.
"""

from __future__ import annotations

from typing import Any

from tvm import s_tir, tirx


def merge_nests(schedule: s_tir.Schedule, first: str, second: str, depth: int) -> list[Any]:
    """Run blocks ``first`` and ``second`` in the same ``depth`` outermost loops; returns these.

    Unlike ``compute_at``, TVM does not look at what the second reads of the first.
    """
    loops = schedule.get_loops(schedule.get_sblock(first))[:depth]
    annotations = [dict(schedule.get(loop).annotations) for loop in loops]
    for loop, values in zip(loops, annotations, strict=True):
        for key in values:  # which cannot be merged
            schedule.unannotate(loop, key)
    schedule.merge(loops[-1], schedule.get_loops(schedule.get_sblock(second))[depth - 1])
    merged = schedule.get_loops(schedule.get_sblock(first))[:depth]
    for loop, values in zip(merged, annotations, strict=True):
        for key, value in values.items():
            schedule.annotate(loop, key, value)
    return merged


def allocate_once(schedule: s_tir.Schedule, name: str) -> s_tir.Schedule:
    """``schedule`` with buffer ``name`` outside of all loops, where threads share it.

    TVM would allocate what the innermost loop that uses it needs, and each thread would have its
    own.
    """
    function = schedule.mod["main"]
    realize = function.body
    root = realize.block
    (buffer,) = (buffer for buffer in root.alloc_buffers if buffer.name == name)
    others = [other for other in root.alloc_buffers if not other.same_as(buffer)]
    body = tirx.SeqStmt([tirx.AllocBuffer(buffer), root.body])
    root = s_tir.SBlock([], [], [], root.name_hint, body, alloc_buffers=others)
    return s_tir.Schedule(function.with_body(s_tir.SBlockRealize([], True, root)))
