"""The untuned candidate, found again from nothing but records."""

from __future__ import annotations

from dataclasses import replace

import pytest

from schedules.layer.block import Block
from schedules.plan.planner import plan_kernel
from schedules.target.simd import PRESETS, Simd
from schedules.tuning.records.record import Record
from schedules.tuning.records.task import tuning_target
from schedules.tuning.records.untuned import untuned_record
from tests.schedules.layer.test_block import DEPTHWISE, EXPAND, PROJECT
from tests.support.records import LAYER, record


def untuned(simd: Simd) -> Record:
    return record(candidate=plan_kernel(LAYER, simd).choice, target=tuning_target(simd))


def test_what_the_planner_takes() -> None:
    simd = PRESETS["cortex-a76"]
    plan = plan_kernel(LAYER, simd)
    candidate = plan_kernel(LAYER, simd).choice
    assert (candidate.algorithm, candidate.knobs) == (plan.algorithm, plan.knobs)
    block = Block((EXPAND, DEPTHWISE, PROJECT))
    assert plan_kernel(block, simd).choice.knobs == plan_kernel(block, simd).knobs


@pytest.mark.parametrize(
    "simd",
    [
        Simd.named("host"),
        PRESETS["cortex-a76"],
        PRESETS["cortex-a76-android"],
        Simd.named("llvm -mtriple=aarch64-linux-gnu -mcpu=neoverse-n2 -mattr=+dotprod,+i8mm"),
        Simd.named("llvm -mtriple=x86_64-linux-gnu -mcpu=znver3"),
    ],
    ids=lambda simd: simd.name,
)
def test_found_among_others(simd: Simd) -> None:
    default = untuned(simd)
    other = replace(record(columns=99), target=default.target)
    assert untuned_record([other, default]) == default
    assert untuned_record([other]) is None


def test_an_unknown_target_has_no_default() -> None:
    assert untuned_record([record(target="z80")]) is None
