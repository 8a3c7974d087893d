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

from tvm import s_tir, te

from schedules.algorithms.base import LayerAlgorithm
from schedules.kernel import microkernel, tiles
from schedules.kernel.knobs import Knob, Knobs
from schedules.kernel.patches import ImagePatches, Patches, Taps, placeholders
from schedules.kernel.steps import TileLoops
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
        schedule, _ = self.convolve(as_rows(workload), simd, knobs)
        return schedule

    def patches(
        self, workload: Conv2dWorkload, image: te.Tensor, taps: Taps, tile: Tile
    ) -> Patches:
        """Where the patch matrix is read from: with most algorithms, all that tells them apart."""
        return ImagePatches(workload, image, taps, tile.rounded(workload.out_width))

    def convolve(
        self,
        workload: Conv2dWorkload,
        simd: Simd,
        knobs: Knobs,
        stage: int = 0,
        shared: str | None = None,
    ) -> tuple[s_tir.Schedule, TileLoops]:
        """:func:`microkernel.convolve` over :meth:`patches`; what stores them is not scheduled."""
        tile, taps = Tile.of(knobs), Taps.of(workload, simd)
        arguments = placeholders(workload, self.packed_weights(workload, knobs))
        patches = self.patches(workload, arguments[0], taps, tile)
        return microkernel.convolve(workload, simd, tile, patches, arguments, stage, shared)


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
