"""Kernels that transform weights ask for those of the next block while they have this one's."""

from __future__ import annotations

import re

import pytest

from schedules.layer.workload import Conv2dWorkload
from schedules.lower.passes import lower_to_loops
from schedules.plan.planner import plan_kernel
from schedules.target.simd import PRESETS

#: Two blocks of channels, two panels.
LAYER = Conv2dWorkload(8, 8, 32, 32, 3, 3, pad_top=1, pad_left=1, pad_bottom=1, pad_right=1)
PREFETCH = re.compile(r"T\.prefetch\(T\.address_of\(W\w*\[(.+)\]\), 0, 3, 1\)")


def asked_for(target: str, choice: str) -> list[str]:
    """Indices of the weights that the kernel asks for."""
    simd = PRESETS[target]
    schedule = plan_kernel(LAYER, simd, f"winograd:outputs=4:c_block=16:{choice}").schedule(simd)
    return PREFETCH.findall(lower_to_loops(schedule.mod["main"]).script())


@pytest.mark.parametrize(
    ("weights", "ahead", "lines"),
    [("panels", 16 * 9 * 16, 9), ("in_place", 16, 16)],
)
def test_each_line_of_the_next_block_is_asked_for_once(
    weights: str, ahead: int, lines: int
) -> None:
    """A block of 16 channels by 9 taps by a panel of 16; of 16 rows, or of 16 channels of one."""
    indices = asked_for("x86-64-v4", f"panel=16:weights={weights}")
    assert len(indices) == len(set(indices)) == lines
    assert all(index.endswith(f" + {ahead}") for index in indices), indices


def test_others_leave_it_to_the_core() -> None:
    assert not asked_for("x86-64-v4", "weights=transformed")
    assert not asked_for("cortex-a76", "weights=panels")
