"""``mec_strip``: MEC's lowered matrix, one strip of output columns at a time.

Like ``mec`` (Cho and Brand, arXiv 1706.06873), but ``L`` is never whole: the columns under one
register tile are lowered over all image rows, every output row of that strip is multiplied, then
the next strip takes the same memory.

Workspace: ``columns (H_r K_w C + padding)`` elements a thread, for tiles of ``columns`` pixels and
the H_r rows of the padded image that the kernel reaches; ``padding`` is the knob ``row_padding``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from tvm import s_tir

from schedules.algorithms.shared.compact_lowering import CompactLowering
from schedules.kernel.knobs import Knob, Knobs, by_name
from schedules.kernel.tiles import stay_in_l2
from schedules.layer.workload import Conv2dWorkload
from schedules.lower.memory import join
from schedules.target.simd import Simd

#: A strip is lowered once, so that the loop over strips is outermost.
STRIP_ORDERS = ("columns,rows,panels", "columns,panels,rows")


class MecStrip(CompactLowering):
    """MEC with one strip of output columns at a time."""

    name = "mec_strip"
    source = "MEC (Cho and Brand, arXiv 1706.06873), one strip of columns at a time"
    workspace = "H_pad K_w C of a strip of columns"
    good_for = "the same in a small cache"
    #: Each thread lowers into a buffer of its own: it is strips that they share.
    shared_loop = "columns"

    def rows(self, workload: Conv2dWorkload) -> int:
        # Those that the kernel reaches: a stride may leave out the last ones.
        last = (workload.out_height - 1) * workload.stride_height
        return last + (workload.kernel_height - 1) * workload.dilation_height + 1

    def knobs(self, workload: Conv2dWorkload, simd: Simd) -> Mapping[str, Knob]:
        default = STRIP_ORDERS[0 if stay_in_l2(workload.weight_bytes, simd) else 1]
        choices = super().knobs(workload, simd)
        order = replace(choices["order"], choices=STRIP_ORDERS, default=default)
        return {**choices, **by_name(order)}

    def workspace_bytes(self, workload: Conv2dWorkload, knobs: Knobs) -> int:
        strip = self.thread_bytes(workload, knobs)
        return join(self.panel_bytes(workload, knobs), strip)

    def thread_bytes(self, workload: Conv2dWorkload, knobs: Knobs) -> int:
        columns = min(knobs["columns"], workload.out_width)
        return columns * self.row_bytes(workload, knobs)

    def moved_elements(self, workload: Conv2dWorkload, knobs: Knobs) -> int:
        lowered = workload.batch * workload.out_width * self.row_elements(workload)
        return lowered + super().moved_elements(workload, knobs)

    def schedule(self, workload: Conv2dWorkload, simd: Simd, knobs: Knobs) -> s_tir.Schedule:
        schedule, loops = self.convolve(workload, simd, knobs)
        lowered = schedule.get_sblock("L")
        schedule.compute_at(lowered, loops.columns, preserve_unit_loops=True)
        self.copy_columns(schedule, workload, simd, knobs)
        return schedule
