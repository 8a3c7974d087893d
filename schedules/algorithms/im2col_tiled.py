"""``im2col_tiled``: gather the patches of one register tile, multiply, go on.

The patch matrix of im2col (Chellapilla et al., IWFHR 2006), but never whole: the patches of a few
output pixels are gathered into a buffer that stays in the cache while every panel of weights passes
over them.

Workspace: the patches of one tile of ``columns`` pixels, ``columns K_h K_w C`` elements a thread.
A pointwise convolution's input is its patch matrix already: the workspace is 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from tvm import s_tir

from schedules.algorithms.im2col import Im2col
from schedules.kernel import tiles
from schedules.kernel.knobs import Knob, Knobs
from schedules.kernel.sharing import Share
from schedules.kernel.steps import copy_vectors
from schedules.layer.words import patch_bytes
from schedules.layer.workload import Conv2dWorkload
from schedules.lower.memory import join
from schedules.target.simd import Simd


class Im2colTiled(Im2col):
    """im2col with the patches of one register tile at a time."""

    name = "im2col_tiled"
    source = "im2col (Chellapilla et al., IWFHR 2006), one register tile at a time"
    workspace = "K_h K_w C of one register tile"
    good_for = "im2col's products in a small cache"
    #: Each thread gathers into a buffer of its own: it is tiles of pixels that they share.
    shared_loop = "columns"

    def knobs(self, workload: Conv2dWorkload, simd: Simd) -> Mapping[str, Knob]:
        choices = super().knobs(workload, simd)
        # A tile's patches are gathered once, so its panels must all pass before the next tile.
        order = tiles.ORDERS[0]
        return {**choices, "order": replace(choices["order"], choices=(order,), default=order)}

    def workspace_bytes(self, workload: Conv2dWorkload, knobs: Knobs) -> int:
        return join(self.panel_bytes(workload, knobs), self.thread_bytes(workload, knobs))

    def thread_bytes(self, workload: Conv2dWorkload, knobs: Knobs) -> int:
        return min(knobs["columns"], workload.pixels) * patch_bytes(workload)

    def lowered(self, workload: Conv2dWorkload) -> Sequence[Share]:
        return ()

    def schedule(self, workload: Conv2dWorkload, simd: Simd, knobs: Knobs) -> s_tir.Schedule:
        schedule, loops = self.convolve(workload, simd, knobs)
        patches = schedule.get_sblock("P")
        schedule.compute_at(patches, loops.columns, preserve_unit_loops=True)
        copy_vectors(schedule, "P", workload, simd)
        return schedule
