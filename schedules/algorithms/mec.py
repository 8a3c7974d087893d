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

from collections.abc import Mapping, Sequence
from dataclasses import replace

from tvm import s_tir, te

from schedules.algorithms.shared import weight_panels
from schedules.algorithms.shared.compact_lowering import BatchedPatches, CompactLowering, lower
from schedules.kernel import microkernel
from schedules.kernel.epilogue import finished
from schedules.kernel.knobs import Knob, Knobs, by_name
from schedules.kernel.packing import SPREAD_OUT
from schedules.kernel.patches import Taps, image_patches, placeholders
from schedules.kernel.sharing import Share, tensor_bytes
from schedules.kernel.steps import cut_tails
from schedules.kernel.tiles import Tile, shared_items
from schedules.layer.words import step_bytes
from schedules.layer.workload import Conv2dWorkload
from schedules.lower.memory import join
from schedules.lower.stages import mark_stage
from schedules.target.simd import Simd


class Mec(CompactLowering):
    """Cho and Brand, arXiv 1706.06873."""

    name = "mec"
    source = "Cho and Brand, MEC: Memory-efficient Convolution, arXiv 1706.06873"
    workspace = "W' H_pad K_w C"
    good_for = "large kernels, a K_h-th of im2col's bytes"

    def rows(self, workload: Conv2dWorkload) -> int:
        return workload.in_height + workload.pad_top + workload.pad_bottom

    def knobs(self, workload: Conv2dWorkload, simd: Simd) -> Mapping[str, Knob]:
        # A single sample needs no copy: its two solutions are one kernel.
        solution = Knob("solution", ("A", "B"), "B", tried=lambda _: workload.batch > 1)
        return {**super().knobs(workload, simd), **by_name(solution)}

    def workspace_bytes(self, workload: Conv2dWorkload, knobs: Knobs) -> int:
        lowered = workload.batch * workload.out_width * self.row_bytes(workload, knobs)
        results = workload.output_bytes if copies(workload, knobs) else 0
        return join(lowered, self.panel_bytes(workload, knobs), results)

    def misfit(self, workload: Conv2dWorkload, knobs: Knobs) -> str | None:
        if copies(workload, knobs) and knobs["weights"] == SPREAD_OUT:
            return "solution A is for sums that are not spread"
        return super().misfit(workload, knobs)

    def makes_at_once(self, workload: Conv2dWorkload, knobs: Knobs) -> bool:
        return copies(workload, knobs) or super().makes_at_once(workload, knobs)

    def moved_elements(self, workload: Conv2dWorkload, knobs: Knobs) -> int:
        return self.workspace_bytes(workload, knobs) // step_bytes(workload)

    def lowered(self, workload: Conv2dWorkload) -> Sequence[Share]:
        return (Share(workload.out_width),)

    def shares(self, workload: Conv2dWorkload, simd: Simd, knobs: Knobs) -> Sequence[Share]:
        found = super().shares(workload, simd, knobs)
        is_copied = copies(workload, knobs) and not self.is_indirect(workload)
        return [*found, Share(workload.out_height)] if is_copied else found

    def product_share(
        self, workload: Conv2dWorkload, simd: Simd, knobs: Knobs, shared: str | None
    ) -> Share:
        if not copies(workload, knobs):
            return super().product_share(workload, simd, knobs, shared)
        pixels = workload.batch * workload.out_width  # of all samples side by side
        product, tile = self.product(workload, simd), Tile.of(knobs)
        product = replace(product, row_pixels=pixels)
        names, items = shared_items(product, simd, tile, workload.out_height, shared)
        return Share(items, tensor_bytes(workload) if names == ("panels",) else 0)

    def schedule(self, workload: Conv2dWorkload, simd: Simd, knobs: Knobs) -> s_tir.Schedule:
        if copies(workload, knobs):
            schedule = self.batched_product(workload, simd, knobs)
        else:
            schedule, _ = self.convolve(workload, simd, knobs, stage=1)
        _, column, *_ = schedule.get_loops(schedule.get_sblock("L"))
        self.copy_columns(schedule, workload, simd, knobs)
        mark_stage(schedule, column, 0)
        return schedule

    def batched_product(self, workload: Conv2dWorkload, simd: Simd, knobs: Knobs) -> s_tir.Schedule:
        """Solution A: lowering (block ``L``, not scheduled), product (stage 1), copy (stage 2).

        The copy adds the residual, which is in NHWC.
        """
        tile, taps = Tile.of(knobs), Taps.of(workload, simd)
        _, _, columns, channels = workload.output_shape
        packed = self.packed_weights(workload, knobs)
        image, weights, constants = placeholders(workload, packed)
        panels = weight_panels.make_panels(workload, packed, weights, tile)
        source = image_patches(workload, image, taps, constants)
        lowered = lower(source, self.rows(workload))
        patches = BatchedPatches(workload, lowered, taps, tile.columns)
        activated = replace(workload, residual=False, output_activation="none")
        (results,) = microkernel.product(activated, patches, panels, constants, tile)
        outputs = finished(
            replace(workload, activation="none"),
            lambda n, h, w, o: results[0, h, n * columns + w, o],
            constants=None,
            name="NHWC",
        )
        arguments = [image, weights, *constants.tensors, *outputs]
        schedule = s_tir.Schedule(te.create_prim_func(arguments))
        stage = weight_panels.make_at_once(schedule, workload, packed, tile, simd, 1)
        microkernel.schedule_product(schedule, workload, simd, tile, taps, stage)

        # A sample's row is contiguous in either order: it is copied as one run of vectors.
        n, h, w, o = schedule.get_loops(schedule.get_sblock("NHWC"))
        schedule.reorder(h, n, w, o)
        lanes = simd.lanes(workload.dtype)
        vector, lane = schedule.split(schedule.fuse(w, o), [None, lanes])
        cut_tails(schedule, [vector], columns * channels, lanes)
        schedule.vectorize(lane)
        mark_stage(schedule, h, stage + 1)
        return schedule


def copies(workload: Conv2dWorkload, knobs: Knobs) -> bool:
    """Whether the results are copied to NHWC."""
    return bool(knobs["solution"] == "A" and workload.batch > 1)
