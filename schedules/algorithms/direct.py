"""``direct``: the loop nest of the definition, vectorised over the output channels.

One vector of sums for one output pixel at a time: nothing is blocked, nothing is shared between
pixels. It is the baseline that says what the register tiles of the other algorithms are worth.

Workspace: 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from schedules.algorithms.indirect import Indirect
from schedules.kernel.knobs import Knob, Knobs, by_name
from schedules.kernel.packing import PACKED
from schedules.kernel.tiles import ORDERS
from schedules.layer.words import in_words
from schedules.layer.workload import Conv2dWorkload
from schedules.target.simd import Simd


class Direct(Indirect):
    """The definition of convolution."""

    name = "direct"
    source = "the definition"
    workspace = "0"
    good_for = "comparing: it is not blocked"

    def weight_sources(self, workload: Conv2dWorkload) -> Sequence[str]:
        return (PACKED,)

    def knobs(self, workload: Conv2dWorkload, simd: Simd) -> Mapping[str, Knob]:
        fixed = {
            "columns": 1,
            "panel": simd.lanes(in_words(workload).dtype),
            "k_block": 1,
            "order": ORDERS[0],
        }
        knobs = super().knobs(workload, simd)
        return {
            **knobs,
            **by_name(
                *(replace(knobs[name], choices=(v,), default=v) for name, v in fixed.items())
            ),
        }

    def moved_elements(self, workload: Conv2dWorkload, knobs: Knobs) -> int:
        # One vector of weights is loaded for each vector of products, and waited for: as slow as
        # three times the arithmetic (measured).
        return workload.macs // 2
