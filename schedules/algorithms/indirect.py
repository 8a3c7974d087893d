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

from schedules.algorithms.base import FLOAT, FLOAT_OR_INT8, LayerAlgorithm
from schedules.kernel import microkernel, tiles
from schedules.kernel.knobs import Knob, Knobs
from schedules.kernel.patches import Patches, Taps, image_patches, placeholders, with_zero
from schedules.kernel.steps import TileLoops
from schedules.kernel.tiles import Product, Tile
from schedules.layer.words import in_words
from schedules.layer.workload import Conv2dWorkload
from schedules.target.simd import Simd


class Indirect(LayerAlgorithm):
    """Dukhan, arXiv 1907.02129, with addresses computed at compile time."""

    name = "indirect"
    source = "Dukhan, The Indirect Convolution Algorithm, arXiv 1907.02129"
    workspace = "0"
    good_for = "all layers, the default where Winograd does not pay"
    types = FLOAT_OR_INT8

    def knobs(self, workload: Conv2dWorkload, simd: Simd) -> Mapping[str, Knob]:
        return tiles.knobs(self.product(workload, simd), simd)

    def product(self, workload: Conv2dWorkload, simd: Simd) -> Product:
        workload = as_rows(workload)
        return Product(in_words(workload), Taps.of(workload, simd), workload.out_width)

    def workspace_bytes(self, workload: Conv2dWorkload, knobs: Knobs) -> int:
        return 0

    def schedule(self, workload: Conv2dWorkload, simd: Simd, knobs: Knobs) -> s_tir.Schedule:
        schedule, _ = self.convolve(as_rows(workload), simd, knobs)
        return schedule

    def patches(self, layer: Conv2dWorkload, image: te.Tensor, taps: Taps, columns: int) -> Patches:
        """Where the patch matrix is read from: with most algorithms, all that tells them apart."""
        return image_patches(layer, image, taps, columns)

    def convolve(
        self,
        workload: Conv2dWorkload,
        simd: Simd,
        knobs: Knobs,
        stage: int = 0,
        shared: str | None = None,
    ) -> tuple[s_tir.Schedule, TileLoops]:
        """The whole kernel, with the product of :meth:`patches` scheduled, and its tile loops.

        ``stage`` and ``shared`` as for :func:`microkernel.schedule_product`. What stores the
        patches, if anything, is left to be scheduled.
        """
        tile, taps = Tile.of(knobs), Taps.of(workload, simd)
        image, weights, constants = placeholders(workload, self.packed_weights(workload, knobs))
        patches = with_zero(self.patches(workload, image, taps, tile.columns), constants)
        results = microkernel.product(workload, patches, weights, constants, tile)
        arguments = [image, weights, *constants.tensors, *results]
        schedule = s_tir.Schedule(te.create_prim_func(arguments))
        loops = microkernel.schedule_product(
            schedule, in_words(workload), simd, tile, taps, stage, shared
        )
        return schedule, loops


class Lowering(Indirect):
    """An algorithm that lowers the image or shifts products, where there is anything to.

    Else it is ``indirect`` under another name.
    """

    types = FLOAT

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
