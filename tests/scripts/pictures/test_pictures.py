"""What the pictures show is what the code does, and the kept ones are those that would be drawn."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest

from schedules.layer.workload import Conv2dWorkload
from schedules.plan.planner import plan_kernel
from schedules.target.simd import Simd
from scripts.pictures import floors, workspaces
from scripts.pictures.__main__ import FOLDER, IDEAS, is_same, main

LAYER = Conv2dWorkload(
    in_height=workspaces.SIZE, in_width=workspaces.SIZE, in_channels=1, out_channels=1,
    kernel_height=workspaces.TAPS, kernel_width=workspaces.TAPS,
)  # fmt: skip


@pytest.mark.parametrize("row", workspaces.ROWS[:-1], ids=lambda row: row.name)
def test_workspaces_are_those_of_the_kernels(row: workspaces.Row) -> None:
    for algorithm in row.name.split(", "):
        plan = plan_kernel(LAYER, Simd.named("cortex-a76"), algorithm)
        assert plan.workspace_bytes == 4 * row.numbers


def test_winograds_workspace_is_the_papers() -> None:
    """n^2 P (C + M), of one tile and one channel."""
    assert workspaces.ROWS[-1].numbers == 4**2 * 1 * (1 + 1)


def test_the_matrices_times_the_kernel_are_the_convolution() -> None:
    kernel = np.arange(1, 10).reshape(3, 3)
    expected = [
        (workspaces.IMAGE[h : h + 3, w : w + 3] * kernel).sum() for h in (0, 1) for w in (0, 1)
    ]
    assert (workspaces.patch_matrix() @ kernel.ravel()).tolist() == expected
    compact = workspaces.compact_matrix()
    overlapping = [compact[w, 3 * h : 3 * h + 9] @ kernel.ravel() for h in (0, 1) for w in (0, 1)]
    assert overlapping == expected


def test_every_floor_is_described() -> None:
    assert floors.floors() == list(floors.HOLDS)


def test_kept_pictures_are_those_that_would_be_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check"]) == 0, capsys.readouterr().err
    for path in FOLDER.glob("*.svg"):
        ElementTree.parse(path)
        assert path.stat().st_size < 120_000


def test_a_change_is_seen() -> None:
    drawn = next(iter(IDEAS.values()))()
    assert is_same(drawn, drawn)
    assert not is_same(drawn, drawn.replace("model.tflite", "model.onnx"))
    older = drawn.replace("Matplotlib v", "Matplotlib v1")
    assert is_same(older, drawn) and not is_same(older.replace("model.tflite", "x"), drawn)
