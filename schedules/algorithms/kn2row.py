"""``kn2row``: one product of the image with all kernel taps, then shift and add.

Vasudevan, Anderson and Gregg, "Parallel Multi Channel Convolution using General Matrix
Multiplication" (ASAP 2017, arXiv 1704.04428). The weights of all taps are one matrix of K_h K_w M
rows, and its product with the image, never lowered, one 1x1 convolution. In the product, the rows
of one tap stand together: in NHWC that is tap by tap, ``P[kh][kw][n][h][w][o]``, each tap's product
an image of its own.

Workspace: the product, ``N H W K_h K_w M`` elements. A 1x1 convolution is one product already and
goes straight to the output: 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from tvm import s_tir, te

from schedules.algorithms.indirect import Lowering
from schedules.algorithms.shared.shift_add import (
    Layout,
    convolution,
    product_elements,
    schedule_shift_add,
    single_tap,
    single_taps,
    tap_count,
)
from schedules.algorithms.shared.weight_panels import make_at_once
from schedules.kernel import microkernel
from schedules.kernel.knobs import Knob, Knobs
from schedules.kernel.patches import Taps
from schedules.kernel.sharing import Share
from schedules.kernel.tiles import Product, Tile
from schedules.layer.workload import Conv2dWorkload
from schedules.lower.fusion import allocate_once
from schedules.lower.memory import join
from schedules.lower.stages import mark_stage
from schedules.target.simd import Simd


class Kn2row(Lowering):
    """Vasudevan et al., ASAP 2017, the product tap by tap."""

    name = "kn2row"
    source = "Vasudevan et al., Parallel Multi Channel Convolution using GEMM, arXiv 1704.04428"
    workspace = "K_h K_w M H W"
    good_for = "few outputs, comparing"

    #: Loop orders of the product; the micro-kernel's rows are the taps.
    orders: tuple[str, ...] = ("rows,columns,panels", "rows,panels,columns")

    #: Threads share the pixels of every product, then the rows of the output.
    shared_loop = "columns"

    def layout(self, workload: Conv2dWorkload, tile: Tile) -> Layout:
        """Where the product of a tap, a pixel and an output channel is stored."""
        return lambda tap, pixel, o: [tap, pixel, o]

    def makes_at_once(self, workload: Conv2dWorkload, knobs: Knobs) -> bool:
        return True

    def knobs(self, workload: Conv2dWorkload, simd: Simd) -> Mapping[str, Knob]:
        choices = dict(super().knobs(workload, simd))
        order = replace(choices["order"], choices=self.orders, default=self.orders[0])
        return {**choices, "order": order}

    def product(self, workload: Conv2dWorkload, simd: Simd) -> Product:
        tap = single_tap(workload)
        return Product(tap, single_taps(tap), tap.out_width)

    def is_indirect(self, workload: Conv2dWorkload) -> bool:
        return tap_count(workload) == 1

    def workspace_bytes(self, workload: Conv2dWorkload, knobs: Knobs) -> int:
        products = product_elements(workload) * workload.element_bytes
        return join(self.panel_bytes(workload, knobs), products)

    def macs(self, workload: Conv2dWorkload, knobs: Knobs) -> int:
        return product_elements(workload) * workload.in_channels

    def moved_elements(self, workload: Conv2dWorkload, knobs: Knobs) -> int:
        # Every product is stored, and read again to be added.
        return 2 * product_elements(workload) + super().moved_elements(workload, knobs)

    def shares(self, workload: Conv2dWorkload, simd: Simd, knobs: Knobs) -> Sequence[Share]:
        return [*super().shares(workload, simd, knobs), Share(workload.out_height)]

    def schedule(self, workload: Conv2dWorkload, simd: Simd, knobs: Knobs) -> s_tir.Schedule:
        tile = Tile.of(knobs)
        packed = self.packed_weights(workload, knobs)
        *arguments, _ = convolution(workload, packed, tile)
        schedule = s_tir.Schedule(te.create_prim_func(arguments))
        taps = Taps(1, 1, workload.in_channels)
        stage = make_at_once(schedule, workload, packed, tile, simd)
        microkernel.schedule_product(
            schedule, workload, simd, tile, taps, stage, self.shared_loop, "P"
        )
        schedule.transform_layout("P", ("write", 0), self.layout(workload, tile))
        output_row = schedule_shift_add(schedule, workload, simd, tile)
        mark_stage(schedule, output_row, stage + 1)
        return allocate_once(schedule, "P")
