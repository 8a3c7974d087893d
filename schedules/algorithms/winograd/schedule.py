"""How Winograd's algorithm is scheduled: three steps, strip by strip.

The last two are taken for one part of the output channels after the other. Where the kernel
transforms the weights, these parts are panels, see
:mod:`schedules.algorithms.winograd.panels`.

The blocks are those of :mod:`schedules.algorithms.winograd.domain`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from tvm import s_tir

from schedules.algorithms.winograd.domain import Domain
from schedules.kernel.microkernel import accumulate_tile
from schedules.kernel.steps import finish_tile, split_tile
from schedules.kernel.tiles import Tile
from schedules.lower.masked_loops import specialize
from schedules.lower.stages import keep_rolled, mark_stage
from schedules.lower.steps import extent, partition, unroll
from schedules.target.simd import Simd

#: Image pixels of a tile along one axis that are still unrolled on x86-64.
MAX_UNROLLED_INPUTS = 6


def schedule_strips(
    schedule: s_tir.Schedule,
    domain: Domain,
    simd: Simd,
    tile: Tile,
    image_step: Callable[[s_tir.Schedule, Any, Simd, Any], None] | None = None,
) -> None:
    """Strip by strip: image to V, and then for each part of the channels V to M, M to output.

    ``image_step`` schedules the first step; by default :func:`schedule_image` does.

    Threads share the parts of all strips. V is computed by every thread that has one of a strip:
    that takes less time than getting it from another core.
    """
    # A part that ends within a vector would have the next one's products in M as well.
    lanes, channels = output_lanes(domain, simd, tile), domain.workload.out_channels
    image, h, w, o = schedule.get_loops(schedule.get_sblock("Y"))
    strip, down, y = schedule.split(h, [None, domain.strip, domain.rows.outputs])
    across, x = schedule.split(w, [None, domain.columns.outputs])
    part, o_outer, o_lane = schedule.split(o, [None, -(-domain.panel // lanes), lanes])
    outer = (strip, part, image) if domain.images > 1 else (image, strip, part)
    schedule.reorder(*outer, down, across, o_outer, y, x, o_lane)
    if channels % lanes or channels % domain.panel:
        for loop in (part, o_outer, o_lane):
            partition(schedule, loop)
    # From the last step to the first: each is placed where the next one needs it.
    schedule_output(schedule, domain, simd, o_outer, (y, x, o_lane))
    schedule_products(schedule, domain, simd, tile, part)
    (image_step or schedule_image)(schedule, domain, simd, strip)
    spread_points(schedule, domain)
    mark_stage(schedule, strip, inside=part if domain.parts > 1 else None)


def output_lanes(domain: Domain, simd: Simd, tile: Tile) -> int:
    """Output channels that are computed at once: of integers two vectors, which are narrowed."""
    if domain.workload.is_quantised:
        return math.gcd(tile.panel, 2 * simd.lanes(domain.types[1]))
    return tile.lanes(simd, domain.workload.dtype)


def schedule_output(
    schedule: s_tir.Schedule, domain: Domain, simd: Simd, vector: Any, tile: tuple[Any, Any, Any]
) -> None:
    """M to output: for each step of ``vector``, one vector of channels of a tile, rows first."""
    y, x, o_lane = tile
    by_rows = schedule.get_sblock("MR")
    schedule.set_scope(by_rows, 0, "local")
    schedule.compute_at(by_rows, vector, preserve_unit_loops=True)
    r_y, _, r_b, r_lane = schedule.get_loops(by_rows)[-4:]
    schedule.reorder(r_b, r_y, r_lane)
    if domain.workload.out_channels % max(
        extent(schedule, r_lane), simd.lanes(domain.workload.dtype)
    ):
        partition(schedule, r_lane)
    for loop in (y, r_b):
        unroll_points(schedule, simd, loop)
    unroll(schedule, [x, r_y])
    schedule.vectorize(o_lane)
    schedule.vectorize(r_lane)


def schedule_products(
    schedule: s_tir.Schedule, domain: Domain, simd: Simd, tile: Tile, part: Any
) -> None:
    """V to M in register tiles, in each step of ``part``."""
    layer = domain.workload
    products = schedule.get_sblock("M")
    schedule.compute_at(products, part, preserve_unit_loops=True)
    point, t, o, *blocks = schedule.get_loops(products)[-3 - domain.blocked :]
    lanes = tile.lanes(simd, domain.products.dtype)
    if layer.is_quantised:  # a vector of weights at a time
        lanes = math.gcd(tile.panel, simd.lanes(domain.types[0]))
    loops = split_tile(schedule, tile, lanes, point, t, o)
    outside = [*loops.order, *blocks]
    schedule.reorder(*outside, *loops.inside)
    accumulate_tile(schedule, domain.taps, simd, tile, outside[-1], lanes=lanes, form=domain.form)
    finish_tile(schedule, tile, loops, layer.out_channels)
    if blocks:
        schedule.decompose_reduction(products, blocks[0])


def schedule_image(schedule: s_tir.Schedule, domain: Domain, simd: Simd, strip: Any) -> None:
    """Image to V in each ``strip``, a vector of channels of a tile at a time, rows first."""
    lanes = simd.lanes(domain.types[0])
    transformed, by_rows = schedule.get_sblock("V"), schedule.get_sblock("VR")
    schedule.compute_at(transformed, strip, preserve_unit_loops=True)
    point, *images, t, c = schedule.get_loops(transformed)[-2 - len(domain.tile_shape) :]
    a, b = schedule.split(point, [None, domain.columns.inputs])
    down, across = schedule.split(t, [None, domain.tile_columns])
    c_outer, c_lane = schedule.split(c, [None, lanes])
    schedule.reorder(*images, down, across, c_outer, a, b, c_lane)
    schedule.set_scope(by_rows, 0, "local")
    schedule.compute_at(by_rows, c_outer, preserve_unit_loops=True)
    r_a, _, r_j, r_lane = schedule.get_loops(by_rows)[-4:]
    schedule.reorder(r_j, r_a, r_lane)
    partition(schedule, across)
    if domain.workload.in_channels % lanes:
        for loop in (c_outer, c_lane, r_lane):
            partition(schedule, loop)
    specialize(schedule, c_outer)
    for loop in (a, r_j):
        unroll_points(schedule, simd, loop)
    unroll(schedule, [b, r_a])
    schedule.vectorize(c_lane)
    schedule.vectorize(r_lane)


def spread_points(schedule: s_tir.Schedule, domain: Domain) -> None:
    """Lay out V and M, when all else is scheduled: see :attr:`Domain.line`.

    What is multiplied by one block of channels lies side by side.
    """
    size, line = domain.image_block, domain.line
    products = schedule.get_sblock("M_update" if domain.blocked else "M")
    axes = {"V": 2}

    def by_blocks(n: Any, s: Any, p: Any, *index: Any) -> Sequence[Any]:
        *tile, c = index
        return n, s, c // size, p, *tile, c % size

    if size < domain.workload.in_channels:
        schedule.transform_layout("V", ("write", 0), by_blocks)
        axes["V"] = 3
    # TVM rounds the distance up to the next multiple: to the factor itself.
    schedule.storage_align("V", 0, axes["V"], domain.point_elements, 0)
    schedule.storage_align(products, 0, 2, domain.tiles * domain.panel + line, 0)


def unroll_points(schedule: s_tir.Schedule, simd: Simd, loop: Any) -> None:
    """Unroll ``loop`` over rows or columns of a tile: whole, by threes or twos, or not at all.

    A whole tile is more vectors than there are registers. On x86-64 what spills costs less than the
    loop would (5 % of the whole kernel, measured), if the tile is not too large to compile; NEON
    has no registers to spare for it.
    """
    size = extent(schedule, loop)
    if simd.fma_by_element or size > MAX_UNROLLED_INPUTS:
        step = 1 if simd.in_order else next(n for n in (3, 2, 1) if size % n == 0)
        loop, step_loop = schedule.split(loop, [None, step])
        keep_rolled(schedule, loop, small=simd.in_order)
        schedule.unroll(step_loop)
    else:
        schedule.unroll(loop)
