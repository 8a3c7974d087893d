"""Kernels of hybrid layers against numpy functions of their rules: every element is the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schedules.algorithms import Unsupported
from schedules.layer.rounding import DYNAMIC_ROUNDINGS
from schedules.layer.workload import Conv2dWorkload
from schedules.plan.choice import Choice
from schedules.plan.plan import Plan
from schedules.plan.planner import plan_kernel
from schedules.target.simd import PRESETS, Simd
from tests.support.hybrid import RULES, HybridCase
from tests.support.kernels import HostKernel, run_on_board
from tests.support.turns import TURNS, of_turn

HOST = Simd.named("host")


def layer(size: int, channels: tuple[int, int], kernel: int, rule: str, **more: Any) -> Any:
    """A hybrid workload in few words."""
    return Conv2dWorkload.with_padding(
        "SAME", in_height=size, in_width=size + 2, in_channels=channels[0],
        out_channels=channels[1], kernel_height=kernel, kernel_width=kernel, weight_dtype="int8",
        rounding=rule, **more,
    )  # fmt: skip


#: Every rule, with images whose rows are no whole vectors, of several images, at borders.
LAYERS = {
    "xnn_qd8_fused": layer(9, (16, 40), 3, "xnn_qd8_fused", activation="relu6"),
    "xnn_qd8": layer(9, (3, 33), 3, "xnn_qd8", batch=2, residual=True, stride_height=2),
    "xnn_qd8_fused_rows": layer(7, (20, 24), 1, "xnn_qd8_fused_rows", batch=2),
    "xnn_qp8": Conv2dWorkload(1, 3, 70, 35, 1, 1, weight_dtype="int8", rounding="xnn_qp8"),
    "builtin_depthwise": layer(
        9, (22, 22), 3, "builtin_depthwise", groups=22, activation="relu", batch=2
    ),
    "builtin_asymmetric": layer(9, (24, 24), 3, "builtin_asymmetric", groups=24),
    "builtin_symmetric": layer(7, (20, 24), 1, "builtin_symmetric", batch=2),
    "builtin_asymmetric_rows": layer(5, (17, 9), 1, "builtin_asymmetric_rows"),
    "builtin_symmetric_rows": layer(5, (64, 32), 1, "builtin_symmetric_rows"),
    "builtin_asymmetric_rows_fused": layer(4, (40, 5), 1, "builtin_asymmetric_rows_fused"),
    "builtin_symmetric_rows_fused": layer(4, (12, 16), 1, "builtin_symmetric_rows_fused"),
    "reference_asymmetric": layer(6, (5, 18), 3, "reference_asymmetric"),
}


def plan_of(workload: Conv2dWorkload, simd: Simd) -> Plan:
    algorithm = "depthwise" if workload.is_depthwise else "indirect"
    return Plan.of(Choice.of(algorithm, {}), workload, simd)


def test_every_rule_has_a_layer_here() -> None:
    assert set(DYNAMIC_ROUNDINGS) == set(LAYERS) == set(RULES)


@pytest.mark.parametrize("rule", LAYERS)
def test_is_exact(rule: str, tmp_path: Path) -> None:
    kernel = HostKernel(plan_of(LAYERS[rule], HOST), HOST, tmp_path)
    assert kernel.kernel.workspace_bytes == kernel.plan.workspace_bytes
    for seed in range(3):
        case = HybridCase.random(LAYERS[rule], seed)
        case.check(kernel(case))
    case.check(kernel(case, threads=2, pieces=5))
    nothing = replace(case, x=np.zeros_like(case.x))
    nothing.check(kernel(nothing))


BOARDS = ("cortex-a53", "cortex-a76")


@TURNS
@pytest.mark.parametrize("cpu", BOARDS)
def test_is_exact_on_arm(cpu: str, turns: bool, tmp_path: Path) -> None:
    simd, rules = PRESETS[cpu], of_turn(LAYERS, cpu, BOARDS, turns)
    plans = {rule: plan_of(LAYERS[rule], simd) for rule in rules}
    cases = {
        rule: HybridCase.random(LAYERS[rule], seed, arm=True) for seed, rule in enumerate(rules)
    }
    outputs = run_on_board(cpu, plans, cases, tmp_path)
    for rule, case in cases.items():
        case.check(outputs[rule])


def test_other_algorithms_leave_them_alone() -> None:
    with pytest.raises(Unsupported, match="dynamic int8 with int8 weights"):
        Plan.of(Choice.of("im2col", {}), LAYERS["xnn_qd8"], HOST)


def test_text_names_the_rule() -> None:
    workload = LAYERS["xnn_qd8_fused_rows"]
    assert Conv2dWorkload.from_text(workload.to_text()) == workload
    assert workload.describe().endswith("int8 weights xnn_qd8_fused_rows")


def test_sums_are_spread_over_lanes_without_dot_products() -> None:
    plan = plan_kernel(layer(9, (16, 40), 3, "xnn_qd8_fused"), PRESETS["cortex-a53"])
    assert plan.knobs["weights"] == "spread"
