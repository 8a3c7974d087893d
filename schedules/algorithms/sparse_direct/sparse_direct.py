"""``sparse_direct``: layers that multiply only the weights that are not zero.

Park, Li, Wen, Tang, Li, Chen and Dubey, "Faster CNNs with Direct Sparse Convolutions and Guided
Pruning" (ICLR 2017, arXiv 1608.01409); of 1x1 layers, Elsen, Dukhan, Gale and Simonyan, "Fast
Sparse ConvNets" (CVPR 2020, arXiv 1911.09723). Zeros are wherever pruning left them, so that
vectors must run over the pixels, and the image has to have the pixels of a channel side by side.
The papers, and XNNPACK after them, keep whole networks in that layout. Here a layer takes and
leaves its tensors as all others do: strip by strip of pixels, a block of the patches is transposed
in registers, multiplied, and the sums are transposed back::

    for a strip of pixels:
        for a block of input channels of all taps:
            XT[channels, pixels] = transposed patches
            for an output channel o:
                acc[pixels] = 0
                for k in Ptr[block, o] … Ptr[block, o + 1]:
                    acc[pixels] += XT[Idx[k], pixels] Val[k]
                SUM[o, pixels] += acc
        output = activation(transposed SUM + bias)

Which weights these are is data: one kernel serves every pattern of as many zeros, or more. Filters
without weights are the bias alone, and no product reads input channels without. Zeros are not
multiplied: a NaN or an infinity in the image does not get where its weight is zero, other than in
TFLite's dense kernels, but as in XNNPACK's sparse ones.

Workspace, in elements, of c channels of a block and P pixels of a strip, for each thread::

    XT    c P    SUM    M P
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tvm import s_tir, te, tirx
from tvm.tirx import Expr

from schedules.algorithms.base import LayerAlgorithm
from schedules.algorithms.sparse_direct.strips import (
    ENOUGH_SUMS,
    Strips,
    block_sizes,
    default_block,
    default_pixels,
    strip_sizes,
)
from schedules.algorithms.sparse_winograd.blocks import Blocks
from schedules.kernel.costs import Work, reads
from schedules.kernel.epilogue import finished
from schedules.kernel.knobs import NO_KNOBS, Knob, Knobs, by_name
from schedules.kernel.packing import PackedWeights
from schedules.kernel.patches import ImagePatches, Taps, masked, placeholders
from schedules.kernel.sharing import Share
from schedules.layer.workload import Conv2dWorkload
from schedules.lower.loops.counted import clamped, mark_checked, mark_counted
from schedules.lower.loops.transposed import transpose_tile
from schedules.lower.memory import join
from schedules.lower.stages import mark_stage
from schedules.target.simd import Simd

#: Time of a multiply-accumulate, of that in a dense product: each loads a vector of the image. 1.2
#: to 1.45 were measured on a Zen 4, with 60 to 95 % zeros; where a multiply-add takes an element,
#: it is instructions.
SPARSE_COST = {False: 1.45, True: 1.8}
#: Elements copied as :mod:`schedules.kernel.costs` knows it, for one that is transposed: 1.6 to 1.9
#: likewise.
TRANSPOSED_COST = 1.8


class SparseDirect(LayerAlgorithm):
    """Park et al., arXiv 1608.01409, on tensors whose channels are side by side."""

    name = "sparse_direct"
    source = "Park et al., arXiv 1608.01409; Elsen et al., Fast Sparse ConvNets, arXiv 1911.09723"
    workspace = "P (c + M), P pixels of a strip"
    good_for = "layers of which most weights are zero"
    kind = "sparse"
    types = frozenset({("float32", "float32"), ("float32", "float16")})

    @property
    def computes(self) -> str:
        return "float32, most weights zero"

    def supports(self, workload: Conv2dWorkload, simd: Simd) -> str | None:
        if not workload.zeros:
            return "most of its weights are not zero"
        return super().supports(workload, simd)

    def knobs(self, workload: Conv2dWorkload, simd: Simd) -> Mapping[str, Knob]:
        return self._knobs(workload, simd, NO_KNOBS)

    def default_knobs(
        self, workload: Conv2dWorkload, simd: Simd, fixed: Knobs = NO_KNOBS
    ) -> dict[str, Any]:
        return self.choose(workload, self._knobs(workload, simd, fixed), fixed)

    def _knobs(self, workload: Conv2dWorkload, simd: Simd, fixed: Knobs) -> dict[str, Knob]:
        pixels, lanes = default_pixels(workload, simd), simd.lanes(workload.dtype)
        block = default_block(workload, int(fixed.get("pixels", pixels)), simd)
        sizes = strip_sizes(workload, simd)
        return by_name(
            Knob("pixels", sizes, pixels, feature=lambda size: size / lanes),
            Knob("c_block", block_sizes(workload), block),
        )

    def packed_weights(self, workload: Conv2dWorkload, knobs: Knobs) -> PackedWeights:
        strips, channels = Strips.of(workload, knobs), workload.out_channels
        weights = workload.reduction * channels
        capacity = max(-(-weights * (100 - workload.zeros) // 100), 1)
        rows = strips.blocks * channels
        return PackedWeights("blocks", 1, (capacity, 1), channels, run=strips.c_block, rows=rows)

    def workspace_bytes(self, workload: Conv2dWorkload, knobs: Knobs) -> int:
        strips = Strips.of(workload, knobs)
        return join(strips.sum_bytes, strips.image_bytes)

    def thread_bytes(self, workload: Conv2dWorkload, knobs: Knobs) -> int:
        return self.workspace_bytes(workload, knobs)

    def shares(self, workload: Conv2dWorkload, simd: Simd, knobs: Knobs) -> Sequence[Share]:
        return (Share(Strips.of(workload, knobs).count),)

    def macs(self, workload: Conv2dWorkload, knobs: Knobs) -> int:
        strips = Strips.of(workload, knobs)
        return strips.count * strips.pixels * self.packed_weights(workload, knobs).elements

    def moved_elements(self, workload: Conv2dWorkload, knobs: Knobs) -> int:
        strips = Strips.of(workload, knobs)
        sums = workload.out_channels * strips.blocks
        return strips.count * strips.pixels * (workload.reduction + sums)

    def stages(self, workload: Conv2dWorkload, simd: Simd, knobs: Knobs) -> Sequence[Work]:
        moved, multiplied = super().stages(workload, simd, knobs)
        sums = int(knobs["pixels"]) // simd.lanes(workload.dtype)
        times = SPARSE_COST[simd.fma_by_element] * max(ENOUGH_SUMS / sums, 1)
        more = Work((times - 1) * self.macs(workload, knobs))
        return moved * TRANSPOSED_COST, multiplied + more

    def weight_work(self, workload: Conv2dWorkload, simd: Simd, knobs: Knobs) -> Work:
        strips, packed = Strips.of(workload, knobs), self.packed_weights(workload, knobs)
        held = strips.image_bytes + strips.sum_bytes
        return reads(packed.weight_bytes, strips.count, simd, beside=held)

    def schedule(self, workload: Conv2dWorkload, simd: Simd, knobs: Knobs) -> s_tir.Schedule:
        strips = Strips.of(workload, knobs)
        packed = self.packed_weights(workload, knobs)
        image, _, constants = placeholders(workload, packed)
        blocks = Blocks.of(packed)
        sums = strip_sums(strips, image, blocks)
        shape = (workload.pixels, workload.out_channels)
        results = finished(workload, sums, constants, shape)
        arguments = [image, *blocks.tensors, *constants.tensors, *results]
        schedule = s_tir.Schedule(te.create_prim_func(arguments))
        schedule_strips(schedule, strips, simd.lanes(workload.dtype))
        return schedule


def strip_sums(strips: Strips, image: te.Tensor, blocks: Blocks) -> Any:
    """Blocks ``XT``, ``ACC``, ``SUM`` and ``T``: what takes an output element's indices to its sum.

    ``T`` are the sums with the channels side by side again.
    """
    layer, size = strips.workload, strips.pixels
    height, width, channels = layer.out_height, layer.out_width, layer.in_channels
    patches = ImagePatches(layer, image, Taps(layer.kernel_height, layer.kernel_width, channels))

    def element(s: Expr, c: Expr, p: Expr) -> Expr:
        pixel = s * size + p
        if strips.count * size > layer.pixels:
            pixel = tirx.min(pixel, layer.pixels - 1)
        if layer.is_pointwise:
            return image[0, 0, pixel * channels + c]
        place = pixel // (height * width), pixel // width % height, pixel % width
        tap = c // channels
        return patches.masked_element(
            *place, tap // layer.kernel_width, tap % layer.kernel_width, c % channels
        )

    transposed = te.compute((strips.count, layer.reduction, size), element, name="XT")
    k = te.reduce_axis((0, strips.c_block), name="k")

    def product(s: Expr, b: Expr, o: Expr, p: Expr) -> Expr:
        mask, place = blocks.row(b * layer.out_channels + o, k, 0)
        c = clamped(blocks.indices[place].astype("int32"), strips.c_block)
        value = transposed[s, b * strips.c_block + c, p] * blocks.values[place, 0]
        return te.sum(masked(mask, value, layer.dtype), axis=[k])

    shape = (strips.count, strips.blocks, layer.out_channels, size)
    products = te.compute(shape, product, name="ACC")
    b = te.reduce_axis((0, strips.blocks), name="b")
    sums = te.compute(
        (strips.count, layer.out_channels, size),
        lambda s, o, p: te.sum(products[s, b, o, p], axis=[b]),
        name="SUM",
    )
    by_pixel = te.compute(
        (strips.count, size, layer.out_channels), lambda s, p, o: sums[s, o, p], name="T"
    )
    return lambda pixel, o: by_pixel[pixel // size, pixel % size, o]


def schedule_strips(schedule: s_tir.Schedule, strips: Strips, lanes: int) -> None:
    """Strip by strip, each a work item for threads."""
    output, back = schedule.get_sblock("Y"), schedule.get_sblock("T")
    w, o = schedule.get_loops(output)
    rows = math.gcd(lanes, strips.workload.out_channels)
    strip, tile, pixel = schedule.split(w, [None, strips.pixels // rows, rows])
    panel, lane = schedule.split(o, [None, rows])
    schedule.reorder(strip, panel, tile, pixel, lane)
    schedule.set_scope(back, 0, "local")
    schedule.compute_at(back, tile, preserve_unit_loops=True)
    transpose_tile(schedule, *schedule.get_loops(back)[-2:])
    schedule.unroll(pixel)
    schedule.vectorize(lane)

    sums, products = schedule.get_sblock("SUM"), schedule.get_sblock("ACC")
    schedule.compute_at(sums, strip, preserve_unit_loops=True)
    o, p, b = schedule.get_loops(sums)[-3:]
    vector, p_lane = schedule.split(p, [None, lanes])
    schedule.reorder(b, o, vector, p_lane)
    schedule.set_scope(products, 0, "local")
    schedule.compute_at(products, o, preserve_unit_loops=True)
    *_, acc_p, k = schedule.get_loops(products)
    acc_vector, acc_lane = schedule.split(acc_p, [None, lanes])
    schedule.reorder(k, acc_vector, acc_lane)

    image = schedule.get_sblock("XT")
    schedule.compute_at(image, b, preserve_unit_loops=True)
    c, p = schedule.get_loops(image)[-2:]
    rows = math.gcd(lanes, strips.c_block, strips.workload.in_channels)
    c_tile, c_row = schedule.split(c, [None, rows])
    p_tile, p_row = schedule.split(p, [None, rows])
    schedule.reorder(c_tile, p_tile, c_row, p_row)
    transpose_tile(schedule, c_row, p_row)

    for loops in ((vector, p_lane), (acc_vector, acc_lane)):
        schedule.unroll(loops[0])
        schedule.vectorize(loops[1])
    schedule.decompose_reduction(products, k)
    schedule.decompose_reduction(sums, b)
    mark_checked(schedule, k)
    mark_counted(schedule, k)
    mark_stage(schedule, strip)
