"""``mec``: lower the image along its columns only; patches overlap in the result along its rows.

Cho and Brand, "MEC: Memory-efficient Convolution for Deep Neural Network" (arXiv 1706.06873). The
compact lowered matrix ``L[n][w'][h][kw][c]`` holds, for each output column ``w'``, the ``K_w``
image columns under it, over all rows of the padded image. The patch under output pixel ``(h', w')``
is then one contiguous piece of ``L``, which begins at row ``h' s``.

Solution B of the paper multiplies sample by sample, and its products are the NHWC output. Solution
A makes one product of each output row ``h'`` of all samples, with ``N W'`` rows ``(n, w')``; the
results lie in the order h'-n-w'-m, and a last stage copies them to NHWC. A single sample needs no
copy: its two solutions are one kernel.

Workspace: ``N W' (H_pad K_w C + padding)`` elements, K_h / s times less than im2col; solution A for
several samples: the ``N H' W' M`` results besides, from the next cache line on. (The paper spends
a second copy to keep them in the memory of ``L``.) ``padding`` is the knob ``row_padding``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tvm import s_tir, te, tirx

from schedules import c_abi, microkernel
from schedules.algorithms.indirect import Indirect
from schedules.knobs import Knob, Knobs
from schedules.memory import ALIGNMENT, align
from schedules.packing import PackedWeights
from schedules.patches import ImagePatches, Taps, masked, placeholders, vectorize_channels
from schedules.simd import Simd
from schedules.steps import partition
from schedules.tiles import Tile
from schedules.workload import Conv2dWorkload

#: Addresses this far apart are in one set of a first-level cache of 64 sets. Larger caches repeat
#: after a multiple of it.
CACHE_PERIOD = 4096


class Mec(Indirect):
    """Cho and Brand, arXiv 1706.06873."""

    name = "mec"
    source = "Cho and Brand, MEC: Memory-efficient Convolution, arXiv 1706.06873"

    def knobs(self, workload: Conv2dWorkload, simd: Simd) -> Mapping[str, Knob]:
        choices = super().knobs(workload, simd)
        if workload.is_pointwise:
            return choices
        padding = row_padding(workload, padded_height(workload))
        solution = Knob(("A", "B") if workload.batch > 1 else ("B",), "B")
        return {**choices, "row_padding": padding, "solution": solution}

    def workspace_bytes(self, workload: Conv2dWorkload, knobs: Knobs) -> int:
        if workload.is_pointwise:
            return 0
        row = row_elements(workload, padded_height(workload)) + knobs["row_padding"]
        lowered = workload.batch * workload.out_width * row * workload.element_bytes
        return align(lowered) + workload.output_bytes if copies(workload, knobs) else lowered

    def schedule(self, workload: Conv2dWorkload, simd: Simd, knobs: Knobs) -> s_tir.Schedule:
        if workload.is_pointwise:
            return super().schedule(workload, simd, knobs)
        packed = self.packed_weights(workload, knobs)
        rows = padded_height(workload)
        if copies(workload, knobs):
            schedule = batched_product(workload, simd, knobs, packed, rows)
        else:
            schedule, _ = lowered_product(workload, simd, knobs, packed, rows, stage=1)
        pad_rows(schedule, workload, rows, knobs)
        _, column, *_ = schedule.get_loops(schedule.get_sblock("L"))
        vectorize_channels(schedule, "L", workload, simd)
        c_abi.mark_stage(schedule, column, 0)
        return schedule


def padded_height(workload: Conv2dWorkload) -> int:
    """Rows of the padded image."""
    return workload.in_height + workload.pad_top + workload.pad_bottom


def copies(workload: Conv2dWorkload, knobs: Knobs) -> bool:
    """Whether the results are copied to NHWC."""
    return bool(knobs["solution"] == "A" and workload.batch > 1)


def row_elements(workload: Conv2dWorkload, rows: int) -> int:
    """Elements of one row of ``L``, that is, of one output column over ``rows`` image rows."""
    return rows * workload.kernel_width * workload.in_channels


def row_padding(workload: Conv2dWorkload, rows: int) -> Knob:
    """Elements behind each row of ``L``: none, or one cache line.

    A register tile reads ``columns`` rows of ``L`` at the same offset. If their distance is within
    half a line of a multiple of :data:`CACHE_PERIOD`, two or more begin in each set that they use,
    and with more rows than the set has ways they evict each other. One line more spreads them.
    """
    line = ALIGNMENT // workload.element_bytes
    distance = row_elements(workload, rows) * workload.element_bytes
    collide = (distance + ALIGNMENT // 2) % CACHE_PERIOD <= ALIGNMENT
    return Knob((0, line), line if collide else 0)


def pad_rows(schedule: s_tir.Schedule, workload: Conv2dWorkload, rows: int, knobs: Knobs) -> None:
    """Put ``row_padding`` elements behind each row of block ``L``."""
    distance = row_elements(workload, rows) + knobs["row_padding"]
    schedule.storage_align(schedule.get_sblock("L"), 0, axis=1, factor=distance, offset=0)


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


class BatchedPatches(LoweredPatches):
    """The same, with all samples of an output row side by side: solution A."""

    @property
    def shape(self) -> tuple[int, int, int]:
        batch, rows, columns, _ = self.workload.output_shape
        return (1, rows, batch * columns)

    def element(
        self, n: tirx.Expr, h: tirx.Expr, w: tirx.Expr, kh: tirx.Expr, kw: tirx.Expr, c: tirx.Expr
    ) -> tirx.Expr:
        columns = self.workload.out_width
        return super().element(w // columns, h, w % columns, kh, kw, c)


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
    knobs: Knobs,
    packed: PackedWeights,
    rows: int,
    stage: int,
    shared: str | None = None,
) -> tuple[s_tir.Schedule, dict[str, Any]]:
    """Lowering of ``rows`` (block ``L``, not scheduled) and product, and the product's tile loops.

    The product is stage ``stage``; threads share its loop ``shared``.
    """
    tile, taps = Tile.of(knobs), Taps.of(workload, simd)
    arguments = placeholders(workload, packed)
    lowered = lower(workload, arguments[0], taps, rows)
    patches = LoweredPatches(workload, lowered, taps, tile.rounded(workload.out_width))
    return microkernel.convolve(workload, simd, tile, patches, arguments, stage, shared)


def batched_product(
    workload: Conv2dWorkload, simd: Simd, knobs: Knobs, packed: PackedWeights, rows: int
) -> s_tir.Schedule:
    """Solution A: lowering (block ``L``, not scheduled), product (stage 1), copy (stage 2)."""
    tile, taps = Tile.of(knobs), Taps.of(workload, simd)
    batch, _, columns, channels = workload.output_shape
    image, weights, bias = placeholders(workload, packed)
    lowered = lower(workload, image, taps, rows)
    patches = BatchedPatches(workload, lowered, taps, tile.rounded(batch * columns))
    results = microkernel.product(workload, patches, weights, bias, tile)
    output = te.compute(
        workload.output_shape, lambda n, h, w, o: results[0, h, n * columns + w, o], name="NHWC"
    )
    schedule = s_tir.Schedule(te.create_prim_func([image, weights, bias, output]))
    microkernel.schedule_product(schedule, workload, simd, tile, taps, stage=1)

    # A sample's row is contiguous in either order: it is copied as one run of vectors.
    n, h, w, o = schedule.get_loops(schedule.get_sblock("NHWC"))
    schedule.reorder(h, n, w, o)
    lanes = simd.lanes(workload.dtype)
    vector, lane = schedule.split(schedule.fuse(w, o), [None, lanes])
    if columns * channels % lanes:
        partition(schedule, vector)
    schedule.vectorize(lane)
    c_abi.mark_stage(schedule, h, 2)
    return schedule
