"""``im2col``: gather every patch into one matrix, then one matrix product.

Chellapilla, Puri and Simard, "High Performance Convolutional Neural Networks for Document
Processing" (IWFHR 2006). In NHWC a patch is a row of the matrix; some call it im2row.

Workspace: the patch matrix, ``N H' W' K_h K_w C`` elements. A pointwise convolution's input is its
patch matrix already: nothing is gathered and the workspace is 0.
"""

from __future__ import annotations

from collections.abc import Sequence

from tvm import s_tir

from schedules.algorithms.base import FLOAT_OR_INT8
from schedules.algorithms.indirect import Lowering
from schedules.kernel.knobs import Knobs
from schedules.kernel.patches import GatheredPatches, ImagePatches, Patches, Taps, gather
from schedules.kernel.sharing import Share
from schedules.kernel.steps import copy_vectors
from schedules.kernel.tiles import Product
from schedules.layer.words import in_words, patch_bytes, steps
from schedules.layer.workload import Conv2dWorkload
from schedules.lower.memory import join
from schedules.lower.stages import mark_stage
from schedules.target.simd import Simd


class Im2col(Lowering):
    """Chellapilla et al., IWFHR 2006."""

    name = "im2col"
    source = "Chellapilla et al., High Performance CNNs for Document Processing, IWFHR 2006"
    workspace = "K_h K_w C H' W'"
    good_for = "comparing: one large matrix product"
    types = FLOAT_OR_INT8

    def product(self, workload: Conv2dWorkload, simd: Simd) -> Product:
        return Product(in_words(workload), Taps.of(workload, simd), workload.pixels)

    def workspace_bytes(self, workload: Conv2dWorkload, knobs: Knobs) -> int:
        patches = workload.pixels * patch_bytes(workload)
        return join(patches, self.panel_bytes(workload, knobs))

    def moved_elements(self, workload: Conv2dWorkload, knobs: Knobs) -> int:
        gathered = workload.pixels * steps(workload)
        return gathered + super().moved_elements(workload, knobs)

    def lowered(self, workload: Conv2dWorkload) -> Sequence[Share]:
        return (Share(workload.pixels // workload.out_width),)

    def patches(self, source: ImagePatches) -> Patches:
        return GatheredPatches(source.workload, gather(source), source.taps, source.tile_columns)

    def schedule(self, workload: Conv2dWorkload, simd: Simd, knobs: Knobs) -> s_tir.Schedule:
        # Threads gather, each some image rows, before any of them multiplies.
        schedule, _ = self.convolve(workload, simd, knobs, stage=1)
        pixel = schedule.get_loops(schedule.get_sblock("P"))[0]
        copy_vectors(schedule, "P", workload, simd)
        image_row, _ = schedule.split(pixel, [None, workload.out_width])
        mark_stage(schedule, image_row, 0)
        return schedule
