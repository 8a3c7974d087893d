"""Blocks of int8 in one kernel: each layer's rounding is that of the layer by itself."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schedules.algorithms import Unsupported
from schedules.layer.block import Block
from schedules.plan.plan import Plan
from schedules.plan.planner import Limits, plan_kernel
from schedules.target.simd import PRESETS, Simd
from scripts.board.board import Board
from tests.schedules.algorithms.fused_block.test_fused_block import (
    depthwise_block,
    inverted_residual,
    stem,
)
from tests.schedules.algorithms.test_algorithms import HOST, RUNNABLE
from tests.support.blocks import one_memory
from tests.support.kernels import HostKernel, run_on_board
from tests.support.quantised import QuantisedCase


def of_integers(block: Block, rounding: str = "xnn_fp32") -> Block:
    """The same block of int8."""
    types = {"dtype": "int8", "weight_dtype": "int8", "rounding": rounding}
    return Block(tuple(replace(layer, **types) for layer in block.layers))  # type: ignore[arg-type]


#: Each with what it is there for, and knobs that differ from the defaults.
BLOCKS: dict[str, tuple[Block, dict[str, Any]]] = {
    "whole_strips": (of_integers(inverted_residual(16, (8, 48, 16))), {}),
    "rolling": (
        of_integers(inverted_residual((11, 9), (16, 32, 24))),
        {"strip_rows": 6, "row_block": 2},
    ),
    "stride": (of_integers(inverted_residual(17, (12, 40, 20), stride=2)), {}),
    "odd_ends": (of_integers(inverted_residual((15, 13), (9, 36, 11))), {}),
    "large_kernel": (of_integers(inverted_residual((13, 12), (8, 32, 24), 5)), {}),
    "batch": (of_integers(inverted_residual(9, (6, 20, 6), batch=2)), {}),
    "valid": (of_integers(inverted_residual(12, (8, 24, 8), 3, "VALID")), {}),
    "two_layers": (of_integers(depthwise_block((14, 13), (36, 18), activation="relu")), {}),
    "first_layers": (of_integers(stem((19, 17), (3, 16, 16))), {}),
    "single_products": (of_integers(inverted_residual(9, (8, 32, 8))), {"products": "single"}),
    "residual": (of_integers(inverted_residual((11, 9), (12, 48, 12), residual=True)), {}),
    "another_rule": (of_integers(inverted_residual(9, (8, 24, 8)), "double"), {}),
}


@dataclass(frozen=True)
class QuantisedBlock:
    """A case for each layer, each of which reads what comes out of the one before."""

    cases: tuple[QuantisedCase, ...]
    groups: int = 1

    @classmethod
    def random(cls, plan: Plan, simd: Simd) -> QuantisedBlock:
        cases: list[QuantisedCase] = []
        least = -127 if any(part.adds_pairs for part in plan.parts) else -128
        for number, layer in enumerate(plan.layers):
            zeros = (-128, 3, 127)[number], 5 - number
            case = QuantisedCase.random(layer, simd, number, *zeros, least)
            if cases:
                before = cases[-1]
                case = replace(
                    case, x=before.expected, input_scale=before.output_scale,
                    input_zero=before.output_zero,
                    output_scale=np.float32(case.output_scale * before.output_scale / 0.05),
                )  # fmt: skip
            cases.append(case)
        return cls(tuple(cases))

    @property
    def x(self) -> np.ndarray:
        return self.cases[0].x

    @property
    def expected(self) -> np.ndarray:
        return self.cases[-1].expected

    def arguments(self, plan: Plan) -> dict[str, np.ndarray]:
        of_layers = [
            {**case.arguments(replace(plan, parts=(part,))), "b": case.constants(part)}
            for case, part in zip(self.cases, plan.parts, strict=True)
        ]
        w, b = (one_memory([given[key] for given in of_layers]) for key in "wb")
        given = {"x": self.x, "w": w, "b": b}
        residual = self.cases[-1].residual
        return given if residual is None else {**given, "r": residual}

    def check(self, y: np.ndarray) -> None:
        self.cases[-1].check(y)


def plan_of(name: str, simd: Simd) -> Plan:
    block, knobs = BLOCKS[name]
    named = "".join(f":{knob}={value}" for knob, value in knobs.items())
    return plan_kernel(block, simd, f"fused_block{named}")


@pytest.mark.parametrize("simd", RUNNABLE, ids=lambda simd: str(simd.name))
def test_is_exact_in_exactly_its_workspace(simd: Simd, tmp_path: Path) -> None:
    for name in BLOCKS:
        plan, folder = plan_of(name, simd), tmp_path / name
        folder.mkdir()
        kernel = HostKernel(plan, simd, folder)
        assert kernel.kernel.workspace_bytes == plan.workspace_bytes
        case = QuantisedBlock.random(plan, simd)
        case.check(kernel(case, threads=2, pieces=3))


@pytest.mark.parametrize("cpu", ["cortex-a53", "cortex-a76"])
def test_is_exact_on_the_board(cpu: str, arm_board: Board, tmp_path: Path) -> None:
    simd = PRESETS[cpu]
    plans = {name: plan_of(name, simd) for name in BLOCKS}
    cases = {name: QuantisedBlock.random(plan, simd) for name, plan in plans.items()}
    for name, y in run_on_board(cpu, plans, cases, tmp_path).items():
        cases[name].check(y)


def test_products_are_paired_where_weights_allow_it() -> None:
    block, simd = BLOCKS["whole_strips"][0], PRESETS["cortex-a76"]
    assert plan_kernel(block, simd).knobs["products"] == "paired"
    assert plan_kernel(block, simd, limits=Limits(adds_pairs=False)).knobs["products"] == "single"


def test_what_is_no_block_of_integers_is_refused() -> None:
    with pytest.raises(Unsupported, match="fill up no words"):
        plan_kernel(of_integers(inverted_residual(9, (8, 18, 8))), HOST, "fused_block")
    block = of_integers(inverted_residual(9, (8, 16, 8), residual=True), "single")
    with pytest.raises(Unsupported, match="sums of two quantised tensors are not"):
        plan_kernel(block, HOST, "fused_block")
