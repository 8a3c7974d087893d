"""The scheduling steps of register tiles, in the order in which schedules take them.

A register tile is ``columns`` pixels side by side by ``panel`` output channels. Its loops are split
and ordered; what stores its sums follows it; tails are cut off; and what is inside becomes
straight-line code, vector by vector.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tvm import s_tir

from schedules.kernel.depthwise_tiles import unrolled_taps
from schedules.kernel.tiles import Tile
from schedules.layer.words import WORD, in_words, run_of
from schedules.layer.workload import Conv2dWorkload
from schedules.lower.stages import keep_rolled
from schedules.lower.steps import extent, partition, unroll
from schedules.target.simd import Simd


@dataclass(frozen=True)
class TileLoops:
    """The loops of a block that is computed tile by tile.

    ``rows``, ``columns`` and ``panels`` count tiles; ``order`` is these three, outermost first.
    ``pixel``, ``vector`` and ``lane`` are inside of a tile.
    """

    rows: Any
    columns: Any
    panels: Any
    order: tuple[Any, ...]
    pixel: Any
    vector: Any
    lane: Any

    @property
    def inside(self) -> tuple[Any, Any, Any]:
        """One tile."""
        return self.pixel, self.vector, self.lane


def split_tile(
    schedule: s_tir.Schedule, tile: Tile, lanes: int, row: Any, pixel: Any, o: Any
) -> TileLoops:
    """Split the loops over pixels and output channels of one image row into tiles."""
    columns, pixel = schedule.split(pixel, [None, tile.columns])
    panels, vector, lane = split_panel(schedule, tile, lanes, o)
    loops = {"rows": row, "columns": columns, "panels": panels}
    order = tuple(loops[name] for name in tile.order.split(","))
    return TileLoops(row, columns, panels, order, pixel, vector, lane)


def split_panel(schedule: s_tir.Schedule, tile: Tile, lanes: int, o: Any) -> list[Any]:
    """Loops over panels, the vectors of one, and the lanes of those."""
    return list(schedule.split(o, [None, tile.panel // lanes, lanes]))


def follow(
    schedule: s_tir.Schedule, block: str, loop: Any, lanes: int, channels: int, whole: int
) -> list[Any]:
    """Compute ``block`` in each step of ``loop``, which has its input, by vectors of channels.

    The last of ``channels`` channels that fill up no ``whole`` ones are cut off. Returns its loops
    but for the lanes.
    """
    stored = schedule.get_sblock(block)
    schedule.reverse_compute_at(stored, loop, preserve_unit_loops=True)
    *pixel, o = schedule.get_loops(stored)
    vector, lane = schedule.split(o, [None, lanes])
    cut_tails(schedule, (vector, lane), channels, whole)
    schedule.vectorize(lane)
    return [*pixel, vector]


def cut_tails(schedule: s_tir.Schedule, loops: Iterable[Any], size: int, whole: int) -> None:
    """Split off of ``loops`` the rest of ``size`` elements that fills up no ``whole`` ones."""
    if size % whole:
        for loop in loops:
            partition(schedule, loop)


def finish_tile(schedule: s_tir.Schedule, tile: Tile, loops: TileLoops, channels: int) -> None:
    """Cut off border tiles and tails of ``channels``; straight-line code inside."""
    partition(schedule, loops.columns)
    cut_tails(schedule, (loops.panels, loops.vector, loops.lane), channels, tile.panel)
    straighten(schedule, loops.pixel, loops.vector, loops.lane)


def straighten(schedule: s_tir.Schedule, *loops: Any) -> None:
    """Straight-line code of ``loops``, the last of which is the lanes of a vector."""
    *outer, lane = loops
    unroll(schedule, outer)
    schedule.vectorize(lane)


def begin_sums(schedule: s_tir.Schedule, sums: Any, loop: Any, unrolled: int = 0) -> None:
    """Set ``sums`` to zero before ``loop``, the outermost of the reduction, vector by vector.

    So many loops around a vector are ``unrolled``. The last step: it copies annotations of loops.
    """
    loops = schedule.get_loops(schedule.decompose_reduction(sums, loop))
    straighten(schedule, *loops[-1 - unrolled :])


def sum_taps(
    schedule: s_tir.Schedule,
    sums: Any,
    layer: Conv2dWorkload,
    loop: Any,
    unroll_rows: bool = True,
) -> tuple[Any, Any, Any]:
    """Compute a tile of depthwise ``sums`` in registers, in each step of ``loop``.

    The tile's rows are inside of the kernel's: what one kernel row reads for the second row of
    pixels, the next one reads for the first. Returns the loops over kernel rows, rows and lanes.
    """
    schedule.set_scope(sums, 0, "local")
    schedule.compute_at(sums, loop, preserve_unit_loops=True)
    *_, row, pixel, lane, kh, kw = schedule.get_loops(sums)
    schedule.reorder(kh, row, kw, pixel, lane)
    for taps, unrolled in zip((kh, kw), unrolled_taps(layer), strict=True):
        if extent(schedule, taps) > unrolled:
            keep_rolled(schedule, taps)
        elif taps is kw or unroll_rows:
            schedule.unroll(taps)
    straighten(schedule, row, pixel, lane)
    return kh, row, lane


def sum_pairs(schedule: s_tir.Schedule, sums: Any, loop: Any) -> tuple[Any, Any]:
    """Compute a tile of depthwise ``sums``, by pairs of taps, in each step of ``loop``.

    Returns the loops over pairs and lanes.
    """
    schedule.set_scope(sums, 0, "local")
    schedule.compute_at(sums, loop, preserve_unit_loops=True)
    *_, row, pixel, lane, pair = schedule.get_loops(sums)
    schedule.reorder(pair, row, pixel, lane)
    straighten(schedule, pair, row, pixel, lane)
    return pair, lane


def copy_vectors(
    schedule: s_tir.Schedule, block: str, workload: Conv2dWorkload, simd: Simd
) -> None:
    """Copy by vectors along the channels in ``block``, whose innermost loop holds whole taps.

    Words that hold elements of several taps are copied one by one.
    """
    depth = schedule.get_loops(schedule.get_sblock(block))[-1]
    if workload.is_quantised and run_of(workload) > workload.in_channels:
        schedule.unroll(depth)
        return
    whole = in_words(workload)
    lanes = min(simd.lanes(whole.dtype), whole.in_channels)
    _, c = schedule.split(depth, [None, whole.in_channels])
    vector, lane = schedule.split(c, [None, lanes])
    cut_tails(schedule, [vector], whole.in_channels, lanes)
    if workload.is_quantised:  # the last word may be filled up
        cut_tails(schedule, [vector, lane], workload.in_channels, WORD)
    schedule.vectorize(lane)
