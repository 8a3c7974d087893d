"""Winograd's algorithm panel by panel: weights are transformed just before they are used.

Loops, outermost first::

    strip: V of the strip
      panel of output channels
        block of input channels: U of both
                                 at every point, all tiles of the strip: M += V U
        output of the panel

So U, which is several times as large as the weights, is in a near cache whenever it is read.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from tvm import s_tir

from schedules.algorithms.winograd.domain import Domain
from schedules.algorithms.winograd.schedule import (
    schedule_image,
    schedule_output,
    spread_points,
)
from schedules.algorithms.winograd.weights import schedule_rows, schedule_weights
from schedules.kernel.microkernel import accumulate_tile
from schedules.kernel.steps import finish_tile, split_tile
from schedules.kernel.tiles import Tile
from schedules.lower.stages import mark_stage
from schedules.lower.steps import partition
from schedules.target.simd import Simd


def schedule_panels(
    schedule: s_tir.Schedule, domain: Domain, simd: Simd, tile: Tile, in_place: bool
) -> None:
    """Strip by strip, and in these panel by panel; threads share the panels of all strips.

    ``in_place`` weights are those in layout ``rows``.
    """
    layer = domain.workload
    # Steps that are unrolled together are of one block of channels: U has no others.
    tile = replace(tile, k_block=math.gcd(tile.k_block, domain.c_block))
    image, h, w, o = schedule.get_loops(schedule.get_sblock("Y"))
    strip, down, y = schedule.split(h, [None, domain.strip, domain.rows.outputs])
    across, x = schedule.split(w, [None, domain.columns.outputs])
    lanes = tile.lanes(simd, layer.dtype)
    panel, o_vector, o_lane = schedule.split(o, [None, tile.panel // lanes, lanes])
    outer = (strip, panel, image) if domain.images > 1 else (image, strip, panel)
    schedule.reorder(*outer, down, across, o_vector, y, x, o_lane)
    if layer.out_channels % tile.panel:
        for loop in (panel, o_vector, o_lane):
            partition(schedule, loop)
    schedule_output(schedule, domain, simd, o_vector, (y, x, o_lane))
    products = schedule.get_sblock("M")
    block = schedule_products(schedule, domain, simd, tile, panel)
    schedule_weights(schedule, domain, simd, tile, block)
    if in_place:
        schedule_rows(schedule, domain, simd, tile, block)
    if domain.blocked:
        schedule.decompose_reduction(products, block)
    schedule_image(schedule, domain, simd, strip)
    spread_points(schedule, domain)
    schedule.storage_align("U", 0, 0, domain.c_block * tile.panel + domain.line, 0)
    mark_stage(schedule, strip, inside=panel if domain.parts > 1 else None)


def schedule_products(
    schedule: s_tir.Schedule, domain: Domain, simd: Simd, tile: Tile, panel: Any
) -> Any:
    """V to M in each step of ``panel``; returns the loop over blocks of channels, or ``panel``."""
    layer, products = domain.workload, schedule.get_sblock("M")
    schedule.compute_at(products, panel, preserve_unit_loops=True)
    point, t, o, *blocks = schedule.get_loops(products)[-3 - domain.blocked :]
    loops = split_tile(schedule, tile, tile.lanes(simd, layer.dtype), point, t, o)
    schedule.reorder(*blocks, point, loops.panels, loops.columns, *loops.inside)
    accumulate_tile(schedule, domain.taps, simd, tile, loops.columns)
    finish_tile(schedule, tile, loops, layer.out_channels)
    return blocks[0] if blocks else panel
