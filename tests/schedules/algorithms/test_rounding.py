"""Kernels of every rounding rule, for int8 and uint8, against sums in 64 bits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from schedules.layer.rounding import ROUNDINGS
from schedules.layer.workload import Conv2dWorkload
from schedules.plan.plan import Plan
from schedules.plan.planner import plan_kernel
from schedules.target.simd import PRESETS, Simd
from scripts.board.board import Board
from tests.schedules.algorithms.test_quantised import RUNNABLE, layer
from tests.support.kernels import HostKernel, run_on_board
from tests.support.quantised import QuantisedCase

#: Few outputs, whole vectors and tails of channels; words that are full and that are not.
CONV, FIRST = layer(5, (16, 19), 3, activation="relu6"), layer(7, (3, 21), 3, stride=2)
DEPTHWISE = layer(5, (19, 19), 3, groups=19)
ZEROS = ((3, -7), (-128, 11), (127, -128))
#: Other targets that this machine runs take as long again.
HOST_FIRST = [
    pytest.param(simd, id=str(simd.name), marks=[pytest.mark.slow] * (number > 0))
    for number, simd in enumerate(RUNNABLE)
]


def workloads() -> dict[str, Conv2dWorkload]:
    """One layer for each rule, of both types by turns, and some for uint8 alone."""
    found = {}
    for number, rule in enumerate(ROUNDINGS):
        base = DEPTHWISE if rule == "depthwise_int8" or number % 4 > 1 else CONV
        dtype = ("uint8", "int8")[number % 2]
        found[rule] = as_type(base, dtype, rule)
    more = {
        "first_layer": FIRST,
        "wide": layer(4, (64, 72), 1),
        "panels_outermost": layer(7, (128, 256), 1),
        "dilated": layer(9, (12, 16), 3, dilation=2, batch=2),
        "depthwise_twice": layer(7, (8, 16), 5, groups=8),
    }
    unsigned = {name: as_type(base, "uint8", base.rounding) for name, base in more.items()}
    return {**found, **unsigned}


def as_type(base: Conv2dWorkload, dtype: str, rule: str) -> Conv2dWorkload:
    return replace(base, dtype=dtype, weight_dtype=dtype, rounding=rule)


def plans_for(simd: Simd) -> dict[str, Plan]:
    return {
        name: plan_kernel(w, simd, "depthwise" if w.is_depthwise else "indirect")
        for name, w in workloads().items()
    }


def case_of(plan: Plan, simd: Simd, number: int, ties: bool) -> QuantisedCase:
    least = -127 if plan.packed.adds_pairs else -128
    return QuantisedCase.random(plan.layer, simd, number, *ZEROS[number % 3], least, ties)


@pytest.mark.parametrize("simd", HOST_FIRST)
def test_rules_are_exact(simd: Simd, tmp_path: Path) -> None:
    for number, (name, plan) in enumerate(plans_for(simd).items()):
        folder = tmp_path / name
        folder.mkdir()
        kernel = HostKernel(plan, simd, folder)
        for ties in (False, True):
            case = case_of(plan, simd, number, ties)
            case.check(kernel(case))


@pytest.mark.parametrize("cpu", ["cortex-a76", pytest.param("cortex-a53", marks=pytest.mark.slow)])
def test_rules_are_exact_on_the_board(cpu: str, arm_board: Board, tmp_path: Path) -> None:
    simd = PRESETS[cpu]
    plans = plans_for(simd)
    for ties in (False, True):
        cases = {
            name: case_of(plan, simd, number, ties)
            for number, (name, plan) in enumerate(plans.items())
        }
        outputs = run_on_board(cpu, plans, cases, tmp_path)
        for name, case in cases.items():
            case.check(outputs[name])
