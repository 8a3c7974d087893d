"""``indirect``: patches are gathered straight into registers; nothing is ever copied.

The indirect convolution of Dukhan, "The Indirect Convolution Algorithm" (arXiv 1907.02129), reads
each patch where it lies in the input. There, a table of pointers says where, and points to a row of
zeros beyond the border. Here every shape is known when the kernel is compiled: addresses are
computed, border tiles are split from interior ones and skip what would multiply zeros. So there is
neither a table nor a padded copy.

Workspace: 0.
"""

from __future__ import annotations

from collections.abc import Mapping

from tvm import s_tir

from schedules.algorithms.base import LayerAlgorithm
from schedules.kernel import microkernel, tiles
from schedules.kernel.knobs import Knob, Knobs
from schedules.kernel.patches import ImagePatches, Taps, placeholders
from schedules.kernel.tiles import Product, Tile
from schedules.layer.workload import Conv2dWorkload
from schedules.target.simd import Simd


class Indirect(LayerAlgorithm):
    """Dukhan, arXiv 1907.02129, with addresses computed at compile time."""

    name = "indirect"
    source = "Dukhan, The Indirect Convolution Algorithm, arXiv 1907.02129"

    def knobs(self, workload: Conv2dWorkload, simd: Simd) -> Mapping[str, Knob]:
        return tiles.knobs(self.product(workload, simd), simd)

    def product(self, workload: Conv2dWorkload, simd: Simd) -> Product:
        workload = as_rows(workload)
        return Product(workload, Taps.of(workload, simd), workload.out_width)

    def workspace_bytes(self, workload: Conv2dWorkload, knobs: Knobs) -> int:
        return 0

    def schedule(self, workload: Conv2dWorkload, simd: Simd, knobs: Knobs) -> s_tir.Schedule:
        workload = as_rows(workload)
        tile, taps = Tile.of(knobs), Taps.of(workload, simd)
        arguments = placeholders(workload, self.packed_weights(workload, knobs))
        patches = ImagePatches(workload, arguments[0], taps, tile.rounded(workload.out_width))
        schedule, _ = microkernel.convolve(workload, simd, tile, patches, arguments)
        return schedule


class Lowering(Indirect):
    """An algorithm that lowers the image or shifts products, where there is anything to.

    Else it is ``indirect`` under another name.
    """

    def is_indirect(self, workload: Conv2dWorkload) -> bool:
        """Whether the image is its own patch matrix."""
        return workload.is_pointwise

    def applied_to(self, workload: Conv2dWorkload) -> Indirect:
        if not self.is_indirect(workload):
            return self
        indirect = Indirect()
        indirect.name, indirect.source = self.name, self.source
        return indirect


def as_rows(workload: Conv2dWorkload) -> Conv2dWorkload:
    """A pointwise convolution as one row of pixels, which tiles divide best; others as they are."""
    return workload.as_matrix() if workload.is_pointwise else workload
