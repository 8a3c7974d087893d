"""MEC's compact lowered matrix ``L[n][w'][h][kw][c]``: its rows, its elements, its patches.

For each output column ``w'`` it holds the ``K_w`` image columns under it, over the rows ``h`` of
the padded image (Cho and Brand, arXiv 1706.06873). One such column is one row of the matrix.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace

from tvm import s_tir, te, tirx
from tvm.tirx import Expr

from schedules.algorithms.base import FLOAT_OR_INT8
from schedules.algorithms.indirect import Lowering
from schedules.kernel.knobs import Knob, Knobs, by_name
from schedules.kernel.patches import ImagePatches, Patches
from schedules.kernel.steps import copy_vectors
from schedules.layer.words import step_bytes, steps
from schedules.layer.workload import Conv2dWorkload
from schedules.lower.memory import ALIGNMENT
from schedules.target.simd import Simd

#: One way of the smallest L1 caches has so many bytes, 64 sets of a line; larger ways are multiples
#: of it. What lies a multiple of a way apart is in the same set.
CACHE_WAY_BYTES = 4096


class CompactLowering(Lowering):
    """An algorithm whose patches are in ``L``; :meth:`lower` schedules that.

    Its knob ``row_padding``: elements behind each row of ``L``, none or one cache line. A register
    tile reads ``columns`` rows of ``L`` at the same offset. If their distance is within half a line
    of a multiple of :data:`CACHE_WAY_BYTES`, they share a few sets, and where a set has fewer ways
    than rows, these evict each other. One line more spreads them over the sets.
    """

    types = FLOAT_OR_INT8

    @abstractmethod
    def rows(self, workload: Conv2dWorkload) -> int:
        """Rows of the padded image over which ``L`` goes."""

    def row_elements(self, workload: Conv2dWorkload) -> int:
        """Elements of one row of ``L``, that is, of one output column, without padding."""
        return self.rows(workload) * (steps(workload) // workload.kernel_height)

    def knobs(self, workload: Conv2dWorkload, simd: Simd) -> Mapping[str, Knob]:
        size = step_bytes(workload)
        line, distance = ALIGNMENT // size, self.row_elements(workload) * size
        collide = (distance + ALIGNMENT // 2) % CACHE_WAY_BYTES <= ALIGNMENT
        padding = Knob("row_padding", (0, line), line if collide else 0)
        return {**super().knobs(workload, simd), **by_name(padding)}

    def row_bytes(self, workload: Conv2dWorkload, knobs: Knobs) -> int:
        """Bytes from one row of ``L`` to the next."""
        elements = self.row_elements(workload) + knobs["row_padding"]
        return elements * step_bytes(workload)

    def patches(self, source: ImagePatches) -> Patches:
        lowered = lower(source, self.rows(source.workload))
        return LoweredPatches(source.workload, lowered, source.taps, source.tile_columns)

    def copy_columns(
        self, schedule: s_tir.Schedule, workload: Conv2dWorkload, simd: Simd, knobs: Knobs
    ) -> None:
        """Fill rows of ``L`` by vectors of channels, and put ``row_padding`` behind each."""
        distance = self.row_elements(workload) + knobs["row_padding"]
        # TVM rounds the distance of rows up to a multiple of the factor, that is, to the factor.
        schedule.storage_align(schedule.get_sblock("L"), 0, axis=1, factor=distance, offset=0)
        copy_vectors(schedule, "L", workload, simd)


def lower(source: ImagePatches, rows: int) -> te.Tensor:
    """Store the compact lowered matrix of the first ``rows`` padded rows: block ``L``.

    They are the patches of a kernel of one row, at all rows of the padded image.
    """
    layer, taps = source.workload, source.taps
    below = max(rows - layer.pad_top - layer.in_height, 0)
    one_row = replace(layer, kernel_height=1, stride_height=1, dilation_height=1, pad_bottom=below)
    pieces = replace(source, workload=one_row, tile_columns=1)

    def element(n: Expr, w: Expr, row: Expr, kw: Expr, c: Expr) -> Expr:
        return pieces.masked_element(n, row, w, tirx.const(0, "int32"), kw, c)

    shape = (layer.batch, layer.out_width, rows, taps.columns, taps.depth)
    return te.compute(shape, element, name="L")


class LoweredPatches(Patches):
    """Patches in ``L``, a ``(N, W', H_pad, K_w, C)`` tensor."""

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.workload.output_shape[:3]

    def element(self, n: Expr, h: Expr, w: Expr, kh: Expr, kw: Expr, c: Expr) -> Expr:
        row = h * self.workload.stride_height + kh * self.workload.dilation_height
        return self.source[n, w, row, kw, c]


class BatchedPatches(LoweredPatches):
    """The same, with all samples of an output row side by side: solution A."""

    @property
    def shape(self) -> tuple[int, int, int]:
        batch, rows, columns, _ = self.workload.output_shape
        return (1, rows, batch * columns)

    def element(self, n: Expr, h: Expr, w: Expr, kh: Expr, kw: Expr, c: Expr) -> Expr:
        columns = self.workload.out_width
        return super().element(w // columns, h, w % columns, kh, kw, c)
