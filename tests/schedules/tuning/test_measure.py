"""Candidates of tiny layers, from plan to samples, on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from schedules.block import Block
from schedules.planner import Choice, plan_block, plan_form
from schedules.simd import Simd
from schedules.tuning.candidate import Candidate, Workload
from schedules.tuning.measure import Measurer
from schedules.tuning.runners.local import LocalRunner
from schedules.tuning.settings import Settings
from schedules.workload import Conv2dWorkload

HOST = Simd.named("host")
QUICK = Settings(number=2, repeat=2, min_repeat_ms=0.1)


@pytest.fixture(scope="module")
def measurer() -> Iterator[Measurer]:
    with Measurer(HOST, LocalRunner(), QUICK, jobs=2) as measurer:
        yield measurer


def untuned(algorithm: str, workload: Workload) -> Candidate:
    if isinstance(workload, Block):
        plan = plan_block(workload, HOST)
    else:
        plan = plan_form(Choice(algorithm), workload, HOST)
    return Candidate.of(plan.algorithm, plan.knobs)


SMALL = Conv2dWorkload(6, 5, 8, 12, 3, 3, pad_top=1, pad_left=1, activation="relu6")
DEPTHWISE = Conv2dWorkload(7, 7, 10, 10, 3, 3, stride_height=2, groups=10, activation="hard_swish")
POINTWISE = replace(SMALL, kernel_height=1, kernel_width=1, pad_top=0, pad_left=0)
LAYERS: dict[str, tuple[str, Workload]] = {
    "convolution": ("im2col", SMALL),
    "winograd": ("winograd", SMALL),
    "depthwise": ("depthwise", DEPTHWISE),
    "one group": ("direct", replace(SMALL, group_of=3)),
    "residual": ("indirect", replace(SMALL, residual=True, output_activation="relu")),
    "in place": ("dense", Conv2dWorkload(1, 1, 70, 30, 1, 1)),
    "block": (
        "fused_block",
        Block(
            (
                Conv2dWorkload(6, 6, 8, 24, 1, 1, activation="relu6"),
                Conv2dWorkload(
                    6, 6, 24, 24, 3, 3, groups=24, pad_top=1, pad_bottom=1, pad_left=1, pad_right=1
                ),
                Conv2dWorkload(6, 6, 24, 8, 1, 1, residual=True),
            )
        ),
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_right_kernel_is_timed(measurer: Measurer, name: str) -> None:
    algorithm, workload = LAYERS[name]
    candidate = untuned(algorithm, workload)
    (outcome,) = measurer.measure(workload, [candidate])
    assert outcome.candidate == candidate
    assert outcome.error is None
    assert outcome.cost_kind == "measured"
    assert len(outcome.samples_s) == QUICK.repeat
    assert all(0 < sample < 1 for sample in outcome.samples_s)
