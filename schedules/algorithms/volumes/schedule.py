"""How ``winograd3d`` is scheduled: strips of rows of tiles, slab by slab.

A tile is more vectors than there are registers: transforms along an axis keep one line of it there,
and what lies between two of them is on the stack. The blocks are those of
:mod:`schedules.algorithms.volumes.domain`.
"""

from __future__ import annotations

from typing import Any

from tvm import s_tir

from schedules.algorithms.volumes.domain import VolumeDomain
from schedules.algorithms.winograd.schedule import schedule_products, spread_points
from schedules.kernel.tiles import Tile
from schedules.lower.stages import keep_rolled, mark_stage
from schedules.lower.steps import partition, unroll
from schedules.target.simd import Simd


def schedule_slabs(schedule: s_tir.Schedule, domain: VolumeDomain, simd: Simd, tile: Tile) -> None:
    """Strip by strip: volume to V, V to M, M to output. Threads share the strips of a slab."""
    lanes, channels = simd.lanes(domain.workload.dtype), domain.workload.out_channels
    volume, d, h, w, o = schedule.get_loops(schedule.get_sblock("Y"))
    slab, z = schedule.split(d, [None, domain.depth.outputs])
    strip, down, y = schedule.split(h, [None, domain.strip, domain.rows.outputs])
    across, x = schedule.split(w, [None, domain.columns.outputs])
    o_outer, o_lane = schedule.split(o, [None, lanes])
    schedule.reorder(volume, slab, strip, down, across, o_outer, z, y, x, o_lane)
    if channels % lanes:
        for loop in (o_outer, o_lane):
            partition(schedule, loop)
    # From the last step to the first: each is placed where the next one needs it.
    schedule_output(schedule, domain, simd, o_outer, (z, y, x, o_lane))
    schedule_products(schedule, domain, simd, tile, strip)
    schedule_volume(schedule, domain, simd, strip)
    spread_points(schedule, domain)
    mark_stage(schedule, strip)


def schedule_output(
    schedule: s_tir.Schedule, domain: VolumeDomain, simd: Simd, vector: Any, tile: tuple[Any, ...]
) -> None:
    """M to output: for each step of ``vector``, one vector of channels of a tile, depth first."""
    z, y, x, o_lane = tile
    has_tail = domain.workload.out_channels % simd.lanes(domain.workload.dtype) > 0
    _, r_z, r_y, _, r_b, r_lane = _on_stack(schedule, "MR", vector)[-6:]
    schedule.reorder(r_z, r_b, r_y, r_lane)
    _, s_z, _, s_a, s_b, s_lane = _on_stack(schedule, "MD", vector)[-6:]
    schedule.reorder(s_a, s_b, s_z, s_lane)
    for lane in (r_lane, s_lane):
        if has_tail:
            partition(schedule, lane)
    _line(schedule, simd, [z, y], x, o_lane)
    _line(schedule, simd, [r_z, r_b], r_y, r_lane)
    _line(schedule, simd, [s_a, s_b], s_z, s_lane)


def schedule_volume(schedule: s_tir.Schedule, domain: VolumeDomain, simd: Simd, strip: Any) -> None:
    """Volume to V in each ``strip``, a vector of channels of a tile at a time, depth first."""
    lanes = simd.lanes(domain.workload.dtype)
    transformed = schedule.get_sblock("V")
    schedule.compute_at(transformed, strip, preserve_unit_loops=True)
    point, t, c = schedule.get_loops(transformed)[-3:]
    a, b, k = schedule.split(point, [None, domain.rows.inputs, domain.columns.inputs])
    down, across = schedule.split(t, [None, domain.tile_columns])
    c_outer, c_lane = schedule.split(c, [None, lanes])
    schedule.reorder(down, across, c_outer, a, b, k, c_lane)
    r_a, r_b, _, r_j, r_lane = _on_stack(schedule, "VR", c_outer)[-5:]
    schedule.reorder(r_a, r_j, r_b, r_lane)
    s_a, _, s_i, s_j, s_lane = _on_stack(schedule, "VD", c_outer)[-5:]
    schedule.reorder(s_i, s_j, s_a, s_lane)
    if domain.workload.in_channels % lanes:
        for loop in (c_outer, c_lane, r_lane, s_lane):
            partition(schedule, loop)
    _line(schedule, simd, [a, b], k, c_lane)
    _line(schedule, simd, [r_a, r_j], r_b, r_lane)
    _line(schedule, simd, [s_i, s_j], s_a, s_lane)


def _on_stack(schedule: s_tir.Schedule, name: str, loop: Any) -> list[Any]:
    """Compute block ``name`` in each step of ``loop``; returns its loops."""
    block = schedule.get_sblock(name)
    schedule.set_scope(block, 0, "local")
    schedule.compute_at(block, loop, preserve_unit_loops=True)
    return list(schedule.get_loops(block))


def _line(schedule: s_tir.Schedule, simd: Simd, outside: list[Any], line: Any, lane: Any) -> None:
    """Straight-line code for one line of a tile, vector by vector."""
    for loop in outside:
        keep_rolled(schedule, loop, small=simd.in_order)
    unroll(schedule, [line])
    schedule.vectorize(lane)
