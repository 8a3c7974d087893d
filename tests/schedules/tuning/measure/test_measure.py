"""Candidates of tiny layers, from plan to samples, on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from schedules.errors import LeanconvError
from schedules.layer.block import Block, Workload
from schedules.layer.workload import Conv2dWorkload
from schedules.lower.kernel import CKernel
from schedules.plan.choice import Choice
from schedules.plan.plan import Plan
from schedules.target.simd import Simd
from schedules.tuning.boards.base import PROGRAM, Batch, Runner
from schedules.tuning.boards.local import LocalRunner
from schedules.tuning.measure import measure
from schedules.tuning.measure.measure import Measurer
from schedules.tuning.measure.program import Compiled
from schedules.tuning.measure.settings import Settings

HOST = Simd.named("host")
QUICK = Settings(number=2, repeat=2, min_repeat_ms=0.1)


@pytest.fixture(scope="module")
def measurer() -> Iterator[Measurer]:
    with Measurer(HOST, LocalRunner(), QUICK, jobs=2) as measurer:
        yield measurer


def untuned(algorithm: str, workload: Workload) -> Choice:
    return Plan.of(Choice(algorithm), workload, HOST).choice


INT8: dict[str, Any] = {"dtype": "int8", "weight_dtype": "int8", "rounding": "xnn_fp32"}
BYTES: dict[str, Any] = {"weight_dtype": "int8"}
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
    "int8": ("indirect", replace(SMALL, **INT8, residual=True, output_activation="relu")),
    "int8, one group": ("indirect", replace(SMALL, **INT8, group_of=3)),
    "int8, in place": ("dense", Conv2dWorkload(1, 1, 72, 30, 1, 1, **INT8)),
    "int8, depthwise": ("depthwise", replace(DEPTHWISE, **INT8, activation="relu6")),
    "hybrid": ("indirect", replace(SMALL, **BYTES, rounding="xnn_qd8_fused", residual=True)),
    "hybrid, rows": ("dense", Conv2dWorkload(1, 3, 70, 30, 1, 1, **BYTES, rounding="xnn_qp8")),
    "hybrid, depthwise": ("depthwise", replace(DEPTHWISE, **BYTES, rounding="builtin_depthwise")),
    "weights of int8": ("indirect", replace(SMALL, **BYTES)),
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


class FakeBoards(Runner):
    """Boards that say what they are told to; a batch each."""

    name = "fake"

    def __init__(self, count: int, lines: Sequence[dict[str, Any]]) -> None:
        self.count = count
        self.lines = lines
        self.batches = 0

    def boards(self) -> int:
        return self.count

    def run(self, batch: Batch) -> Sequence[dict[str, Any]]:
        assert (batch.folder / PROGRAM).is_file()
        self.batches += 1
        return self.lines


def test_outcomes_come_in_order(measurer: Measurer) -> None:
    good, other = untuned("im2col", SMALL), untuned("kn2row", SMALL)
    unfit = Choice("im2col", (("panel", 7),))
    first, second, third, again = measurer.measure(SMALL, [good, unfit, other, good], QUICK)
    assert [first.candidate, second.candidate, third.candidate] == [good, unfit, other]
    assert second.samples_s == ()
    assert second.error is not None
    assert second.error.startswith("im2col has no panel = 7: one of ")
    assert len(second.error) <= 80
    assert first.error is third.error is again.error is None


def test_no_files_are_left(measurer: Measurer) -> None:
    measurer.measure(SMALL, [untuned("im2col", SMALL)])
    assert not list(measurer._root.glob("batch-*"))
    with Measurer(HOST, LocalRunner(), QUICK) as other:
        root = other._root
        assert root.is_dir()
    assert not root.exists()


def test_tensors_of_other_workloads_make_room(
    measurer: Measurer, monkeypatch: pytest.MonkeyPatch
) -> None:
    measurer.measure(DEPTHWISE, [untuned("depthwise", DEPTHWISE)])
    monkeypatch.setattr(measure, "TENSOR_BYTES", 0)
    for _ in range(2):  # written, and written again
        (outcome,) = measurer.measure(SMALL, [untuned("im2col", SMALL)])
        assert outcome.error is None
        assert list(measurer._tensors) == [SMALL]
        assert len(list(measurer._root.glob("tensors-*"))) == 1


def test_boards_share_the_candidates(measurer: Measurer, monkeypatch: pytest.MonkeyPatch) -> None:
    line = {"kernel": 0, "samples_s": [2.0], "error": None, "cost_kind": "modelled"}
    boards = FakeBoards(2, [line, {"done": True}])
    candidates = [untuned(name, SMALL) for name in ("im2col", "kn2row", "direct")]
    monkeypatch.setattr(measurer, "runner", boards)
    outcomes = measurer.measure(SMALL, candidates)
    assert boards.batches == 2
    assert sorted(len(outcome.samples_s) for outcome in outcomes) == [0, 1, 1]
    for outcome in outcomes:
        if outcome.samples_s:
            assert outcome.cost_kind == "modelled"
        else:
            assert outcome.error == "the program ended before it was measured"


def test_heavy_kernels_run_in_programs_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    choices = [Choice("im2col"), *(Choice("winograd", (("outputs", m),)) for m in (2, 4))]
    plans = [Plan.of(choice, SMALL, HOST) for choice in choices]
    kernel = CKernel("kernel", (), ())
    built = {f"{i}": Compiled(plans[i % 3], kernel, b"") for i in range(9)}

    def batches(boards: int) -> list[str]:
        return list(map("".join, measure._batches(built, boards)))

    assert batches(boards=1) == ["036147258"]
    monkeypatch.setattr(measure, "BATCH_BYTES", 0)
    assert batches(boards=1) == ["036", "147", "258"]
    assert batches(boards=5) == ["03", "6", "14", "7", "25", "8"]


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        ([], "does not run on the board"),
        ([{"board": {"cpu": "x", "arch": "riscv64", "features": []}}], "is riscv64, and .* is "),
        (
            [{"board": {"cpu": "x", "arch": "aarch64", "features": ["asimd", "asimdhp"]}}],
            r"the board \(x\) lacks asimddp, which cortex-a76 has; name its own target",
        ),
    ],
)
def test_a_board_that_does_not_fit(
    measurer: Measurer, monkeypatch: pytest.MonkeyPatch, lines: list[dict[str, Any]], error: str
) -> None:
    monkeypatch.setattr(measurer, "runner", FakeBoards(1, lines))
    monkeypatch.setattr(measurer, "simd", Simd.named("cortex-a76"))
    with pytest.raises(LeanconvError, match=error):
        measurer.probe()


def test_this_machine_fits(measurer: Measurer) -> None:
    board = measurer.probe()
    assert board["arch"] == HOST.arch
    assert board["cores"] == len(os.sched_getaffinity(0))
    assert board["memory_bytes"] > 2**28
    assert board["cpu"]
    assert board["os"].startswith("Linux ")


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
