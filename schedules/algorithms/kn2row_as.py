"""``kn2row_as``: one kernel tap after the other, each product shifted and added to the output.

Anderson, Vasudevan, Keane and Gregg, "High-Performance Low-Memory Lowering" (arXiv 1709.03395):
kn2row (Vasudevan et al., arXiv 1704.04428) whose products take the same memory one after the other,
each accumulated into the output before the next one is computed. Sums are the output tensor itself.
The rows of a product are output channels: in NHWC they are planes ``P[o / b][n][h][w][o % b]``, one
for each panel of ``b`` channels. Where the last panel is not full, planes of one size would exceed
the paper's memory, and all M channels are one plane.

A channel depends on no other, so that threads share panels of channels, each from its first tap to
bias and activation.

Workspace: the product of one tap, ``N H W M`` elements; 0 for a 1x1 convolution.
"""

from __future__ import annotations

from collections.abc import Sequence

from tvm import s_tir, te

from schedules.algorithms.kn2row import Kn2row
from schedules.algorithms.shared.shift_add import (
    Layout,
    convolution,
    product_elements,
    tap_count,
)
from schedules.algorithms.shared.weight_panels import make_at_once
from schedules.kernel import microkernel
from schedules.kernel.knobs import Knobs
from schedules.kernel.patches import Taps
from schedules.kernel.sharing import Share
from schedules.kernel.steps import begin_sums, cut_tails, follow, split_panel, straighten
from schedules.kernel.tiles import Tile
from schedules.layer.workload import Conv2dWorkload
from schedules.lower.fusion import allocate_once, merge_nests
from schedules.lower.masked_loops import mark_masked
from schedules.lower.memory import join
from schedules.target.simd import Simd


class Kn2rowAs(Kn2row):
    """Anderson et al., arXiv 1709.03395, one product at a time, channel by channel."""

    name = "kn2row_as"
    source = "Anderson et al., High-Performance Low-Memory Lowering, arXiv 1709.03395"
    workspace = "M H W"
    good_for = "fewer bytes than kn2row's"

    orders = ("panels,rows,columns",)
    shared_loop = "panels"

    def layout(self, workload: Conv2dWorkload, tile: Tile) -> Layout:
        channels, panel = workload.out_channels, tile.panel
        plane = channels if channels % panel else panel
        return lambda tap, pixel, o: [o // plane, pixel, o % plane]

    def workspace_bytes(self, workload: Conv2dWorkload, knobs: Knobs) -> int:
        products = product_elements(workload) // tap_count(workload) * workload.element_bytes
        return join(self.panel_bytes(workload, knobs), products)

    def shares(self, workload: Conv2dWorkload, simd: Simd, knobs: Knobs) -> Sequence[Share]:
        return super().shares(workload, simd, knobs)[:-1]  # a panel is added behind its product

    def schedule(self, workload: Conv2dWorkload, simd: Simd, knobs: Knobs) -> s_tir.Schedule:
        tile = Tile.of(knobs)
        # The sums are a parameter of their own: a view of the output.
        packed = self.packed_weights(workload, knobs)
        arguments = convolution(workload, packed, tile)
        schedule = s_tir.Schedule(te.create_prim_func(arguments))
        taps = Taps(1, 1, workload.in_channels)
        stage = make_at_once(schedule, workload, packed, tile, simd)
        loops = microkernel.schedule_product(
            schedule, workload, simd, tile, taps, stage, self.shared_loop, "P"
        )
        schedule.split(loops.rows, [workload.kernel_height, workload.kernel_width])
        schedule_accumulation(schedule, workload, simd, tile)
        # Not injective, since all taps share one place: each is added before the next is computed.
        layout = self.layout(workload, tile)
        schedule.transform_layout("P", ("write", 0), layout, assume_injective_transform=True)
        return allocate_once(schedule, "P")


def schedule_accumulation(
    schedule: s_tir.Schedule, workload: Conv2dWorkload, simd: Simd, tile: Tile
) -> None:
    """Add each tap's product to the sums behind it, in the loops of the scheduled product."""
    lanes = tile.lanes(simd, workload.dtype)
    sums, channels = schedule.get_sblock("S"), workload.out_channels

    # Step 1: one panel after another, tap by tap, beside the product.
    n, h, w, o, kh, kw = schedule.get_loops(sums)
    panel, vector, lane = split_panel(schedule, tile, lanes, o)
    schedule.reorder(panel, kh, kw, n, h, w, vector, lane)
    schedule.add_unit_loop(panel)  # the product's batch
    _, panels, kh, _ = merge_nests(schedule, "P", "S", depth=4)

    # Step 2: bias and activation for the finished panel.
    follow(schedule, "Y", panels, lanes, channels, tile.panel)

    # Step 3: borders and tails.
    mark_masked(schedule, h)
    mark_masked(schedule, w)
    cut_tails(schedule, (vector, lane), channels, tile.panel)

    # Step 4: straight-line code inside.
    straighten(schedule, vector, lane)
    begin_sums(schedule, sums, kh)
