"""``dense``: the product of a matrix of few rows with the weights, as in FULLY_CONNECTED.

A network's last layers multiply one vector, or a small batch of them, and so do 1x1 convolutions of
tiny images (squeeze-and-excite). Every weight is then used once or a few times, and reading the
weights is what takes the time. They are read exactly once if one register tile holds all rows:

``packed``
    in panels, the register tile of ``indirect``, with enough panels for threads to share;
``in_place``
    where and as TFLite stores them, as dot products (:mod:`schedules.kernel.dot_products`): not a
    byte is packed, and no lane is lost to a last panel that is not full. Float16 and int8 are
    converted as they are loaded.

Workspace: 0, but of hybrid layers (:mod:`schedules.kernel.hybrid`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tvm import s_tir

from schedules.algorithms.indirect import Indirect
from schedules.kernel import packing
from schedules.kernel.costs import Work
from schedules.kernel.dot_products import SUMS, dot_products, shared_tiles
from schedules.kernel.hybrid.image import dynamic_bytes
from schedules.kernel.knobs import Knob, Knobs
from schedules.kernel.loop_nests import LoopNest
from schedules.kernel.packing import IN_PLACE, PACKED, PackedWeights
from schedules.kernel.patches import placeholders
from schedules.kernel.sharing import Share, tensor_bytes
from schedules.layer.words import WORD
from schedules.layer.workload import Conv2dWorkload
from schedules.target.simd import Simd

#: Dot products of many pixels with weights in place read the weights again for every few pixels,
#: without registers for them: so much longer than others. Measured on a Zen 4 with the weights in
#: memory: 1.32 and 1.38 times as long as packed weights take, and 1.7 where rows are pages apart.
AGAIN_SHARE = 0.3
#: Adding up the lanes of one sum takes as long as moving so many elements.
LANE_SUM_MOVES = 16
#: Weights in place of a single vector are read as several rows side by side: this part of the time
#: that others take to come from memory, and that of so many bytes until a row's come fast. Measured
#: on a Zen 4; on NEON, where dot products take more instructions, nothing is gained that is known.
ROWS_SHARE, ROW_START_BYTES = 0.7, 900


class Dense(Indirect):
    """The matrix-vector product, for one row or several."""

    name = "dense"
    source = "the definition"
    workspace = "0"
    good_for = "matrices of few rows, weights where the model has them"
    writes_once = False

    def supports(self, workload: Conv2dWorkload, simd: Simd) -> str | None:
        reason = super().supports(workload, simd)
        if reason is None and not workload.is_pointwise:
            return "it multiplies matrices: 1x1 kernels, stride 1"
        return reason

    def knobs(self, workload: Conv2dWorkload, simd: Simd) -> Mapping[str, Knob]:
        """``weights``, and the register tile of ``packed``."""
        return super().knobs(workload, simd)

    def weight_sources(self, workload: Conv2dWorkload) -> Sequence[str]:
        whole = workload.dtype == "int8" and workload.in_channels % WORD == 0
        return (PACKED, *[IN_PLACE] * (whole or not workload.is_quantised))

    def macs(self, workload: Conv2dWorkload, knobs: Knobs) -> int:
        return workload.macs

    def stages(self, workload: Conv2dWorkload, simd: Simd, knobs: Knobs) -> Sequence[Work]:
        *others, product = super().stages(workload, simd, knobs)
        is_measured = not (workload.is_quantised or simd.fma_by_element)
        if knobs["weights"] == IN_PLACE and is_measured and workload.pixels > SUMS:
            product += Work(AGAIN_SHARE * workload.macs)
        return *others, product

    def moved_elements(self, workload: Conv2dWorkload, knobs: Knobs) -> int:
        if knobs["weights"] == IN_PLACE:
            lane_bytes = WORD if workload.is_quantised else workload.element_bytes
            moves = LANE_SUM_MOVES * lane_bytes // workload.element_bytes
            return moves * workload.pixels * workload.out_channels
        # With several tiles of rows it is ``indirect`` by another name, which may have it.
        return -(-workload.pixels // knobs["columns"]) - 1

    def weight_work(self, workload: Conv2dWorkload, simd: Simd, knobs: Knobs) -> Work:
        work = super().weight_work(workload, simd, knobs)
        if knobs["weights"] == PACKED or workload.pixels > 1 or simd.fma_by_element:
            return work
        return work * ROWS_SHARE + Work(memory_bytes=ROW_START_BYTES * workload.out_channels)

    def packed_weights(self, workload: Conv2dWorkload, knobs: Knobs) -> PackedWeights:
        if knobs["weights"] == IN_PLACE:
            return packing.rows(workload)
        return super().packed_weights(workload, knobs)

    def workspace_bytes(self, workload: Conv2dWorkload, knobs: Knobs) -> int:
        return dynamic_bytes(workload)

    def thread_bytes(self, workload: Conv2dWorkload, knobs: Knobs) -> int:
        return 0

    def shares(self, workload: Conv2dWorkload, simd: Simd, knobs: Knobs) -> Sequence[Share]:
        if knobs["weights"] == PACKED:
            return super().shares(workload, simd, knobs)
        tiles, are_channels = shared_tiles(workload.as_matrix())
        return (Share(tiles, tensor_bytes(workload) if are_channels else 0),)

    def loop_nests(self, workload: Conv2dWorkload, simd: Simd, knobs: Knobs) -> Sequence[LoopNest]:
        in_place = knobs["weights"] == IN_PLACE  # dot products, which have no register tile
        return [] if in_place else super().loop_nests(workload, simd, knobs)

    def schedule(self, workload: Conv2dWorkload, simd: Simd, knobs: Knobs) -> s_tir.Schedule:
        if knobs["weights"] == PACKED:
            return super().schedule(workload, simd, knobs)
        layer = workload.as_matrix()
        return dot_products(layer, simd, placeholders(layer, self.packed_weights(layer, knobs)))
