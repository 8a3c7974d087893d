"""How ``fused_block`` is scheduled: from the output back to the image, strip by strip.

The blocks are those of :mod:`schedules.algorithms.fused_block.strips`.
"""

from __future__ import annotations

from typing import Any

from tvm import s_tir

from schedules.algorithms.fused_block.strips import Strips
from schedules.kernel.depthwise_tiles import unrolled_taps
from schedules.kernel.microkernel import accumulate_tile
from schedules.kernel.patches import Taps
from schedules.kernel.tiles import Tile
from schedules.lower import c_abi
from schedules.lower.masked_loops import decide, mark_masked
from schedules.lower.row_guards import test_rows_once
from schedules.lower.steps import extent, partition, unroll
from schedules.target.simd import Simd


def schedule_strips(
    schedule: s_tir.Schedule,
    strips: Strips,
    simd: Simd,
    tiles: dict[str, Tile],
    depthwise_rows: int,
) -> s_tir.Schedule:
    """All blocks of channels of a strip before the next strip; threads share the strips."""
    strip, row_block = schedule_projection(schedule, strips, simd, tiles["project"])
    schedule_depthwise(schedule, strips, simd, depthwise_rows, row_block)
    if strips.producer is not None:
        schedule_producer(schedule, strips, simd, tiles["expand"], row_block)
    c_abi.mark_stage(schedule, strip)
    blocks = ("E", "S_init", "S_update", "Y")
    return test_rows_once(schedule, blocks, "E" if strips.rolls else None)


def schedule_projection(
    schedule: s_tir.Schedule, strips: Strips, simd: Simd, tile: Tile
) -> tuple[Any, Any]:
    """D to the output in register tiles; returns the loops over strips and row blocks."""
    layer, lanes = strips.projection, tile.lanes(simd, strips.block.dtype)
    blocked = strips.c_blocks > 1
    sums = schedule.get_sblock("S" if blocked else "Y")
    _, h, w, o, *blocks = schedule.get_loops(sums)
    strip, row_block, h = schedule.split(
        h, [None, strips.strip_rows // strips.row_block, strips.row_block]
    )
    w_outer, w_inner = schedule.split(w, [None, tile.columns])
    o_outer, o_vector, o_lane = schedule.split(o, [None, tile.panel // lanes, lanes])
    loops = {"rows": h, "columns": w_outer, "panels": o_outer}
    order = [loops[name] for name in tile.order.split(",")]
    schedule.reorder(strip, *blocks, row_block, *order, w_inner, o_vector, o_lane)
    taps = Taps(1, 1, strips.c_block, flat=False)
    accumulate_tile(schedule, taps, simd, tile, order[-1])
    partition(schedule, w_outer)
    if layer.out_channels % tile.panel:
        for loop in (o_outer, o_vector, o_lane):
            partition(schedule, loop)
    unroll(schedule, [w_inner, o_vector])
    schedule.vectorize(o_lane)
    if blocked:
        finish_sums(schedule, strips, simd, strip)
        first = schedule.get_loops(schedule.decompose_reduction(sums, blocks[0]))
        schedule.vectorize(first[-1])
    return strip, row_block


def finish_sums(schedule: s_tir.Schedule, strips: Strips, simd: Simd, strip: Any) -> None:
    """Bias, activation and residual for the finished sums of a strip."""
    output = schedule.get_sblock("Y")
    schedule.reverse_compute_at(output, strip, preserve_unit_loops=True)
    lanes = simd.lanes(strips.block.dtype)
    o_vector, o_lane = schedule.split(schedule.get_loops(output)[-1], [None, lanes])
    if strips.projection.out_channels % lanes:
        for loop in (o_vector, o_lane):
            partition(schedule, loop)
    schedule.vectorize(o_lane)


def schedule_depthwise(
    schedule: s_tir.Schedule, strips: Strips, simd: Simd, rows: int, row_block: Any
) -> None:
    """E, or the image, to D in register tiles, in each step of ``row_block``."""
    lanes = simd.lanes(strips.block.dtype)
    output, sums = schedule.get_sblock("D"), schedule.get_sblock("ACC1")
    schedule.compute_at(output, row_block, preserve_unit_loops=True)
    h, w, c = schedule.get_loops(output)[-3:]
    h_outer, h_inner = schedule.split(h, [None, rows])
    w_outer, w_inner = schedule.split(w, [None, strips.depthwise_columns])
    c_outer, c_lane = schedule.split(c, [None, lanes])
    schedule.reorder(h_outer, w_outer, c_outer, h_inner, w_inner, c_lane)
    schedule.set_scope(sums, 0, "local")
    schedule.compute_at(sums, c_outer, preserve_unit_loops=True)
    s_h, s_w, s_lane, kh, kw = schedule.get_loops(sums)[-5:]
    schedule.reorder(kh, s_h, kw, s_w, s_lane)
    partition(schedule, w_outer)
    if strips.c_block % lanes:
        for loop in (c_outer, c_lane, s_lane):
            partition(schedule, loop)
    if simd.fma_by_element:
        c_abi.keep_rolled(schedule, c_outer, small=simd.in_order)
    if strips.producer is None:
        mark_masked(schedule, kh)
    for loop, unrolled in zip((kh, kw), unrolled_taps(strips.depthwise), strict=True):
        if extent(schedule, loop) > unrolled:
            c_abi.keep_rolled(schedule, loop)
        elif loop is kw or strips.producer is not None:
            schedule.unroll(loop)
    unroll(schedule, [s_h, s_w, h_inner, w_inner])
    schedule.vectorize(c_lane)
    schedule.vectorize(s_lane)
    *_, i_h, i_w, i_lane = schedule.get_loops(schedule.decompose_reduction(sums, kh))
    unroll(schedule, [i_h, i_w])
    schedule.vectorize(i_lane)


def schedule_producer(
    schedule: s_tir.Schedule, strips: Strips, simd: Simd, tile: Tile, row_block: Any
) -> None:
    """The image to E in register tiles, in each step of ``row_block``."""
    assert strips.producer is not None
    lanes = tile.lanes(simd, strips.block.dtype)
    output = schedule.get_sblock("E")
    schedule.compute_at(output, row_block, preserve_unit_loops=True)
    h, w, o = schedule.get_loops(output)[-3:]
    w_outer, w_inner = schedule.split(w, [None, tile.columns])
    o_outer, o_vector, o_lane = schedule.split(o, [None, tile.panel // lanes, lanes])
    loops = {"rows": h, "columns": w_outer, "panels": o_outer}
    order = [loops[name] for name in tile.order.split(",")]
    schedule.reorder(*order, w_inner, o_vector, o_lane)
    accumulate_tile(schedule, Taps.of(strips.producer, simd), simd, tile, order[-1], "0")
    # Rows of zeros, and those that are there already, are told from the others once a row.
    decide(schedule, order[order.index(h) + 1])
    partition(schedule, w_outer)
    if strips.c_block % tile.panel:
        for loop in (o_outer, o_vector, o_lane):
            partition(schedule, loop)
    unroll(schedule, [w_inner, o_vector])
    schedule.vectorize(o_lane)
