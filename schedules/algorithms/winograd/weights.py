"""Weights that are transformed in the kernel: a block of channels of one panel at a time.

See :mod:`schedules.algorithms.winograd.winograd` for what becomes of them.
"""

from __future__ import annotations

import math
from typing import Any

from tvm import s_tir, te, tirx

from schedules.algorithms.winograd.domain import Domain
from schedules.algorithms.winograd.linear import select_row
from schedules.algorithms.winograd.schedule import MAX_UNROLLED_INPUTS, unroll_points
from schedules.kernel.patches import masked
from schedules.kernel.tiles import Tile
from schedules.lower.loops.prefetch import prefetch_weights
from schedules.lower.steps import partition, unroll
from schedules.target.simd import Simd


def by_channels(domain: Domain, weights: te.Tensor, panel: int) -> te.Tensor:
    """Block ``WT``: weights in layout ``rows`` as those in layout ``channels``.

    Whole cache lines of them are read. Taken one by one, elements that lie a power of two apart
    would evict each other before the next element of their lines is wanted.
    """
    layer = domain.workload
    count, channels = -(-layer.out_channels // panel), layer.in_channels

    def element(q: tirx.Expr, c: tirx.Expr, tap: tirx.Expr, lane: tirx.Expr) -> tirx.Expr:
        o = q * panel + lane
        inside = [o < layer.out_channels] * (count * panel > layer.out_channels)
        value = weights[o, tap * channels + c].astype(layer.dtype)
        return masked(inside, value, layer.dtype)

    taps = layer.kernel_height * layer.kernel_width
    return te.compute((count, channels, taps, panel), element, name="WT")


def transform_weights(domain: Domain, weights: te.Tensor) -> te.Tensor:
    """Block ``U``: ``G_h g G_w^T`` of weights in layout ``channels``; block ``UR`` is ``G_h g``."""
    rows, columns, dtype = domain.rows, domain.columns, domain.workload.dtype
    n_w, r_h, r_w = columns.inputs, rows.taps, columns.taps
    count, channels, _, panel = weights.shape

    def by_row(
        a: tirx.Expr, j: tirx.Expr, q: tirx.Expr, c: tirx.Expr, lane: tirx.Expr
    ) -> tirx.Expr:
        taps = [weights[q, c, i * r_w + j, lane].astype(dtype) for i in range(r_h)]
        return select_row(rows.kernel, a, taps, dtype, fused=False)

    by_rows = te.compute((rows.inputs, r_w, count, channels, panel), by_row, name="UR")

    def point(p: tirx.Expr, q: tirx.Expr, c: tirx.Expr, lane: tirx.Expr) -> tirx.Expr:
        taps = [by_rows[p // n_w, j, q, c, lane] for j in range(r_w)]
        return select_row(columns.kernel, p % n_w, taps, dtype, fused=False)

    return te.compute((domain.points, count, channels, panel), point, name="U")


def schedule_weights(
    schedule: s_tir.Schedule, domain: Domain, simd: Simd, tile: Tile, loop: Any
) -> None:
    """Transform the weights that each step of ``loop`` multiplies, a vector of them at a time."""
    transformed, by_rows = schedule.get_sblock("U"), schedule.get_sblock("UR")
    lanes = tile.lanes(simd, domain.workload.dtype)
    schedule.compute_at(transformed, loop, preserve_unit_loops=True)
    point, panel, c, lane = schedule.get_loops(transformed)[-4:]
    a, b = schedule.split(point, [None, domain.columns.inputs])
    l_vector, l_lane = schedule.split(lane, [None, lanes])
    schedule.reorder(panel, c, l_vector, a, b, l_lane)
    schedule.set_scope(by_rows, 0, "local")
    spills = simd.in_order or (simd.fma_by_element and not domain.blocked)
    if spills or domain.rows.inputs > MAX_UNROLLED_INPUTS:
        # All of G_h g first: straight-line code would spill, or take long to compile.
        schedule.compute_at(by_rows, l_vector, preserve_unit_loops=True)
        r_a, r_j, *_, r_lane = schedule.get_loops(by_rows)[-5:]
        schedule.reorder(r_j, r_a, r_lane)
        for points in (a, r_j):
            unroll_points(schedule, simd, points)
    else:
        schedule.compute_at(by_rows, a, preserve_unit_loops=True)
        r_a, r_j, *_, r_lane = schedule.get_loops(by_rows)[-5:]
        unroll(schedule, [a, r_j])
    unroll(schedule, [b, r_a])
    schedule.vectorize(l_lane)
    schedule.vectorize(r_lane)
    if not simd.fma_by_element:
        taps = domain.workload.kernel_height * domain.workload.kernel_width
        prefetch_weights(schedule, l_vector, domain.c_block * taps * tile.panel)


def schedule_rows(
    schedule: s_tir.Schedule, domain: Domain, simd: Simd, tile: Tile, loop: Any
) -> None:
    """Bring the rows of weights that each step of ``loop`` multiplies into panels."""
    layer, transposed = domain.workload, schedule.get_sblock("WT")
    lanes = tile.lanes(simd, layer.dtype)
    schedule.compute_at(transposed, loop, preserve_unit_loops=True)
    _, c, tap, lane = schedule.get_loops(transposed)[-4:]
    l_vector, l_lane = schedule.split(lane, [None, lanes])
    c_outer, c_lane = schedule.split(c, [None, math.gcd(domain.c_block, lanes)])
    schedule.reorder(l_vector, tap, c_outer, l_lane, c_lane)
    if layer.out_channels % tile.panel:
        for masked_loop in (l_vector, l_lane):
            partition(schedule, masked_loop)
    # Vectors along c of all lanes: the compiler transposes them by shuffles.
    schedule.unroll(l_lane)
    schedule.vectorize(c_lane)
    if not simd.fma_by_element:
        prefetch_weights(schedule, c_outer, domain.c_block)
