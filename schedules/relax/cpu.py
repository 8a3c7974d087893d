"""CPU schedules for what leanconv's kernels leave to TVM, which has none of its own.

Operators that fuse into one function are computed in one loop nest. Channels, which lie side by
side, are the innermost loop, also of reductions (pooling, means), where LLVM then vectorises them;
the loops outside are shared by the threads if there is enough to share. A sigmoid is computed by
arithmetic alone (:mod:`schedules.kernel.sigmoid`).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any

import tvm
from tvm import relax, s_tir, te, tirx

from schedules.kernel.sigmoid import sigmoid
from schedules.relax.clamping import clamping_legalizations

_LOG = logging.getLogger(__name__)

#: Elements that a thread needs to be worth waking up.
ELEMENTS_PER_THREAD = 16 * 1024


def legalize_for_cpu() -> tvm.transform.Pass:
    """``LegalizeOps`` with a sigmoid that can be vectorised and clamps that keep NaN."""
    return relax.transform.LegalizeOps(
        {"relax.sigmoid": _legalize_sigmoid, **clamping_legalizations()}
    )


def schedule_for_cpu(threads: int) -> tvm.transform.Pass:
    """A pass that schedules every function that no one else has, for so many threads."""

    @tvm.transform.module_pass(opt_level=0, name="ScheduleForCpu")
    def run(module: tvm.IRModule, _context: tvm.transform.PassContext) -> tvm.IRModule:
        for variable, function in module.functions_items():
            if isinstance(function, tirx.PrimFunc) and not _is_scheduled(function):
                try:
                    function = _scheduled(function, threads)
                except s_tir.ScheduleError:
                    _LOG.debug("%s is no loop nest: it stays as it is", variable.name_hint)
                    continue
                module.update_func(variable, function.with_attr("tirx.is_scheduled", True))
        return module

    return run


def _is_scheduled(function: tirx.PrimFunc) -> bool:
    return "tirx.is_scheduled" in (function.attrs or {})


def _scheduled(function: tirx.PrimFunc, threads: int) -> tirx.PrimFunc:
    schedule = s_tir.Schedule(function)
    blocks = schedule.get_child_blocks(schedule.get_sblock("root"))
    # Step 1: one loop nest for operators that compute each element by itself.
    for block in blocks[:-1]:
        consumers = schedule.get_consumers(block)
        if consumers and all(_is_injective(schedule, b) for b in (block, *consumers)):
            schedule.compute_inline(block)
    for block in schedule.get_child_blocks(schedule.get_sblock("root")):
        _schedule_block(schedule, block, threads)
    return schedule.mod["main"]


def _schedule_block(schedule: s_tir.Schedule, block: Any, threads: int) -> None:
    loops, kinds = schedule.get_loops(block), _kinds(schedule, block)
    extents = [schedule.get(loop).extent for loop in loops]
    is_fixed = all(isinstance(extent, tirx.IntImm) for extent in extents)
    if len(loops) != len(kinds) or not is_fixed or set(kinds) - {"space", "sum"}:
        return  # of unknown size, or no plain loop nest
    space = [loop for loop, kind in zip(loops, kinds, strict=True) if kind == "space"]
    sums = [loop for loop, kind in zip(loops, kinds, strict=True) if kind == "sum"]
    if not space:
        return
    # Step 2: what is summed goes outside of the channels.
    is_vector_sum = bool(sums) and _is_vector_sum(schedule, block)
    if is_vector_sum:
        schedule.reorder(*space[:-1], *sums, space[-1])
    # Step 3: the threads share what is outside of both.
    if (
        threads > 1
        and len(space) > 1
        and math.prod(map(int, extents)) >= threads * ELEMENTS_PER_THREAD
    ):
        outer = space[:-1]
        schedule.parallel(schedule.fuse(*outer) if len(outer) > 1 else outer[0])
    if is_vector_sum:
        schedule.decompose_reduction(block, sums[0])


def _kinds(schedule: s_tir.Schedule, block: Any) -> list[str]:
    """What each axis of a block is: "space", "sum" or something else."""
    names = {tirx.IterVar.DataPar: "space", tirx.IterVar.CommReduce: "sum"}
    return [names.get(axis.iter_type, "other") for axis in schedule.get(block).iter_vars]


def _is_injective(schedule: s_tir.Schedule, block: Any) -> bool:
    return set(_kinds(schedule, block)) <= {"space"}


def _is_vector_sum(schedule: s_tir.Schedule, block: Any) -> bool:
    """Whether what is summed lies further apart than the elements of the last axis."""
    axes, statement = schedule.get(block).iter_vars, schedule.get(block)
    summed = {axis.var for axis in axes if axis.iter_type == tirx.IterVar.CommReduce}
    last = [axis.var for axis in axes if axis.iter_type == tirx.IterVar.DataPar][-1]
    reads = [read.region[-1].min for read in statement.reads if len(read.region)]
    return all(not any(index.same_as(variable) for variable in summed) for index in reads) and any(
        index.same_as(last) for index in reads
    )


# Sigmoid


def _legalize_sigmoid(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    (x,) = call.args
    if str(x.ty.dtype) != "float32":
        return builder.call_te(_elementwise(tirx.sigmoid), x, primfunc_name_hint="sigmoid")
    return builder.call_te(_elementwise(sigmoid), x, primfunc_name_hint="sigmoid")


def _elementwise(operation: Callable[[Any], Any]) -> Callable[[te.Tensor], te.Tensor]:
    def compute(x: te.Tensor) -> te.Tensor:
        return te.compute(x.shape, lambda *index: operation(x[index]), name="compute")

    return compute
