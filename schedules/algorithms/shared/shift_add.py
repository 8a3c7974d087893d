"""Shift-add: a convolution as 1x1 products of the whole input image, added up where they belong.

The product of input pixel ``(h, w)`` with the weights of kernel tap ``(kh, kw)`` belongs to output
pixel ``(h', w')`` if ``h = h' s + kh d - pad``, and likewise for ``w`` (Vasudevan, Anderson and
Gregg, arXiv 1704.04428). The products are the micro-kernel's: the image is the patch matrix of its
own pixels, and each tap is one row of them. At stride s, s^2 times as many products are computed
as are added.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

from tvm import s_tir, te, tirx
from tvm.tirx import Expr

from schedules.algorithms.shared.weight_panels import make_panels
from schedules.kernel.epilogue import finished
from schedules.kernel.microkernel import MAX_UNROLLED_TAPS, patch_sums
from schedules.kernel.packing import PackedWeights
from schedules.kernel.patches import GatheredPatches, ImagePatches, Taps, masked, placeholders
from schedules.kernel.steps import begin_sums, cut_tails, follow, split_panel, straighten
from schedules.kernel.tiles import Tile
from schedules.layer.workload import Conv2dWorkload
from schedules.lower.masked_loops import mark_masked
from schedules.lower.steps import partition
from schedules.target.simd import Simd

#: A layout tells the axes of the stored product for a tap, a pixel and an output channel.
Layout: TypeAlias = "Callable[[tirx.Var, tirx.Var, tirx.Var], list[Expr]]"


class PixelPatches(GatheredPatches):
    """The pixels of the image, a ``(N H W, 1, 1, pitch)`` tensor: one row of them for each tap."""

    @property
    def shape(self) -> tuple[int, int, int]:
        return (1, tap_count(self.workload), image_pixels(self.workload))


def single_taps(workload: Conv2dWorkload) -> Taps:
    """Every tap by itself: these algorithms multiply one after the other."""
    _, height, width, channels = workload.weight_shape
    return Taps(height, width, channels)


def tap_count(workload: Conv2dWorkload) -> int:
    """Kernel taps, each of which is one product; of a single one, there is nothing to add up."""
    return workload.kernel_height * workload.kernel_width


def image_pixels(workload: Conv2dWorkload) -> int:
    """Input pixels of the whole batch: the rows of every product."""
    return math.prod(workload.input_shape[:3])


def product_elements(workload: Conv2dWorkload) -> int:
    """Elements of the products of all taps."""
    return tap_count(workload) * image_pixels(workload) * workload.out_channels


def single_tap(workload: Conv2dWorkload) -> Conv2dWorkload:
    """One tap's product as a layer: a 1x1 convolution of all input pixels, in one row."""
    return Conv2dWorkload(
        in_height=1,
        in_width=image_pixels(workload),
        in_channels=workload.in_channels,
        out_channels=workload.out_channels,
        kernel_height=1,
        kernel_width=1,
        dtype=workload.dtype,
        weight_dtype=workload.weight_dtype,
    )


def convolution(workload: Conv2dWorkload, packed: PackedWeights, tile: Tile) -> list[te.Tensor]:
    """The kernel's arguments up to Y, and ``S``, its sums; X is ``(N H W, 1, 1, pitch)``.

    Y is computed from X through blocks ``ACC``, ``P`` and ``S``; weights go through block ``WP`` if
    the kernel makes their panels.
    """
    shape = (image_pixels(workload), 1, 1, workload.in_pitch)
    image = te.placeholder(shape, workload.dtype, name="X")
    _, weights, constants = placeholders(workload, packed)
    panels = make_panels(workload, packed, weights, tile)
    # P[tap][pixel][o]: the product of every tap, without the tails that ACC has.
    taps = Taps(1, 1, workload.in_channels)
    patches = PixelPatches(workload, image, taps, tile.columns)
    tiles = patch_sums(workload, patches, panels, tile, row_depth=workload.in_channels)
    all_products = (*patches.shape[1:], workload.out_channels)
    products = te.compute(all_products, lambda tap, pixel, o: tiles[0, tap, pixel, o], name="P")
    sums = shift_add(workload, image, products)
    return [image, weights, *constants.tensors, *finished(workload, sums, constants), sums]


def shift_add(workload: Conv2dWorkload, image: te.Tensor, products: te.Tensor) -> te.Tensor:
    """Block ``S``, the output before bias: the sum of ``products[tap][pixel][o]`` over the taps."""
    patches = ImagePatches(workload, image, single_taps(workload))
    kh, kw, _ = patches.taps.axes()

    def sum_of_taps(n: Expr, h: Expr, w: Expr, o: Expr) -> Expr:
        row = n * workload.in_height + patches.row(h, kh)
        pixel = row * workload.in_width + patches.column(w, kw)
        mask = patches.row_mask(h, kh) + patches.column_mask(w, kw, tirx.const(0, "int32"))
        value = products[kh * workload.kernel_width + kw, pixel, o]
        return te.sum(masked(mask, value, workload.dtype), axis=[kh, kw])

    return te.compute(workload.output_shape, sum_of_taps, name="S")


def schedule_shift_add(
    schedule: s_tir.Schedule, workload: Conv2dWorkload, simd: Simd, tile: Tile
) -> Any:
    """Schedule blocks ``S`` and ``Y``, pixel by pixel, in registers; returns the loop of rows."""
    lanes = tile.lanes(simd, workload.dtype)
    sums, channels = schedule.get_sblock("S"), workload.out_channels

    # Step 1: the sums of one pixel and one panel of channels.
    _, h, w, o, kh, kw = schedule.get_loops(sums)
    panel, vector, lane = split_panel(schedule, tile, lanes, o)
    schedule.reorder(panel, kh, kw, vector, lane)
    schedule.set_scope(sums, 0, "local")

    # Step 2: bias and activation follow, while the sums are in registers.
    *_, y_vector = follow(schedule, "Y", panel, lanes, channels, tile.panel)
    schedule.unroll(y_vector)

    # Step 3: borders and tails.
    mark_masked(schedule, kh)
    partition(schedule, w)
    cut_tails(schedule, (panel, vector, lane), channels, tile.panel)

    # Step 4: straight-line code inside.
    if workload.kernel_width <= MAX_UNROLLED_TAPS:
        schedule.unroll(kw)
    straighten(schedule, vector, lane)
    begin_sums(schedule, sums, kh, unrolled=1)
    return h
