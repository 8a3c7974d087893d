"""``depthwise``: every output channel is the convolution of one input channel.

    Y[h, w, m] = sum over kh, kw of X[h s + kh, w s + kw, m // multiplier] W[kh, kw, m]

There is no sum over channels, so the vector lanes hold channels of one pixel, and a register tile
is a rectangle of pixels: an element of the image that is in a register serves every tap and pixel
that it touches, where the definition loads it K_h K_w times (Zhang, Lo, Lu, "High Performance
Depthwise and Pointwise Convolutions on Mobile Devices", arXiv 2001.02504). Sums begin with the
bias. Image and weights are read where the model has them; border tiles are split from interior
ones and skip what would multiply zeros.

Knob ``products``, of int8: ``paired``, products of two taps are added in 16 bits, where no two such
weights may both be -128 (with NEON); or ``single``.

Workspace: 0, but of hybrid layers (:mod:`schedules.kernel.hybrid`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from tvm import s_tir, te, tirx
from tvm.tirx import Expr

from schedules.algorithms.base import (
    FLOAT_OR_BYTES,
    HYBRID,
    LayerAlgorithm,
    index_limit,
    weights_knob,
)
from schedules.kernel import depthwise_tiles, packing
from schedules.kernel.depthwise_tiles import PAIRED, SINGLE, DepthwiseTile
from schedules.kernel.epilogue import finished
from schedules.kernel.hybrid.constants import less_zero_points
from schedules.kernel.hybrid.image import dynamic_bytes, first_stages, with_quantised_image
from schedules.kernel.knobs import NO_KNOBS, Knob, Knobs, by_name, never
from schedules.kernel.loop_nests import LoopNest, depthwise_nest
from schedules.kernel.packing import NARROW, PACKED, PackedWeights
from schedules.kernel.patches import (
    ImagePatches,
    Taps,
    masked,
    pair_of_taps,
    placeholders,
    replaced,
)
from schedules.kernel.quantised import constants as quantised_constants
from schedules.kernel.sharing import Share, shared_pixels, tensor_bytes
from schedules.kernel.steps import begin_sums, cut_tails, straighten, sum_pairs, sum_taps
from schedules.layer.workload import Conv2dWorkload
from schedules.lower.initial_sums import start_with
from schedules.lower.masked_loops import branch, mark_masked
from schedules.lower.stages import keep_rolled, mark_stage
from schedules.lower.steps import extent, partition
from schedules.target.simd import Simd


class Depthwise(LayerAlgorithm):
    """Register tiles of pixels, vectors of channels."""

    name = "depthwise"
    source = "Zhang, Lo, Lu, arXiv 2001.02504"
    workspace = "0"
    good_for = "depthwise layers, weights where the model has them"
    types = FLOAT_OR_BYTES | HYBRID

    def supports(self, workload: Conv2dWorkload, simd: Simd) -> str | None:
        if not workload.is_depthwise:
            return "its output channels read more than one input channel"
        return quantised_constants.unsupported(workload) or index_limit(workload)

    def knobs(self, workload: Conv2dWorkload, simd: Simd) -> Mapping[str, Knob]:
        """The register tile; of int8 ``products``, and of narrow weights ``weights``."""
        can_pair = depthwise_tiles.can_pair(workload, simd)
        products = (PAIRED, SINGLE) if can_pair else (SINGLE,)
        tile = depthwise_tiles.knobs(workload, simd, products[0])
        if workload.is_quantised:
            return {**tile, **by_name(Knob("products", products, products[0], tried=never))}
        if len(self.forms(workload)) == 1:
            return tile
        return {**tile, **by_name(weights_knob(workload, simd, (PACKED, NARROW)))}

    def default_knobs(
        self, workload: Conv2dWorkload, simd: Simd, fixed: Knobs = NO_KNOBS
    ) -> dict[str, Any]:
        knobs = dict(self.knobs(workload, simd))
        if workload.is_quantised and fixed.get("products") == SINGLE:
            knobs |= depthwise_tiles.knobs(workload, simd)
        return self.choose(workload, knobs, fixed)

    def forms(self, workload: Conv2dWorkload) -> Sequence[Knobs]:
        if workload.is_quantised:
            return ({"products": PAIRED}, {"products": SINGLE})
        # Of int8, which have scales, there are so few that they are packed as floats.
        if not packing.has_narrow_weights(workload) or workload.weight_dtype == "int8":
            return ({},)
        return ({"weights": PACKED}, {"weights": NARROW})

    def workspace_bytes(self, workload: Conv2dWorkload, knobs: Knobs) -> int:
        return dynamic_bytes(workload)

    def packed_weights(self, workload: Conv2dWorkload, knobs: Knobs) -> PackedWeights:
        return packed_taps(workload, knobs)

    def loop_nests(self, workload: Conv2dWorkload, simd: Simd, knobs: Knobs) -> Sequence[LoopNest]:
        return [depthwise_nest(workload, simd, knobs["rows"], knobs["columns"])]

    def shares(self, workload: Conv2dWorkload, simd: Simd, knobs: Knobs) -> Sequence[Share]:
        tile = DepthwiseTile.of(knobs)
        sizes = {"rows": workload.out_height, "columns": workload.out_width}
        counts = {name: -(-size // getattr(tile, name)) for name, size in sizes.items()}
        counts["channels"] = -(-workload.out_channels // tile.channels)
        names = shared_loops(tile, simd, counts["rows"], counts["columns"])
        others = tensor_bytes(workload) if names == ("channels",) else 0
        product = Share(math.prod(counts[name] for name in names), others)
        return [*[Share(workload.in_height)] * first_stages(workload), product]

    def schedule(self, workload: Conv2dWorkload, simd: Simd, knobs: Knobs) -> s_tir.Schedule:
        packed, tile = packed_taps(workload, knobs), DepthwiseTile.of(knobs)
        function = define(workload, packed)
        schedule = schedule_tiles(function, workload, simd, tile, packed.adds_pairs)
        return with_quantised_image(workload, simd, schedule)


def packed_taps(workload: Conv2dWorkload, knobs: Knobs) -> PackedWeights:
    """Layout ``taps``: of a narrow type, they are converted as they are loaded."""
    taps = packing.taps(workload, knobs.get("products") == PAIRED)
    is_packed = packing.has_narrow_weights(workload) and knobs.get("weights") != NARROW
    return replace(taps, dtype=workload.dtype) if is_packed else taps


def define(workload: Conv2dWorkload, packed: PackedWeights) -> tirx.PrimFunc:
    """Block ``ACC``, the sums, and block ``Y``, the output."""
    image, weights, constants = placeholders(workload, packed)
    taps = Taps(workload.kernel_height, workload.kernel_width, 1)
    patches = ImagePatches(workload, image, taps)
    multiplier = workload.out_channels // workload.in_channels
    kh, kw, _ = taps.axes()

    def sum_of_products(n: Expr, h: Expr, w: Expr, m: Expr) -> Expr:
        element = patches.element(n, h, w, kh, kw, m // multiplier)
        rows, columns = patches.row_mask(h, kh), patches.column_mask(w, kw, m)
        value = element * weights[kh, kw, m].astype(workload.dtype)
        value = masked(columns, value, workload.dtype)
        return te.sum(masked(rows, value, workload.dtype), axis=[kh, kw])

    def factors(place: Sequence[Expr], kh: Expr, kw: Expr) -> tuple[Expr, Expr]:
        n, h, w, m = place
        element = patches.element(n, h, w, kh, kw, m // multiplier)
        mask = patches.row_mask(h, kh) + patches.column_mask(w, kw, m)
        element = replaced(mask, element, constants.zero_point(n)).astype("int16")
        weight = weights[kh, kw, m].astype("int16")
        if workload.dtype == "uint8":
            weight = weight - constants.parameter("weight_zero").astype("int16")
        return element, weight

    def sum_of_integers(*place: Expr) -> Expr:
        # Instructions widen what they multiply of 16 bits.
        element, weight = (factor.astype("int32") for factor in factors(place, kh, kw))
        return te.sum(element * weight, axis=[kh, kw])

    pair = te.reduce_axis((0, -(-workload.reduction // 2)), name="pair")

    def sum_of_pairs(*place: Expr) -> Expr:
        return te.sum(pair_of_taps(workload, pair, partial(factors, place)), axis=pair)

    definition = sum_of_integers if workload.is_quantised else sum_of_products
    if packed.adds_pairs:
        definition = sum_of_pairs
    sums = te.compute(workload.output_shape, definition, name="ACC")
    *added, output = finished(workload, sums, constants, has_bias=True)
    function = te.create_prim_func([image, *added, weights, *constants.tensors, output])
    given = {str(buffer.name): buffer for buffer in function.params}
    if workload.is_dynamic:
        return start_with(function, "ACC", lambda n, h, w, m: less_zero_points(given, n, m))
    starts = given["B"]
    return start_with(function, "ACC", lambda n, h, w, m: starts[m])


def schedule_tiles(
    function: tirx.PrimFunc,
    workload: Conv2dWorkload,
    simd: Simd,
    tile: DepthwiseTile,
    adds_pairs: bool,
) -> s_tir.Schedule:
    """Schedule :func:`define` in register tiles."""
    schedule, products = s_tir.Schedule(function), PAIRED if adds_pairs else SINGLE
    lanes = depthwise_tiles.vector_lanes(workload, simd, products)
    sums, output = schedule.get_sblock("ACC"), schedule.get_sblock("Y")

    # Step 1: the output in tiles of pixels, a vector of channels at a time.
    batch, h, w, m = schedule.get_loops(output)
    h_outer, h_inner = schedule.split(h, [None, tile.rows])
    w_outer, w_inner = schedule.split(w, [None, tile.columns])
    m_outer, m_vector, m_lane = schedule.split(m, [None, tile.channels // lanes, lanes])
    schedule.reorder(batch, m_outer, h_outer, w_outer, m_vector, h_inner, w_inner, m_lane)

    # Step 2: the sums of a tile, in registers. Unrolling taps decides the masks of border tiles.
    if adds_pairs:
        first, acc_lane = sum_pairs(schedule, sums, m_vector)
    else:
        first, acc_h, acc_lane = sum_taps(schedule, sums, workload, m_vector)
        (branch if workload.is_quantised else mark_masked)(schedule, acc_h)

    # Step 3: split border tiles from interior ones, and the tail of the channels.
    for loop in (h_outer, w_outer):
        partition(schedule, loop)
    tails = (m_outer, m_vector, m_lane, acc_lane)
    cut_tails(schedule, tails, workload.out_channels, tile.channels)

    # Step 4: straight-line code inside of the loop over vectors.
    keep_rolled(schedule, m_vector, small=simd.in_order)
    straighten(schedule, h_inner, w_inner, m_lane)
    begin_sums(schedule, sums, first)

    # Step 5: threads share tiles or blocks of channels.
    rows, columns = extent(schedule, h_outer), extent(schedule, w_outer)
    loops = {"rows": h_outer, "columns": w_outer, "channels": m_outer}
    outside, *inside = (loops[name] for name in shared_loops(tile, simd, rows, columns))
    mark_stage(schedule, outside, first_stages(workload), *inside)
    return schedule


def shared_loops(tile: DepthwiseTile, simd: Simd, rows: int, columns: int) -> tuple[str, ...]:
    """The loops over so many tiles, or over blocks of channels, that threads share."""
    if tile.shared == "rows" and not simd.fma_by_element:
        return shared_pixels(rows, columns, simd.cores)
    return (tile.shared,)
