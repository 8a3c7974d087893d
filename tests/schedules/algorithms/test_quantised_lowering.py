"""Layers of int8 whose patches or sums are stored: exact, and the bytes of the compiled kernel."""

from __future__ import annotations

from pathlib import Path

import pytest

from schedules.algorithms import Unsupported
from schedules.layer.words import patch_bytes
from schedules.plan.plan import Plan
from schedules.plan.planner import plan_kernel
from schedules.target.simd import PRESETS, Simd
from scripts.board.board import Board
from tests.schedules.algorithms.test_quantised import HOST, LAYERS, RUNNABLE, ZEROS, case_of, layer
from tests.support.kernels import HostKernel, run_on_board
from tests.support.turns import TURNS, of_turn

#: Whole words and others, a last word of one byte, several images, holes in the kernel.
STORED = {
    **{
        name: LAYERS[name]
        for name in ("whole_words", "one_byte_in_the_last_word", "first_layer", "unpadded")
    },
    "one_channel": LAYERS["one_channel_of_five_columns"],
    "dilated": LAYERS["dilated"],
    "two_groups": layer(7, (12, 20), 3, groups=2, batch=2).one_group(),
}
BOARDS = ("cortex-a53", "cortex-a76")
ALGORITHMS = ("im2col", "im2col_tiled", "mec", "mec_strip", "kn2row_aa")
#: Layers of several images also in the order of MEC's first solution.
PLANNED = [(name, algorithm) for name in STORED for algorithm in ALGORITHMS] + [
    ("one_byte_in_the_last_word", "mec:solution=A"),
    ("two_groups", "mec:solution=A"),
]


@TURNS
@pytest.mark.parametrize("simd", RUNNABLE, ids=lambda simd: str(simd.name))
def test_is_exact_in_exactly_its_workspace(simd: Simd, turns: bool, tmp_path: Path) -> None:
    for number, (name, algorithm) in enumerate(of_turn(PLANNED, simd, RUNNABLE, turns)):
        plan = plan_kernel(STORED[name], simd, algorithm)
        case = case_of(STORED[name], simd, ZEROS[number % 3])
        folder = tmp_path / str(number)
        folder.mkdir()
        kernel = HostKernel(plan, simd, folder)
        assert kernel.kernel.workspace_bytes == plan.workspace_bytes > 0
        # Threads, each with a part of every stage.
        case.check(kernel(case, threads=2, pieces=3))


@TURNS
@pytest.mark.parametrize("cpu", BOARDS)
def test_is_exact_on_the_board(cpu: str, turns: bool, arm_board: Board, tmp_path: Path) -> None:
    simd = PRESETS[cpu]
    plans: dict[str, Plan] = {
        f"{name} {algorithm}": plan_kernel(STORED[name], simd, algorithm)
        for name, algorithm in of_turn(PLANNED, cpu, BOARDS, turns)
    }
    if cpu == "cortex-a53":
        whole = STORED["whole_words"]
        plans |= {
            f"whole_words {algorithm}:weights=spread": plan_kernel(
                whole, simd, f"{algorithm}:weights=spread"
            )
            for algorithm in ALGORITHMS[:4]  # which have sums of whole patches
        }
    cases = {
        key: case_of(STORED[key.split(" ")[0]], simd, ZEROS[number % 3])
        for number, key in enumerate(plans)
    }
    for key, y in run_on_board(cpu, plans, cases, tmp_path).items():
        cases[key].check(y)


def test_patches_take_a_quarter_of_the_bytes_of_floats() -> None:
    whole, odd = layer(14, (64, 32), 3), layer(14, (13, 32), 3)
    # 4 bytes a word; of 13 channels the fourth word is filled up.
    assert patch_bytes(whole) == 9 * 64
    assert patch_bytes(odd) == 9 * 16
    assert patch_bytes(LAYERS["first_layer"]) == 3 * 12
    assert plan_kernel(whole, HOST, "im2col").workspace_bytes == 14 * 16 * 9 * 64


def test_first_solution_of_mec_has_no_spread_sums() -> None:
    batch = layer(8, (16, 16), 3, batch=2)
    with pytest.raises(Unsupported, match="not spread"):
        plan_kernel(batch, PRESETS["cortex-a53"], "mec:solution=A:weights=spread")
