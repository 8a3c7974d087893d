"""Sums of the image under each output pixel, for weights with a zero point.

    sum of x (w - z)  =  sum of x w  -  z (sum of x)

The products are of words as they are; what has to be taken off them is the same for all output
channels of a pixel. It is computed once for each tile of pixels, in vectors along the channels,
where the loop over panels of output channels is inside; else once for each panel.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from tvm import s_tir, te, tirx
from tvm.tirx import Expr

from schedules.kernel.patches import Patches
from schedules.kernel.steps import TileLoops, begin_sums, straighten
from schedules.layer.words import WORD, run_of
from schedules.lower.integers import signed, spread_dot4, unsigned_dot4
from schedules.lower.masked_loops import branch
from schedules.lower.stages import keep_rolled
from schedules.lower.steps import extent

#: Blocks: the sums of each lane, and what is taken off a pixel's sums of products.
LANES, TAKEN = "XLANES", "XTAKEN"
#: A word of ones.
ONES = 0x01010101
#: Words that are added at once: lanes of a vector of any instruction set.
MOST_LANES = 4
#: Kernels of up to so many columns have these unrolled, which decides the masks of border tiles.
MAX_UNROLLED_TAPS = 7


def taken_off(patches: Patches, zero: Expr, spread: bool) -> te.Tensor:
    """Block :data:`TAKEN`: for each pixel, ``zero`` times the sum of all elements of its patch.

    Of ``spread`` sums, which are of signed elements, likewise for each of a pixel's lanes.
    """
    shape = (*patches.shape[:2], patches.columns)
    lanes = math.gcd(patches.taps.depth, MOST_LANES)
    kh, kw, c = replace(patches.taps, depth=patches.taps.depth // lanes).axes()
    last, filled = patches.taps.depth - 1, run_of(patches.workload) % WORD
    ones, ones_of_last = (tirx.const(value, "int32") for value in (ONES, ONES % 256**filled))

    def lane_sum(n: Expr, h: Expr, w: Expr, lane: Expr) -> Expr:
        step = c * lanes + lane
        word = patches.masked_element(n, h, w, kh, kw, step)
        # What fills up a run is zero in the image, but not in words beyond the border.
        weights = tirx.Select(step < last, ones, ones_of_last) if filled else ones
        added = spread_dot4(weights, signed(word)) if spread else unsigned_dot4(weights, word)
        return te.sum(added, axis=[kh, kw, c])

    sums = te.compute((*shape, lanes), lane_sum, name=LANES)

    if spread:
        return te.compute((*shape, lanes), lambda *i: zero * sums(*i), name=TAKEN)

    def taken(n: Expr, h: Expr, w: Expr) -> Expr:
        return zero * sum((sums[n, h, w, lane] for lane in range(1, lanes)), sums[n, h, w, 0])

    return te.compute(shape, taken, name=TAKEN)


def schedule_taken(schedule: s_tir.Schedule, loops: TileLoops) -> None:
    """Compute what is taken off in each tile of pixels."""
    *_, innermost = loops.order
    loop: Any = loops.order[1] if innermost is loops.panels else innermost
    taken, sums = schedule.get_sblock(TAKEN), schedule.get_sblock(LANES)
    for block in (taken, sums):
        schedule.set_scope(block, 0, "local")
        # At the first place that there is: before the sums of products begin.
        schedule.compute_at(block, loop, preserve_unit_loops=True, index=-2)
    _, _, pixel, *lanes = schedule.get_loops(taken)[-len(schedule.get(taken).iter_vars) :]
    schedule.unroll(pixel)
    for lane in lanes:
        schedule.vectorize(lane)
    *_, pixel, lane, kh, kw, c = schedule.get_loops(sums)
    schedule.reorder(kh, kw, c, pixel, lane)
    branch(schedule, kh)
    if extent(schedule, kw) <= MAX_UNROLLED_TAPS:
        schedule.unroll(kw)
    else:
        keep_rolled(schedule, kw)
    if extent(schedule, c) == 1:
        schedule.unroll(c)
    else:
        keep_rolled(schedule, c)
    straighten(schedule, pixel, lane)
    begin_sums(schedule, sums, kh, unrolled=1)
