"""``sparse_winograd``: Winograd's algorithm with weights that were pruned in its domain.

Li, Park and Tang, "Enabling Sparse Winograd Convolution by Native Pruning" (arXiv 1702.08597). The
transforms, strips and workspace are those of :mod:`schedules.algorithms.winograd.winograd`, but a
point's product ``M[a, b] = V[a, b] U[a, b]`` takes only the blocks of U that are not zero, of one
input channel and ``panel`` output channels each::

    for a row of blocks, at one point and of one panel:
        for a few tiles:
            for k in Ptr[row] … Ptr[row + 1]:
                M[tiles, panel] += V[tiles, Idx[k]] Val[k]

Which blocks these are is data: one kernel serves every pattern with as many zeros, or more. Knob
``rows`` says how many there are in a row:

``ragged``
    as many as Ptr says;
``balanced``
    equally many, of weights that were pruned so.

And knob ``lanes`` what is side by side in V: ``channels``, as in the dense algorithm, or ``tiles``,
see :mod:`schedules.algorithms.sparse_winograd.side_by_side`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from tvm import s_tir, te

from schedules.algorithms.sparse_winograd import side_by_side
from schedules.algorithms.sparse_winograd.blocks import (
    Blocks,
    multiply_blocks,
    packed_blocks,
    weights_of,
)
from schedules.algorithms.sparse_winograd.side_by_side import SideBySide
from schedules.algorithms.winograd.domain import Domain, transform_image, transform_products
from schedules.algorithms.winograd.parts import default_parts, parts_of
from schedules.algorithms.winograd.schedule import schedule_strips
from schedules.algorithms.winograd.winograd import WINOGRADS, Winograd
from schedules.kernel.costs import Work, reads
from schedules.kernel.knobs import Knob, Knobs, by_name, never
from schedules.kernel.packing import PackedWeights
from schedules.kernel.patches import placeholders
from schedules.kernel.tiles import ORDERS, Tile, panel_lanes
from schedules.layer.winograd_weights import BLOCKS
from schedules.layer.workload import Conv2dWorkload
from schedules.lower.loops.counted import mark_checked, mark_counted
from schedules.target.simd import Simd

#: Tiles of a strip, where there are as many. More take their share of the L2 cache: 28 tiles of
#: 56x56x64->64 took 1.07 of the time of 14 on a Zen 4.
ENOUGH_TILES = 12
#: And of the L1 cache those of one point take this part at most, beside which blocks pass by:
#: without zeros, 14x14x256->256 takes 1.41, 1.25 and 1.07 of the dense product's time on a Zen 4
#: where 16, 8 and 4 KiB of them are read for each block.
L1_PART = 1 / 8
#: Time of a multiply-accumulate in a block, of that in a dense product, which reads the weights in
#: order. `scripts.benchmarks.sparse.crossover` measured 1.0 to 1.1 on a Zen 4; but below a fifth of
#: zeros little is gained, and the dense product is taken.
BLOCK_COST = 1.35
#: Where a block is no whole vector, a loop's own instructions take the time of so many tiles: 1.2
#: times as long in all with 14 tiles, 1.35 with 7 and 1.9 to 2.0 with 4; 1.5 with 14 where all rows
#: have as many blocks.
HALF_BLOCK_TILES = {"ragged": 5, "balanced": 8}
#: Time of a byte of weights that the L3 cache would not hold without zeros, of that in a dense
#: product: 1.0 to 1.75 were measured in blocks of 16, to 2.1 in those of 8.
FROM_MEMORY_COST = 2.0
#: Instructions of a step of the loop over blocks that are neither products nor loads of theirs.
LOOP = 5
#: What is side by side in a vector of V.
LANES = CHANNELS, TILES = "channels", "tiles"
#: How many blocks a row has.
ROWS = RAGGED, BALANCED = "ragged", "balanced"


class SparseWinograd(Winograd):
    """Li, Park and Tang, arXiv 1702.08597."""

    name = "sparse_winograd"
    kind = "pruned"
    source = "Li et al., Enabling Sparse Winograd Convolution by Native Pruning, arXiv 1702.08597"
    good_for = "weights that were pruned in Winograd's domain"
    types = frozenset({WINOGRADS})

    @property
    def computes(self) -> str:
        return "float32, pruned in Winograd's domain"

    def supports(self, workload: Conv2dWorkload, simd: Simd) -> str | None:
        if workload.domain is None or not workload.domain.zeros:
            return "it has no zeros among weights of Winograd's domain"
        if workload.in_channels == 1:
            return "one input channel has no blocks to choose from"
        return super().supports(workload, simd)

    def forms(self, workload: Conv2dWorkload) -> Sequence[Knobs]:
        if workload.domain is None:
            return ()
        rows = (BALANCED, RAGGED) if workload.domain.balanced else (RAGGED,)
        return [{"rows": r, **more} for more in ({}, {"strip": 1}) for r in rows]

    def _knobs(self, workload: Conv2dWorkload, simd: Simd, fixed: Knobs) -> dict[str, Knob]:
        whole = {**fixed, "c_block": workload.in_channels}
        knobs = super()._knobs(workload, simd, whole)
        for name in ("c_block", "outputs", "weights"):
            del knobs[name]
        weights = weights_of(workload)
        panels = tuple(sorted(size for size in BLOCKS if weights.block % size == 0))
        panel = default_panel(panels, simd)
        strip = knobs["strip"].default
        domain = self._domain(workload, {"strip": strip, "panel": panel})
        lanes, columns = default_lanes(domain, panel, simd)
        rows = ROWS if weights.balanced else (RAGGED,)
        # Parts are of whole vectors, whatever a block is.
        wide = max(panel, simd.lanes(workload.dtype))
        parts = default_parts(domain, simd, wide)
        most = most_columns(panel, simd, lanes)
        return knobs | by_name(
            Knob("columns", tuple(range(1, 29)), columns, tried=lambda size: size <= most),
            Knob("panel", panels, panel, feature=lambda size: size / simd.lanes(workload.dtype)),
            Knob("k_block", (1,), 1),
            Knob("lanes", LANES, lanes, tried=never),
            Knob("parts", parts_of(workload, wide), parts, tried=never),
            replace(knobs["order"], default=ORDERS[1]),
            Knob("rows", rows, rows[-1], tried=never),
        )

    def default_strip(self, whole: Domain, simd: Simd, form: Knobs) -> int:
        """Rows of tiles: enough, of which a point's stay in the L1 cache; strips are full, if any.

        Weights that come from memory are read as seldom as can be.
        """
        del form
        rows, layer = whole.strip, whole.workload
        most = min(-(-ENOUGH_TILES // whole.tile_columns), rows)
        left = 1 - weights_of(layer).zeros / 100
        weights = left * whole.points * layer.in_channels * layer.out_channels
        if weights * layer.element_bytes <= max(simd.l2_bytes, simd.l3_bytes):
            row = whole.tile_columns * layer.in_channels * layer.element_bytes
            most = max(min(most, int(simd.l1_bytes * L1_PART / row)), 1)
        return min(range(most, 0, -1), key=lambda strip: -(-rows // strip) * strip)

    def _domain(self, workload: Conv2dWorkload, knobs: Knobs) -> Domain:
        outputs, channels = weights_of(workload).outputs, workload.in_channels
        domain = Domain.of(workload, {**knobs, "outputs": outputs, "c_block": channels})
        # Records of kernels without this knob are older than it.
        if knobs.get("lanes") != TILES:
            return domain
        return SideBySide.of_domain(domain, knobs["columns"]) or domain

    def packed_weights(self, workload: Conv2dWorkload, knobs: Knobs) -> PackedWeights:
        return packed_blocks(workload, knobs["panel"], knobs["rows"] == BALANCED)

    def macs(self, workload: Conv2dWorkload, knobs: Knobs) -> int:
        domain, packed = self._domain(workload, knobs), self.packed_weights(workload, knobs)
        return domain.strips * domain.tiles * packed.elements

    def weight_work(self, workload: Conv2dWorkload, simd: Simd, knobs: Knobs) -> Work:
        domain, packed = self._domain(workload, knobs), self.packed_weights(workload, knobs)
        held = (domain.image_elements + domain.product_elements) * workload.element_bytes
        more = Work(macs=(block_cost(workload, simd, knobs) - 1) * self.macs(workload, knobs))
        weights = math.prod(workload.weight_shape) * workload.element_bytes
        cost = FROM_MEMORY_COST if weights >= simd.l3_bytes > 0 else 1
        return more + reads(packed.weight_bytes, domain.strips, simd, beside=held) * cost

    def schedule(self, workload: Conv2dWorkload, simd: Simd, knobs: Knobs) -> s_tir.Schedule:
        domain, tile = self._domain(workload, knobs), Tile.of(knobs)
        packed = self.packed_weights(workload, knobs)
        image, _, constants = placeholders(workload, packed)
        blocks = Blocks.of(packed)
        step = None
        if isinstance(domain, SideBySide):
            transformed, step = (
                side_by_side.transform_image(domain, image),
                side_by_side.schedule_image,
            )
        else:
            transformed = transform_image(domain, image)
        products = multiply_blocks(domain, transformed, blocks, tile)
        results = transform_products(domain, products, constants)
        arguments = [image, *blocks.tensors, *constants.tensors, *results]
        schedule = s_tir.Schedule(te.create_prim_func(arguments))
        schedule_strips(schedule, domain, simd, tile, step)
        _, *_, k, _, _, _, _ = schedule.get_loops(schedule.get_sblock("ACC_update"))
        mark_checked(schedule, k)
        if packed.rows:
            mark_counted(schedule, k)
        return schedule


def block_cost(workload: Conv2dWorkload, simd: Simd, knobs: Knobs) -> float:
    """Time of a multiply-accumulate in a block, of that in a dense product."""
    if knobs["panel"] >= simd.lanes(workload.dtype):
        return BLOCK_COST
    return max(BLOCK_COST, 1 + HALF_BLOCK_TILES[str(knobs["rows"])] / int(knobs["columns"]))


def default_panel(panels: Sequence[int], simd: Simd) -> int:
    """Output channels of a block: four vectors where a multiply-add takes an element, else one.

    On a Cortex-A76, 56x56x64->64 with 80 % zeros takes .37 of the dense layer's instructions in
    blocks of 16 channels and .41 in blocks of 8.
    """
    wanted = simd.lanes("float32") * (4 if simd.fma_by_element else 1)
    return max((panel for panel in panels if panel <= wanted), default=panels[0])


def default_lanes(domain: Domain, panel: int, simd: Simd) -> tuple[str, int]:
    """What is side by side, and the columns of a register tile: fewest instructions for a tile."""
    vectors = panel // panel_lanes(simd, "float32", panel)
    parts = -(-domain.tiles // most_columns(panel, simd))
    apart = -(-domain.tiles // parts)
    most = most_columns(panel, simd, TILES)
    together = max(n for n in range(1, most + 1) if domain.tile_columns % n == 0)

    def instructions(columns: int, loads: int) -> float:
        return (columns * vectors + loads + vectors / 2 + LOOP) / columns

    if not simd.fma_by_element or simd.in_order or SideBySide.of_domain(domain, together) is None:
        return CHANNELS, apart
    loads = -(-together // side_by_side.LANES)
    if instructions(together, loads) > instructions(apart, apart):
        return CHANNELS, apart
    return TILES, together


def most_columns(panel: int, simd: Simd, lanes: str = CHANNELS) -> int:
    """Tiles of a register tile: sums, and the vectors of a block and of a tile."""
    vectors = panel // panel_lanes(simd, "float32", panel)
    if lanes == TILES:
        # One vector of a block at a time, for all of a channel's.
        each = side_by_side.LANES * vectors + 1
        return (simd.vector_registers - 1) * side_by_side.LANES // each
    # A Cortex-A76's tile of 6x16, for which four are left, spills.
    spare = 5 if simd.fma_by_element else 1
    return (simd.vector_registers - vectors - spare) // vectors
