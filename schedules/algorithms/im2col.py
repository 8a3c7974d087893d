"""``im2col``: gather every patch into one matrix, then one matrix product.

Chellapilla, Puri and Simard, "High Performance Convolutional Neural Networks for Document
Processing" (IWFHR 2006). In NHWC a patch is a row of the matrix; some call it im2row.

Workspace: the patch matrix, ``N H' W' K_h K_w C`` elements. A pointwise convolution's input is its
patch matrix already: nothing is gathered and the workspace is 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tvm import s_tir

from schedules.algorithms.indirect import Lowering
from schedules.kernel import microkernel, tiles
from schedules.kernel.knobs import Knob, Knobs
from schedules.kernel.packing import PackedWeights
from schedules.kernel.patches import GatheredPatches, Taps, gather, placeholders, vectorize_channels
from schedules.kernel.tiles import Product, Tile
from schedules.layer.workload import Conv2dWorkload
from schedules.lower import c_abi
from schedules.target.simd import Simd


class Im2col(Lowering):
    """Chellapilla et al., IWFHR 2006."""

    name = "im2col"
    source = "Chellapilla et al., High Performance CNNs for Document Processing, IWFHR 2006"

    def knobs(self, workload: Conv2dWorkload, simd: Simd) -> Mapping[str, Knob]:
        return tiles.knobs(self.product(workload, simd), simd)

    def product(self, workload: Conv2dWorkload, simd: Simd) -> Product:
        return Product(workload, Taps.of(workload, simd), workload.pixels)

    def workspace_bytes(self, workload: Conv2dWorkload, knobs: Knobs) -> int:
        return workload.pixels * workload.reduction * workload.element_bytes

    def moved_elements(self, workload: Conv2dWorkload, knobs: Knobs) -> int:
        return workload.pixels * workload.reduction

    def schedule(self, workload: Conv2dWorkload, simd: Simd, knobs: Knobs) -> s_tir.Schedule:
        # Threads gather, each some image rows, before any of them multiplies.
        packed = self.packed_weights(workload, knobs)
        schedule, _ = gathered_product(workload, simd, Tile.of(knobs), packed, stage=1)
        pixel = schedule.get_loops(schedule.get_sblock("P"))[0]
        vectorize_channels(schedule, "P", workload, simd)
        image_row, _ = schedule.split(pixel, [None, workload.out_width])
        c_abi.mark_stage(schedule, image_row, 0)
        return schedule


def gathered_product(
    workload: Conv2dWorkload,
    simd: Simd,
    tile: Tile,
    packed: PackedWeights,
    stage: int,
    shared: str | None = None,
) -> tuple[s_tir.Schedule, dict[str, Any]]:
    """Gather (block ``P``, not scheduled) and product (stage ``stage``), and its tile loops."""
    taps = Taps.of(workload, simd)
    arguments = placeholders(workload, packed)
    matrix = gather(workload, arguments[0], taps)
    patches = GatheredPatches(matrix, taps, tile.rounded(workload.pixels))
    return microkernel.convolve(workload, simd, tile, patches, arguments, stage, shared)
