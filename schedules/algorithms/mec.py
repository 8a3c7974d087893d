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
several samples: the ``N H' W' M`` results besides, from the next cache line on (the paper keeps
them in the memory of ``L``). ``padding`` is the knob ``row_padding``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tvm import s_tir, te

from schedules.algorithms.indirect import Lowering
from schedules.algorithms.shared.compact_lowering import (
    BatchedPatches,
    LoweredPatches,
    lower,
    pad_rows,
    row_elements,
    row_padding,
)
from schedules.kernel import microkernel
from schedules.kernel.knobs import Knob, Knobs, by_name
from schedules.kernel.packing import PackedWeights
from schedules.kernel.patches import Taps, placeholders, vectorize_channels
from schedules.kernel.tiles import Tile
from schedules.layer.workload import Conv2dWorkload
from schedules.lower import c_abi
from schedules.lower.memory import align
from schedules.lower.steps import partition
from schedules.target.simd import Simd


class Mec(Lowering):
    """Cho and Brand, arXiv 1706.06873."""

    name = "mec"
    source = "Cho and Brand, MEC: Memory-efficient Convolution, arXiv 1706.06873"

    def knobs(self, workload: Conv2dWorkload, simd: Simd) -> Mapping[str, Knob]:
        padding = row_padding(workload, padded_height(workload))
        # A single sample needs no copy: its two solutions are one kernel.
        solution = Knob("solution", ("A", "B"), "B", tried=lambda _: workload.batch > 1)
        return {**super().knobs(workload, simd), **by_name(padding, solution)}

    def workspace_bytes(self, workload: Conv2dWorkload, knobs: Knobs) -> int:
        row = row_elements(workload, padded_height(workload)) + knobs["row_padding"]
        lowered = workload.batch * workload.out_width * row * workload.element_bytes
        return align(lowered) + workload.output_bytes if copies(workload, knobs) else lowered

    def moved_elements(self, workload: Conv2dWorkload, knobs: Knobs) -> int:
        return self.workspace_bytes(workload, knobs) // workload.element_bytes

    def schedule(self, workload: Conv2dWorkload, simd: Simd, knobs: Knobs) -> s_tir.Schedule:
        packed = self.packed_weights(workload, knobs)
        rows = padded_height(workload)
        if copies(workload, knobs):
            schedule = batched_product(workload, simd, knobs, packed, rows)
        else:
            schedule, _ = lowered_product(workload, simd, knobs, packed, rows, stage=1)
        pad_rows(schedule, workload, rows, knobs["row_padding"])
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
    *added, results = microkernel.product(workload, patches, weights, bias, tile)
    output = te.compute(
        workload.output_shape, lambda n, h, w, o: results[0, h, n * columns + w, o], name="NHWC"
    )
    schedule = s_tir.Schedule(te.create_prim_func([image, weights, bias, *added, output]))
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
