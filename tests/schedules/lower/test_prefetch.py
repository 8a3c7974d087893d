"""What kernels ask for of weights before they multiply them.

Those that transform weights ask for the next block, matrices of few rows for what is in memory.
"""

from __future__ import annotations

import re

import pytest

from schedules.layer.workload import Conv2dWorkload
from schedules.lower.passes import lower_to_loops
from schedules.plan.planner import plan_kernel
from schedules.target.simd import PRESETS

#: Two blocks of channels, two panels.
LAYER = Conv2dWorkload(8, 8, 32, 32, 3, 3, pad_top=1, pad_left=1, pad_bottom=1, pad_right=1)
WINOGRAD = "winograd:outputs=4:c_block=16"
PREFETCH = re.compile(r"T\.prefetch\(T\.address_of\(W\w*\[(.+)\]\), 0, \d, 1\)")


def asked_for(target: str, choice: str, layer: Conv2dWorkload = LAYER) -> list[str]:
    """Indices of the weights that the kernel asks for."""
    simd = PRESETS[target]
    schedule = plan_kernel(layer, simd, choice).schedule(simd)
    return PREFETCH.findall(lower_to_loops(schedule.mod["main"]).script())


@pytest.mark.parametrize(
    ("weights", "ahead", "lines"),
    [("panels", 16 * 9 * 16, 9), ("in_place", 16, 16)],
)
def test_each_line_of_the_next_block_is_asked_for_once(
    weights: str, ahead: int, lines: int
) -> None:
    """A block of 16 channels by 9 taps by a panel of 16; of 16 rows, or of 16 channels of one."""
    indices = asked_for("x86-64-v4", f"{WINOGRAD}:panel=16:weights={weights}")
    assert len(indices) == len(set(indices)) == lines
    assert all(index.endswith(f" + {ahead}") for index in indices), indices


def test_others_leave_it_to_the_core() -> None:
    assert not asked_for("x86-64-v4", f"{WINOGRAD}:weights=transformed")
    assert not asked_for("cortex-a76", f"{WINOGRAD}:weights=panels")


@pytest.mark.parametrize(
    ("target", "outputs", "lines"),
    [("znver4", 4096, 8), ("znver4", 128, 0), ("cortex-a76", 4096, 0)],
)
def test_rows_in_memory_are_asked_for(target: str, outputs: int, lines: int) -> None:
    """A line of each of 8 rows, 1024 bytes ahead, if the third cache would not keep them all."""
    layer = Conv2dWorkload(1, 1, 1024, outputs, 1, 1)
    indices = asked_for(target, "dense:weights=in_place", layer)
    assert len(indices) == len(set(indices)) == lines
    assert all(index.endswith(f" + {1024 // 4}") for index in indices), indices
