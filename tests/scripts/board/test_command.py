"""The command of the emulated board: what it prints, its exit statuses, and every error line."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from scripts.board.board import Board
from scripts.board.command import main
from scripts.board.count import INSTRUCTION_CLASSES
from scripts.board.cpus import CPUS
from scripts.board.packages import this_host, wanted
from tests.scripts.board.conftest import ErrorLine


def test_count_command(
    arm_board: Board,
    trained_models: Path,
    delegate: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    model = trained_models / "dscnn_int8.tflite"
    written = tmp_path / "rows.json"
    options = ["--delegate", str(delegate), "--delegate-options", "memory:64k;algorithm:mec"]
    arguments = ["count", "--cpu", "cortex-a55", "--json", str(written), str(model), *options]
    assert main(arguments) == 0
    shown = capfd.readouterr().out
    rows = {row["kernels"]: row for row in json.loads(written.read_text())}
    assert list(rows) == ["xnnpack", "builtin", "delegate"]
    for row in rows.values():
        assert row["cpu"] == "cortex-a55"
        assert row["total"] == sum(row[name] for name in INSTRUCTION_CLASSES) > 500_000
        assert f"{row['total']:,}" in shown
        assert f"{row['v_ld_bytes']:,}" in shown
    assert rows["builtin"]["max_abs_difference"] == 0
    # A delegate that takes nothing leaves everything to XNNPACK.
    assert rows["delegate"]["v_int"] == rows["xnnpack"]["v_int"]
    assert rows["delegate"]["max_abs_difference"] == rows["xnnpack"]["max_abs_difference"]
    assert rows["delegate"]["report"] == {"memory": "64k", "algorithm": "mec"}
    assert rows["xnnpack"]["report"] is None
    assert delegate.name in shown
    flat = " ".join(shown.split())
    assert "on an emulated cortex-a55: a count is not a latency" in flat
    assert CPUS["cortex-a55"].note in flat


def test_count_without_xnnpack(
    arm_board: Board, trained_models: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model, written = trained_models / "dscnn_int8.tflite", tmp_path / "rows.json"
    assert main(["count", str(model), "--builtin", "--json", str(written)]) == 0
    (row,) = json.loads(written.read_text())
    assert row["kernels"] == "builtin"
    assert "XNNPACK" not in capfd.readouterr().out


def test_run_command(arm_board: Board, program: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--cpu", "cortex-a53", str(program), "--cpu"]) == 3
    assert capfd.readouterr().out == "aarch64 [--cpu]\n"
    assert main(["run", str(program), "--", "ends by a signal"]) == 128 + 15
    assert capfd.readouterr().out == "aarch64 [--] [ends by a signal]\n"


def test_run_gives_what_the_program_wrote(arm_board: Board, program: Path) -> None:
    outcome = arm_board.run([program, "x"], "neoverse-n1", capture_output=True)
    assert (outcome.returncode, outcome.stdout) == (3, "aarch64 [x]\n")


def test_python_command(
    arm_board: Board,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    # This machine's modules are not for the board's Python.
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "numpy.py").write_text("raise SystemExit(9)")
    script = tmp_path / "script" / "script.py"
    script.parent.mkdir()
    script.write_text(
        "import json, platform, subprocess, sys, numpy, ai_edge_litert, tvm\n"
        "child = [sys.executable, '-c', 'import platform; print(platform.machine())']\n"
        "print(json.dumps([platform.machine(), sys.version_info[:2], numpy.__version__,\n"
        "    tvm.__version__, sys.argv[1:], subprocess.check_output(child, text=True)]))\n"
        "sys.exit(5)\n"
    )
    assert main(["python", "--cpu", "cortex-a76", str(script), "-a", "b"]) == 5
    machine, version, numpy, tvm, arguments, child = json.loads(capfd.readouterr().out)
    assert (machine, version, child) == ("aarch64", [3, 11], "aarch64\n")
    assert (tvm, arguments) == ("0.27.0.post1", ["-a", "b"])
    assert f"numpy=={numpy}" in wanted(this_host())["python"] or sys.version_info[:2] != (3, 11)
    assert main(["python", "--", "-c", "print(6 * 7)"]) == 0
    assert capfd.readouterr().out == "42\n"


@pytest.mark.parametrize("command", ["run", "python", "count"])
def test_unknown_cpu(command: str, error_line: ErrorLine) -> None:
    line = error_line([command, "--cpu", "cortex-m4", "file"])
    assert line == f"unknown CPU 'cortex-m4'; the board has {', '.join(CPUS)}"


@pytest.mark.parametrize(
    ("command", "message"),
    [("run", "program"), ("python", "script"), ("count", "model")],
)
def test_missing_file(arm_board: Board, command: str, message: str, error_line: ErrorLine) -> None:
    assert error_line([command, "no/such"]) == f"there is no {message} no/such"


def test_no_program(error_line: ErrorLine) -> None:
    assert error_line(["run"]) == "run what? Its first argument is missing"


def test_program_of_another_machine(arm_board: Board, error_line: ErrorLine) -> None:
    script = Path(__file__)
    assert error_line(["run", script]) == f"{script} is not a program for aarch64 Linux"


def test_corrupt_model(
    arm_board: Board, trained_models: Path, tmp_path: Path, error_line: ErrorLine
) -> None:
    whole = (trained_models / "dscnn_int8.tflite").read_bytes()
    model = tmp_path / "model.tflite"
    model.write_bytes(whole[: len(whole) // 2])
    line = error_line(["count", model])
    assert line.startswith(f"LiteRT cannot load the model {model}: ")


def test_unusable_delegates(arm_board: Board, trained_models: Path, error_line: ErrorLine) -> None:
    count: list[str | Path] = ["count", "--builtin", trained_models / "dscnn_int8.tflite"]
    assert error_line([*count, "--delegate", "no.so"]) == "there is no delegate no.so"
    foreign = [*count, "--delegate", __file__]
    assert error_line(foreign) == f"{__file__} is not a delegate for aarch64 Linux"


def test_unwritable_json(
    arm_board: Board, trained_models: Path, tmp_path: Path, error_line: ErrorLine
) -> None:
    target = tmp_path / "no" / "rows.json"
    model = trained_models / "dscnn_int8.tflite"
    line = error_line(["count", model, "--json", target])
    assert line == f"cannot write {target}: there is no folder {target.parent}"


def test_board_that_is_not_set_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error_line: ErrorLine
) -> None:
    monkeypatch.setenv("LEANCONV_BOARD", str(tmp_path / "none"))
    for command in ("run", "count"):
        line = error_line([command, "file"])
        assert line == "the emulated board is not set up; run python -m scripts.board setup"
