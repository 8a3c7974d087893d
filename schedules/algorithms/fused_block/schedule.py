"""How ``fused_block`` is scheduled: from the output back to the image, strip by strip.

The blocks are those of :mod:`schedules.algorithms.fused_block.strips`.
"""

from __future__ import annotations

from typing import Any

from tvm import s_tir

from schedules.algorithms.fused_block.strips import Strips
from schedules.kernel import depthwise_tiles
from schedules.kernel.depthwise_tiles import PAIRED, SINGLE
from schedules.kernel.microkernel import accumulate_tile, stored_lanes
from schedules.kernel.patches import Taps
from schedules.kernel.steps import (
    begin_sums,
    cut_tails,
    finish_tile,
    follow,
    split_tile,
    straighten,
    sum_pairs,
    sum_taps,
)
from schedules.kernel.tiles import Tile
from schedules.layer.words import WORD, in_words
from schedules.layer.workload import Conv2dWorkload
from schedules.lower.masked_loops import branch, decide, mark_masked
from schedules.lower.row_guards import guard_rows
from schedules.lower.stages import keep_rolled, mark_stage
from schedules.lower.steps import partition
from schedules.target.simd import Simd


def schedule_strips(
    schedule: s_tir.Schedule,
    strips: Strips,
    simd: Simd,
    tiles: dict[str, Tile],
    depthwise_rows: int,
    stage: int,
    paired: bool = False,
) -> s_tir.Schedule:
    """All blocks of channels of a strip before the next strip; threads share the strips.

    Of one block of channels, they share a strip's row blocks: E stays from one to the next.
    """
    strip, row_block = schedule_projection(schedule, strips, simd, tiles["project"])
    schedule_depthwise(schedule, strips, simd, depthwise_rows, row_block, paired)
    if strips.producer is not None:
        schedule_producer(schedule, strips, simd, tiles["expand"], row_block)
    mark_stage(schedule, strip, stage, inside=row_block if strips.c_blocks == 1 else None)
    blocks = ("E", "S_init", "S_update", "Y")
    return guard_rows(schedule, blocks, "E" if strips.rolls else None)


def schedule_projection(
    schedule: s_tir.Schedule, strips: Strips, simd: Simd, tile: Tile
) -> tuple[Any, Any]:
    """D to the output in register tiles; returns the loops over strips and row blocks."""
    layer, blocked = strips.projection, strips.c_blocks > 1
    sums = schedule.get_sblock("S" if blocked else "Y")
    _, h, w, o, *blocks = schedule.get_loops(sums)
    strip, row_block, h = schedule.split(
        h, [None, strips.strip_rows // strips.row_block, strips.row_block]
    )
    together = stored_together(schedule, "Y", layer, simd, tile)
    loops = split_tile(schedule, tile, together, h, w, o)
    schedule.reorder(strip, *blocks, row_block, *loops.order, *loops.inside)
    taps = Taps(1, 1, strips.c_block // (WORD if layer.is_quantised else 1))
    accumulate_tile(schedule, taps, simd, tile, loops.order[-1])
    finish_tile(schedule, tile, loops, layer.out_channels)
    if blocked:
        # Bias, activation and residual follow the finished sums of a strip.
        lanes = simd.lanes(layer.dtype)
        follow(schedule, "Y", strip, lanes, layer.out_channels, lanes)
        begin_sums(schedule, sums, blocks[0])
    return strip, row_block


def stored_together(
    schedule: s_tir.Schedule, result: str, layer: Conv2dWorkload, simd: Simd, tile: Tile
) -> int:
    """Output channels of ``tile`` that block ``result`` stores at once."""
    lanes = tile.lanes(simd, in_words(layer).dtype)
    return stored_lanes(schedule, result, simd, tile.panel, lanes)


def schedule_depthwise(
    schedule: s_tir.Schedule, strips: Strips, simd: Simd, rows: int, row_block: Any, paired: bool
) -> None:
    """E, or the image, to D in register tiles, in each step of ``row_block``."""
    lanes = depthwise_tiles.vector_lanes(strips.depthwise, simd, PAIRED if paired else SINGLE)
    output, sums = schedule.get_sblock("D"), schedule.get_sblock("ACC1")
    schedule.compute_at(output, row_block, preserve_unit_loops=True)
    h, w, c = schedule.get_loops(output)[-3:]
    h_outer, h_inner = schedule.split(h, [None, rows])
    w_outer, w_inner = schedule.split(w, [None, strips.depthwise_columns])
    c_outer, c_lane = schedule.split(c, [None, lanes])
    schedule.reorder(h_outer, w_outer, c_outer, h_inner, w_inner, c_lane)
    masked = strips.producer is None
    if paired:
        first, s_lane = sum_pairs(schedule, sums, c_outer)
    else:
        first, _, s_lane = sum_taps(
            schedule, sums, strips.depthwise, c_outer, unroll_rows=not masked
        )
    if masked:
        (branch if strips.depthwise.is_quantised else mark_masked)(schedule, first)
    partition(schedule, w_outer)
    cut_tails(schedule, (c_outer, c_lane, s_lane), strips.c_block, lanes)
    if simd.fma_by_element:
        keep_rolled(schedule, c_outer, small=simd.in_order)
    straighten(schedule, h_inner, w_inner, c_lane)
    begin_sums(schedule, sums, first, unrolled=0 if paired else 2)


def schedule_producer(
    schedule: s_tir.Schedule, strips: Strips, simd: Simd, tile: Tile, row_block: Any
) -> None:
    """The image to E in register tiles, in each step of ``row_block``."""
    assert strips.producer is not None
    output = schedule.get_sblock("E")
    schedule.compute_at(output, row_block, preserve_unit_loops=True)
    h, w, o = schedule.get_loops(output)[-3:]
    together = stored_together(schedule, "E", strips.producer, simd, tile)
    loops = split_tile(schedule, tile, together, h, w, o)
    schedule.reorder(*loops.order, *loops.inside)
    taps = Taps.in_image(strips.producer, simd)
    accumulate_tile(schedule, taps, simd, tile, loops.order[-1], "0")
    # Rows of zeros, and those that are there already, are told from the others once a row.
    decide(schedule, loops.order[loops.order.index(h) + 1])
    finish_tile(schedule, tile, loops, strips.c_block)
