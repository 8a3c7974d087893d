"""``kn2row_aa``: a sum of 1x1 convolutions, one for each kernel tap, accumulated where they belong.

Anderson, Vasudevan, Keane and Gregg, "High-Performance Low-Memory Lowering" (arXiv 1709.03395).
A K_h x K_w convolution is the sum of K_h K_w 1x1 convolutions of shifted images. In kn2row-aa, the
accumulating algorithm with an aliased result, each 1x1 product is added to the shifted output; the
paper needs O(K W) elements more, for results that are shifted beyond the border. Here a tile is
computed at its place in the output, and what lies beyond the border is masked, so that the sums
are the output tensor itself, row by row, and bias and activation are applied in place.

Sums of int8 products are wider than the output: a row of them is in the workspace, and requantised
after its last tap. Where a word of the image holds several taps, these are one product.

Workspace: 0; of int8, ``W' M`` sums of 4 bytes a thread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from tvm import s_tir, te
from tvm.tirx import Expr

from schedules.algorithms.base import FLOAT_OR_INT8
from schedules.algorithms.indirect import Lowering
from schedules.algorithms.shared.shift_add import single_taps, tap_count
from schedules.algorithms.shared.weight_panels import make_at_once, make_panels
from schedules.kernel import tiles
from schedules.kernel.epilogue import finished
from schedules.kernel.knobs import Knob, Knobs
from schedules.kernel.microkernel import accumulate_tile, patch_elements, stored_lanes
from schedules.kernel.packing import SPREAD_OUT
from schedules.kernel.patches import ImagePatches, Taps, image_patches, masked, placeholders
from schedules.kernel.sharing import Share
from schedules.kernel.steps import begin_sums, finish_tile, follow, split_tile
from schedules.kernel.tiles import Product, Tile, is_in_words
from schedules.layer.words import in_words
from schedules.layer.workload import Conv2dWorkload
from schedules.lower.integers import dot4
from schedules.lower.masked_loops import branch, mark_masked
from schedules.lower.memory import join
from schedules.lower.stages import mark_stage
from schedules.target.simd import Simd


class Kn2rowAa(Lowering):
    """Anderson et al., arXiv 1709.03395, in place."""

    name = "kn2row_aa"
    source = "Anderson et al., High-Performance Low-Memory Lowering, arXiv 1709.03395"
    workspace = "0"
    good_for = "no workspace, from pointwise products alone"
    types = FLOAT_OR_INT8
    skips_borders = True

    def weight_sources(self, workload: Conv2dWorkload) -> Sequence[str]:
        return [source for source in super().weight_sources(workload) if source != SPREAD_OUT]

    def workspace_bytes(self, workload: Conv2dWorkload, knobs: Knobs) -> int:
        return join(self.panel_bytes(workload, knobs), self.thread_bytes(workload, knobs))

    def thread_bytes(self, workload: Conv2dWorkload, knobs: Knobs) -> int:
        # Sums of floats are in the output.
        sums = workload.out_width * workload.out_channels if workload.is_quantised else 0
        return sums * in_words(workload).element_bytes

    def makes_at_once(self, workload: Conv2dWorkload, knobs: Knobs) -> bool:
        return True

    def knobs(self, workload: Conv2dWorkload, simd: Simd) -> Mapping[str, Knob]:
        choices = dict(super().knobs(workload, simd))
        # Sums of one image row pass through the cache for every tap: rows stay outermost.
        orders = tuple(order for order in tiles.ORDERS if order.startswith("rows"))
        order = replace(choices["order"], choices=orders, default=orders[0])
        return {**choices, "order": order}

    def product(self, workload: Conv2dWorkload, simd: Simd) -> Product:
        return Product(in_words(workload), taps_of(workload, simd), workload.out_width)

    def is_indirect(self, workload: Conv2dWorkload) -> bool:
        return tap_count(workload) == 1

    def moved_elements(self, workload: Conv2dWorkload, knobs: Knobs) -> int:
        # The sums are read and written again for every tap.
        sums = workload.pixels * workload.out_channels * tap_count(workload)
        return sums + super().moved_elements(workload, knobs)

    def product_share(
        self, workload: Conv2dWorkload, simd: Simd, knobs: Knobs, shared: str | None
    ) -> Share:
        return Share(workload.out_height)

    def schedule(self, workload: Conv2dWorkload, simd: Simd, knobs: Knobs) -> s_tir.Schedule:
        tile, taps = Tile.of(knobs), taps_of(workload, simd)
        packed = self.packed_weights(workload, knobs)
        image, weights, constants = placeholders(workload, packed)
        panels = make_panels(workload, packed, weights, tile)
        patches = image_patches(workload, image, taps, constants, tile.columns)
        sums = shifted_sums(workload, patches, panels, tile)
        arguments = [image, weights, *constants.tensors, *finished(workload, sums, constants)]
        if not workload.is_quantised:  # the sums are a view of the output
            arguments.append(sums)
        schedule = s_tir.Schedule(te.create_prim_func(arguments))
        stage = make_at_once(schedule, workload, packed, tile, simd)
        schedule_sums(schedule, in_words(workload), simd, tile, taps, stage)
        return schedule


def taps_of(workload: Conv2dWorkload, simd: Simd) -> Taps:
    """Every tap by itself, but for those that share words."""
    return Taps.of(workload, simd) if workload.is_quantised else single_taps(workload)


def shifted_sums(
    workload: Conv2dWorkload, patches: ImagePatches, weights: te.Tensor, tile: Tile
) -> te.Tensor:
    """Block ``S``, the output before bias: the sum over taps of 1x1 products (block ``ACC``)."""
    dtype, taps = workload.dtype, patches.taps
    batch, rows, _ = patches.shape
    element = patch_elements(patches)
    kh_axis, kw_axis, c = taps.axes()

    def tap_product(kh: Expr, kw: Expr, n: Expr, h: Expr, w: Expr, o: Expr) -> Expr:
        step = (kh * taps.columns + kw) * taps.depth + c
        weight = weights[o // tile.panel, step, o % tile.panel]
        if patches.in_words:
            return te.sum(dot4(weight, element[n, h, w, kh, kw, c]), axis=[c])
        value = element[n, h, w, kh, kw, c] * weight
        return te.sum(masked(patches.column_mask(w, kw, c), value, dtype), axis=[c])

    channels = weights.shape[0] * tile.panel
    shape = (taps.rows, taps.columns, batch, rows, patches.columns, channels)
    product = te.compute(shape, tap_product, name="ACC")

    def sum_of_taps(n: Expr, h: Expr, w: Expr, o: Expr) -> Expr:
        value = product[kh_axis, kw_axis, n, h, w, o]
        if patches.in_words:  # what is beyond the border counts
            return te.sum(value, axis=[kh_axis, kw_axis])
        mask = patches.row_mask(h, kh_axis)
        return te.sum(masked(mask, value, dtype), axis=[kh_axis, kw_axis])

    return te.compute(workload.output_shape, sum_of_taps, name="S")


def schedule_sums(
    schedule: s_tir.Schedule,
    workload: Conv2dWorkload,
    simd: Simd,
    tile: Tile,
    taps: Taps,
    stage: int,
) -> None:
    """One image row of sums after another, tap by tap; bias and activation follow each row."""
    lanes = tile.lanes(simd, workload.dtype)
    sums = schedule.get_sblock("S")

    # Step 1: register tiles of the sums, tap by tap.
    n, h, w, o, kh, kw = schedule.get_loops(sums)
    loops = split_tile(schedule, tile, lanes, h, w, o)
    schedule.reorder(n, h, kh, kw, *loops.order[1:], *loops.inside)

    # Step 2: the tap's product, in registers.
    accumulate_tile(schedule, taps, simd, tile, loops.order[-1])

    # Step 3: bias and activation for the finished row.
    together = stored_lanes(schedule, "Y", simd, tile.panel, lanes)
    follow(schedule, "Y", h, together, workload.out_channels, together)

    # Step 4: borders, tails, and straight-line code inside.
    (branch if is_in_words(workload) else mark_masked)(schedule, kh)
    schedule.unroll(kw)
    finish_tile(schedule, tile, loops, workload.out_channels)
    begin_sums(schedule, sums, kh)

    # Step 5: threads share the image rows.
    mark_stage(schedule, h, stage)
