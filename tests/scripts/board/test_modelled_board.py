"""The board of modelled times: known counts, the ranking of real kernels, and every error line."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from schedules.layer.workload import Conv2dWorkload
from schedules.plan.choice import Choice
from schedules.target.simd import PRESETS
from schedules.target.toolchain import Toolchain
from schedules.tuning.boards.command import CommandRunner
from schedules.tuning.measure.measure import Measurer
from schedules.tuning.measure.settings import Settings
from schedules.tuning.records.record import MODELLED
from scripts.board import modelled_board
from scripts.processes import module_command, module_environment

CPU = "cortex-a76"
SOURCE = Path(__file__).with_name("modelled_kernels.c")
LINE_BYTES = 64


pytestmark = pytest.mark.usefixtures("arm_board")


def build(folder: Path, defines: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "measure.c").write_text(defines + SOURCE.read_text())
    toolchain, simd = Toolchain.default(), PRESETS[CPU]
    objects = toolchain.compile_objects(folder, ["measure.c"], simd)
    toolchain.link_program(folder, objects, folder / "measure", simd)
    return folder / "measure"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("batch"))


def run(capsys: pytest.CaptureFixture[str], program: Path, cpu: str = CPU) -> list[dict[str, Any]]:
    assert modelled_board.main(["--cpu", cpu, str(program)]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_known_kernels_have_known_counts(capsys: pytest.CaptureFixture[str], program: Path) -> None:
    first, *kernels, last = run(capsys, program)
    assert (first, last) == ({"board": {"cpu": "test", "cost_kind": MODELLED}}, {"done": True})
    one, eight, wrong, *reads = kernels
    assert wrong == {"kernel": 2, "samples_s": [], "error": "wrong: off by 1"}
    for kernel in (one, eight, *reads):
        assert kernel["error"] is None and kernel["cost_kind"] == MODELLED
    # Around the loops are a call and a return.
    for kernel in (one, eight):
        assert 10_000 < kernel["instructions"] < 10_010
        assert kernel["l1_misses"] == kernel["l2_misses"] == 0
    # Two cycles from one to the next, against two a cycle.
    assert one["samples_s"][0] / eight["samples_s"][0] == pytest.approx(4, rel=0.1)
    simd = PRESETS[CPU]
    for kernel, size in zip(reads, (2**14, 2**17, 2**20), strict=True):
        lines = size // LINE_BYTES
        assert 3 * lines < kernel["instructions"] < 3 * lines + 10
        # A stream through more than a cache finds nothing there; the stack is a line or two.
        for misses, cache in (("l1_misses", simd.l1_bytes), ("l2_misses", simd.l2_bytes)):
            assert 0 <= kernel[misses] - (lines if size > cache else 0) <= 2


def test_counts_depend_on_nothing_but_the_program(
    capsys: pytest.CaptureFixture[str],
    program: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = run(capsys, program)
    copy = tmp_path / "a folder of another name" / "measure"
    copy.parent.mkdir()
    copy.write_bytes(program.read_bytes())
    copy.chmod(0o755)
    monkeypatch.setenv("LEANCONV_TEST", "x" * 5000)
    assert run(capsys, copy) == before


def test_real_kernels_are_ranked(tmp_path: Path) -> None:
    """By the tuner's own program: a register tile that waits for itself, and one that does not."""
    path = f"PYTHONPATH={module_environment()['PYTHONPATH']}"
    command = ["env", path, *module_command("scripts.board.modelled_board", "--cpu", CPU)]
    runner = CommandRunner(shlex.join(command) + " {program}")
    layer = Conv2dWorkload(8, 8, 16, 16, 3, 3, activation="relu")
    order = "rows,columns,panels"
    candidates = [
        Choice("indirect", (("columns", c), ("panel", p), ("k_block", 4), ("order", order)))
        for c, p in ((6, 8), (1, 4))
    ]
    with Measurer(PRESETS[CPU], runner, Settings(), jobs=1) as measurer:
        assert measurer.probe()["cpu"] == "Cortex-A76"
        good, bad = measurer.measure(layer, candidates)
    for outcome in (good, bad):
        assert outcome.error is None and outcome.cost_kind == MODELLED
        assert len(outcome.samples_s) == 1
    assert 2 * good.samples_s[0] < bad.samples_s[0]


def test_what_ran_before_a_crash_is_reported(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    program = build(tmp_path / "crash", "#define CRASH\n")
    assert modelled_board.main(["--cpu", CPU, str(program)]) == 2
    output = capsys.readouterr()
    lines = [json.loads(line) for line in output.out.splitlines()]
    assert ["board" in lines[0], lines[1]["cost_kind"], len(lines)] == [True, MODELLED, 2]
    assert output.err.startswith(f"board.modelled_board: error: {program} was ended by signal 6")
    assert output.err.count("\n") == 1


def test_errors_are_one_line(
    capsys: pytest.CaptureFixture[str],
    program: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def error(path: Path, cpu: str = CPU) -> str:
        assert modelled_board.main(["--cpu", cpu, str(path)]) == 2
        output = capsys.readouterr()
        assert output.out == "" and output.err.count("\n") == 1
        return output.err

    unmarked = build(tmp_path / "unmarked", "#define NO_MARKERS\n")
    assert "there is no model of CPU 'cortex-a710'" in error(program, "cortex-a710")
    assert "there is no program" in error(tmp_path / "measure")
    assert "not a program for aarch64 Linux" in error(Path(sys.executable))
    assert "ran 5 kernels and marked 0 regions" in error(unmarked)
    monkeypatch.setenv("LEANCONV_BOARD", str(tmp_path / "none"))
    assert "not set up; run python -m scripts.board setup" in error(program)
