"""Scheduled blocks to plain loops over flat buffers: TVM's passes, and some of our own."""

from __future__ import annotations

import itertools
import re

import tvm
from tvm import s_tir, tirx
from tvm_ffi import structural_map

from schedules.lower.loops.counted import CountIterations, WidenAddresses
from schedules.lower.loops.interleaved import InterleaveVectors
from schedules.lower.loops.prefetch import PrefetchWeights
from schedules.lower.loops.transposed import TransposeTiles
from schedules.lower.masked_loops import SkipMaskedIterations

#: Annotation of the root block: elements from one pixel of the output to the next.
PITCH_ANNOTATION = "leanconv.pitch"

_INPUT_NAME = re.compile(r"[XR]|W\d*|B[a-z]*\d*")


def spread_output(schedule: s_tir.Schedule, pitch: int) -> None:
    """Let the pixels of the output begin every ``pitch`` elements.

    A schedule's output is dense; the elements between its pixels belong to others.
    """
    schedule.annotate(schedule.get_sblock("root"), PITCH_ANNOTATION, pitch)


def inputs(function: tirx.PrimFunc) -> list[tirx.Buffer]:
    """The buffers in front of the output."""
    return list(
        itertools.takewhile(lambda buffer: _INPUT_NAME.fullmatch(str(buffer.name)), function.params)
    )


def lower_to_loops(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """Blocks to plain loops, partitioned, vectorised and unrolled, with flat buffers."""
    s, t = s_tir.transform, tirx.transform
    passes = [
        _SpreadOutput,
        s.CanonicalizeLoop(),
        s.LowerInitBlock(),
        s.PlanAndUpdateBufferAllocationLocation(),
        s.ConvertBlocksToOpaque(),
        s.CompactBufferAllocation(),
        s.LowerMatchBuffer(),
        s.StmtSimplify(),
        s.LowerOpaqueBlock(),
        t.FlattenBuffer(),
        t.NarrowDataType(32),
        s.LoopPartition(),
        CountIterations,
        SkipMaskedIterations,
        InterleaveVectors,
        _ScalarizeSingleLanes,
        s.StmtSimplify(),
        t.VectorizeLoop(True),
        # Before unrolling, which makes a Winograd kernel thirty times as long.
        s.RenormalizeSplitPattern(),
        t.UnrollLoop(),
        t.StmtSimplify(),
        PrefetchWeights,
        TransposeTiles,  # simplified, every shuffle would be written out once for each use
        WidenAddresses,
        s.RewriteUnsafeSelect(),
        t.CommonSubexprElim(),
    ]
    # Hints also split loops of constant extent. A piece of one iteration stays a loop: a stage's
    # pieces must remain visible, and every other such loop is gone after unrolling.
    partition = {"partition_const_loop": True, "no_unroll_loop_with_extent_one": True}
    with tvm.transform.PassContext(config={"s_tir.LoopPartition": partition}):
        module = tvm.ir.transform.Sequential(passes)(tvm.IRModule({"main": function}))
    return module["main"]


@tirx.transform.prim_func_pass(opt_level=0)
def _SpreadOutput(
    function: tirx.PrimFunc, _module: tvm.IRModule, _context: tvm.transform.PassContext
) -> tirx.PrimFunc:
    """Make the output, and what lies in it, parts of buffers that hold whole pixels.

    See :func:`spread_output`. LowerMatchBuffer then replaces the parts by the buffers.
    """
    root = function.body.block
    annotations = dict(root.annotations)
    pitch = annotations.pop(PITCH_ANNOTATION, None)
    if pitch is None:
        return function
    params, parts = inputs(function), []
    for part in function.params[len(params) :]:
        whole = tirx.decl_buffer([*part.shape[:-1], pitch], part.dtype, part.name)
        region = tirx.BufferRegion(whole, [tvm.ir.Range(0, extent) for extent in part.shape])
        params.append(whole)
        parts.append(s_tir.MatchBufferRegion(part, region))
    block = s_tir.SBlock(
        [], [], [], root.name_hint, root.body, None, root.alloc_buffers, parts, annotations
    )
    return tirx.PrimFunc(
        params, s_tir.SBlockRealize([], True, block), function.ret_type, function.attrs
    )


@tirx.transform.prim_func_pass(opt_level=0)
def _ScalarizeSingleLanes(
    function: tirx.PrimFunc, _module: tvm.IRModule, _context: tvm.transform.PassContext
) -> tirx.PrimFunc:
    """Make vector loops of one lane, which partitioning leaves behind, plain loops."""

    def scalarize(loop: tirx.For) -> tirx.For:
        if loop.kind != tirx.ForKind.VECTORIZED or int(loop.extent) != 1:
            return loop
        return tirx.For(loop.loop_var, loop.min, loop.extent, tirx.ForKind.UNROLLED, loop.body)

    return function.with_body(structural_map(function.body, (tirx.For, scalarize)))
