"""Weights that a kernel brings into panels of its products' type before it multiplies them.

Weights that a model holds as float16 or int8 stay so in memory, and weights that are read where and
as the model stores them (layout ``rows``) are in no panels. Of either, the kernel makes the panels
that its register tiles read, in the workspace:

- one panel at a time, where it is used for the whole image before the next one: loop orders that
  begin with the panels;
- else all of them at once, in a stage before the product: where weights are few.

Either way every weight is converted once (exactly: every float16 is a float32; int8 is multiplied
by its channel's scale, as a DEQUANTIZE does it).
"""

from __future__ import annotations

from typing import Any

from tvm import s_tir, te
from tvm.tirx import Expr

from schedules.kernel.packing import PackedWeights
from schedules.kernel.patches import masked
from schedules.kernel.steps import cut_tails
from schedules.kernel.tiles import ORDERS, Tile, stay_in_l2
from schedules.layer.workload import Conv2dWorkload
from schedules.lower.loops.prefetch import INTO_L2, prefetch_weights
from schedules.lower.stages import mark_stage
from schedules.target.simd import Simd


def are_made(layer: Conv2dWorkload, packed: PackedWeights) -> bool:
    """Whether the kernel makes the panels."""
    return packed.layout == "rows" or (packed.layout == "panels" and packed.dtype != layer.dtype)


def default_order(layer: Conv2dWorkload, simd: Simd, order: str) -> str:
    """The order of tiles for panels that the kernel makes: ``order`` if they stay in the L2 cache.

    Else, and where it makes no difference, they are outermost: made one after the other.
    """
    size = layer.reduction * layer.out_channels * layer.element_bytes
    if layer.is_pointwise and order.startswith("rows,panels"):  # of a single row
        return ORDERS[-1]
    return order if stay_in_l2(size, simd) else ORDERS[-1]


def made_bytes(layer: Conv2dWorkload, packed: PackedWeights, tile: Tile, at_once: bool) -> int:
    """Bytes of the panels in the workspace: shared if they are made at once, else a thread's."""
    if not are_made(layer, packed):
        return 0
    count = -(-layer.out_channels // tile.panel) if at_once else 1
    return count * layer.reduction * tile.panel * layer.element_bytes


def make_panels(
    layer: Conv2dWorkload,
    packed: PackedWeights,
    weights: te.Tensor,
    tile: Tile,
    suffix: str = "",
    scale: te.Tensor | None = None,
) -> te.Tensor:
    """Block ``WP<suffix>``: ``weights`` as panels; themselves, if they are.

    ``scale`` are those of int8 weights, one for each output channel.
    """
    if not are_made(layer, packed):
        return weights
    panel, channels = tile.panel, layer.out_channels
    count = -(-channels // panel)

    def element(q: Expr, step: Expr, lane: Expr) -> Expr:
        o = q * panel + lane
        place = (q, step, lane) if packed.layout == "panels" else (o, step)
        value = weights(*place).astype(layer.dtype)
        if packed.has_scales:
            assert scale is not None, "int8 weights have scales"
            value = value * scale[o]
        if packed.layout == "panels":
            return value
        inside = [o < channels] * (channels % panel > 0)
        return masked(inside, value, layer.dtype)

    return te.compute((count, layer.reduction, panel), element, name=f"WP{suffix}")


def make_each(
    schedule: s_tir.Schedule,
    layer: Conv2dWorkload,
    packed: PackedWeights,
    tile: Tile,
    simd: Simd,
    loop: Any,
) -> None:
    """Make the panel that each step of ``loop`` multiplies, in the memory of the one before."""
    schedule.compute_at(schedule.get_sblock("WP"), loop, preserve_unit_loops=True)
    _schedule(schedule, layer, packed, tile, simd, "WP")


def make_at_once(
    schedule: s_tir.Schedule,
    layer: Conv2dWorkload,
    packed: PackedWeights,
    tile: Tile,
    simd: Simd,
    stage: int = 0,
    suffix: str = "",
) -> int:
    """Make all panels as ``stage``, if the kernel makes any; returns the stage that comes next."""
    if not are_made(layer, packed):
        return stage
    panel = _schedule(schedule, layer, packed, tile, simd, f"WP{suffix}")
    cut_tails(schedule, [panel], layer.out_channels, tile.panel)
    mark_stage(schedule, panel, stage)
    return stage + 1


def _schedule(
    schedule: s_tir.Schedule,
    layer: Conv2dWorkload,
    packed: PackedWeights,
    tile: Tile,
    simd: Simd,
    block: str,
) -> Any:
    """Vectors inside of the loop over panels, which is returned."""
    lanes = tile.lanes(simd, layer.dtype)
    panel, step, lane = schedule.get_loops(schedule.get_sblock(block))[-3:]
    vector, lane = schedule.split(lane, [None, lanes])
    if packed.layout == "panels":
        schedule.unroll(vector)
        schedule.vectorize(lane)
    else:
        s_outer = _transpose(schedule, layer, lanes, step, vector, lane)
        if not simd.fma_by_element:
            # The same place of the next panel. A core's own prefetching starts anew in every row.
            prefetch_weights(schedule, s_outer, tile.panel * layer.reduction, INTO_L2)
        cut_tails(schedule, [vector, lane], layer.out_channels, tile.panel)
    return panel


def _transpose(
    schedule: s_tir.Schedule,
    layer: Conv2dWorkload,
    lanes: int,
    step: Any,
    vector: Any,
    lane: Any,
) -> Any:
    """Read vectors along the reduction for all lanes: the compiler transposes them by shuffles.

    Whole cache lines are used at once. Element by element, rows that lie a power of two apart would
    evict each other before the next element of their lines is wanted. Returns the loop over lines.
    """
    size = min(lanes, layer.reduction)
    s_outer, s_lane = schedule.split(step, [None, size])
    schedule.reorder(vector, s_outer, lane, s_lane)
    cut_tails(schedule, [s_outer, s_lane], layer.reduction, size)
    schedule.unroll(lane)
    schedule.vectorize(s_lane)
    return s_outer
