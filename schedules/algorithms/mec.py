"""``mec``: lower the image along its columns only; patches overlap in the result along its rows.

Cho and Brand, "MEC: Memory-efficient Convolution for Deep Neural Network" (arXiv 1706.06873). The
compact lowered matrix ``L[n][w'][h][kw][c]`` holds, for each output column ``w'``, the ``K_w``
image columns under it, over all rows of the padded image. The patch under output pixel ``(h', w')``
is then one contiguous piece of ``L``, which begins at row ``h' s``. This is the paper's solution B,
whose products write the NHWC output directly.

Workspace: ``N W' (H + padding) K_w C`` elements, K_h / s times less than im2col.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tvm import s_tir, te, tirx

from schedules import c_abi, microkernel, tiles
from schedules.algorithms.indirect import Indirect
from schedules.knobs import Knob, Knobs
from schedules.packing import PackedWeights
from schedules.patches import ImagePatches, Taps, masked, placeholders, vectorize_channels
from schedules.simd import Simd
from schedules.tiles import Tile
from schedules.workload import Conv2dWorkload


class Mec(Indirect):
    """Cho and Brand, arXiv 1706.06873, solution B."""

    name = "mec"
    source = "Cho and Brand, MEC: Memory-efficient Convolution, arXiv 1706.06873"

    def knobs(self, workload: Conv2dWorkload, simd: Simd) -> Mapping[str, Knob]:
        return tiles.knobs(workload, simd, Taps.of(workload, simd), workload.out_width)

    def workspace_bytes(self, workload: Conv2dWorkload, knobs: Knobs) -> int:
        if workload.is_pointwise:
            return 0
        column = padded_height(workload) * workload.kernel_width * workload.in_channels
        return workload.batch * workload.out_width * column * workload.element_bytes

    def schedule(self, workload: Conv2dWorkload, simd: Simd, knobs: Knobs) -> s_tir.Schedule:
        if workload.is_pointwise:
            return super().schedule(workload, simd, knobs)
        packed = self.packed_weights(workload, knobs)
        rows = padded_height(workload)
        schedule, _ = lowered_product(workload, simd, Tile.of(knobs), packed, rows, stage=1)
        _, column, *_ = schedule.get_loops(schedule.get_sblock("L"))
        vectorize_channels(schedule, "L", workload, simd)
        c_abi.mark_stage(schedule, column, 0)
        return schedule


def padded_height(workload: Conv2dWorkload) -> int:
    """Rows of the padded image."""
    return workload.in_height + workload.pad_top + workload.pad_bottom


@dataclass(frozen=True)
class LoweredPatches:
    """Patches in ``L``, a ``(N, W', H_pad, K_w, C)`` tensor."""

    workload: Conv2dWorkload
    lowered: te.Tensor
    taps: Taps
    columns: int

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.workload.output_shape[:3]

    def row_mask(self, h: tirx.Expr, kh: tirx.Expr) -> list[tirx.Expr]:
        return []

    def column_mask(self, w: tirx.Expr, kw: tirx.Expr, c: tirx.Expr) -> list[tirx.Expr]:
        return [w < self.shape[2]] * (self.columns > self.shape[2])

    def element(
        self, n: tirx.Expr, h: tirx.Expr, w: tirx.Expr, kh: tirx.Expr, kw: tirx.Expr, c: tirx.Expr
    ) -> tirx.Expr:
        row = h * self.workload.stride_height + kh * self.workload.dilation_height
        return self.lowered[n, w, row, kw, c]


def lower(workload: Conv2dWorkload, image: te.Tensor, taps: Taps, rows: int) -> te.Tensor:
    """Store the compact lowered matrix of the first ``rows`` padded rows: block ``L``."""
    source = ImagePatches(workload, image, taps, workload.out_width)

    def element(
        n: tirx.Expr, w: tirx.Expr, row: tirx.Expr, kw: tirx.Expr, c: tirx.Expr
    ) -> tirx.Expr:
        at = row - workload.pad_top
        inside = [at >= 0] * (workload.pad_top > 0)
        inside += [at < workload.in_height] * (rows - workload.pad_top > workload.in_height)
        return masked(
            inside + source.column_mask(w, kw, c),
            image[n, at, source.column_offset(w, kw) + c],
            workload.dtype,
        )

    batch, columns = workload.batch, workload.out_width
    return te.compute((batch, columns, rows, taps.columns, taps.depth), element, name="L")


def lowered_product(
    workload: Conv2dWorkload,
    simd: Simd,
    tile: Tile,
    packed: PackedWeights,
    rows: int,
    stage: int,
    shared: str | None = None,
) -> tuple[s_tir.Schedule, dict[str, Any]]:
    """Lowering of ``rows`` (block ``L``, not scheduled) and product, and the product's tile loops.

    The product is stage ``stage``; threads share its loop ``shared``.
    """
    taps = Taps.of(workload, simd)
    arguments = placeholders(workload, packed)
    lowered = lower(workload, arguments[0], taps, rows)
    patches = LoweredPatches(workload, lowered, taps, tile.rounded(workload.out_width))
    return microkernel.convolve(workload, simd, tile, patches, arguments, stage, shared)
