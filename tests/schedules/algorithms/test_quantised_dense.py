"""Matrices of few rows of int8, whose weights are read where the model has them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from schedules.lower.c_abi import assembly
from schedules.plan.planner import plan_kernel
from schedules.target.simd import PRESETS, Simd
from scripts.board.board import Board
from tests.schedules.algorithms.test_quantised import RUNNABLE, ZEROS, case_of, layer
from tests.support.kernels import HostKernel, run_on_board

LAYERS = {
    "whole_lines": replace(layer(1, (256, 40), 1), in_width=1),
    "a_word_behind_the_last_line": replace(layer(1, (1028, 10), 1, activation="relu"), in_width=1),
    "three_rows": layer(1, (64, 17), 1),
    "part_of_a_line": replace(layer(1, (36, 6), 1), in_width=1),
    "of_another_rule": replace(layer(1, (64, 16), 1), in_width=1, rounding="double_up"),
}


@pytest.mark.parametrize("simd", RUNNABLE, ids=lambda simd: str(simd.name))
@pytest.mark.parametrize("name", LAYERS)
def test_dot_products_in_place_are_exact(name: str, simd: Simd, tmp_path: Path) -> None:
    plan = plan_kernel(LAYERS[name], simd, "dense:weights=in_place")
    assert plan.held_bytes == 0
    kernel = HostKernel(plan, simd, tmp_path)
    for zeros in ZEROS:
        case = case_of(LAYERS[name], simd, zeros)
        case.check(kernel(case))


def test_they_are_exact_on_the_board(arm_board: Board, tmp_path: Path) -> None:
    simd = PRESETS["cortex-a76"]
    plans = {n: plan_kernel(w, simd, "dense:weights=in_place") for n, w in LAYERS.items()}
    cases = {name: case_of(plan.layer, simd, ZEROS[0]) for name, plan in plans.items()}
    outputs = run_on_board("cortex-a76", plans, cases, tmp_path)
    for name, case in cases.items():
        case.check(outputs[name])


def test_words_are_loaded_side_by_side() -> None:
    simd = PRESETS["cortex-a76"]
    plan = plan_kernel(LAYERS["whole_lines"], simd, "dense:weights=in_place")
    code = assembly(plan.schedule(simd), simd)
    assert "\tldrb\t" not in code
    assert code.count("\tsdot\t") >= 8
