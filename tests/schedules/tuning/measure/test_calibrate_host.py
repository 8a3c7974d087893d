"""This machine is measured once, by commands: what is kept, when it is not, what is said."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from schedules.errors import LeanconvError
from schedules.target.host import this_host
from schedules.target.simd import Simd
from schedules.target.toolchain import Toolchain
from schedules.tuning.measure import calibrate_host
from schedules.tuning.measure.calibrate_host import RETRY_SECONDS, host_calibration
from schedules.tuning.records.board_info import calibrated
from schedules.tuning.records.calibration import Bandwidth, Calibration
from schedules.tuning.records.host_figures import figures_path, read_figures
from tests.support.tflite_writer import Conv, single_conv
from tvmc.cli import main
from tvmc.tuning.host_figures import SWITCH

HOST = Simd.named("host")
BANDWIDTHS = {
    "l1": Bandwidth(1, 90e9, 90e9),
    "l3": Bandwidth(2, 20e9, 20e9),
    "memory": Bandwidth(3, 4e9, 4e9),
}
FIGURES = Calibration(2, 50e9, 1e-6, BANDWIDTHS)
#: Of a moment in which another process reads from memory too.
DISTURBED = replace(FIGURES, bandwidths={**BANDWIDTHS, "memory": Bandwidth(3, 3e9, 4e9)})


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Calibration]:
    """What the next measurements give, in a cache folder that is empty."""
    queue: list[Calibration] = []

    def take(*_: object, times: int) -> Iterator[tuple[dict[str, str], Calibration]]:
        return iter([({}, queue.pop(0)) for _ in range(times)])

    monkeypatch.setattr(f"{figures_path.__module__}.cache_folder", lambda name: tmp_path / name)
    monkeypatch.setattr(calibrate_host, "calibrations", take)
    return queue


def ask() -> tuple[Calibration | None, list[str]]:
    """The figures, and what was said."""
    said: list[str] = []
    return host_calibration(HOST, said.append, Toolchain.default()), said


def test_it_is_measured_once(measured: list[Calibration]) -> None:
    close = replace(FIGURES, macs=1.05 * FIGURES.macs)
    measured += [FIGURES, close]
    figures, said = ask()
    assert figures == close
    assert len(said) == 1 and "once" in said[0]
    assert ask() == (close, [])


def test_a_busy_machine_keeps_no_figures(measured: list[Calibration]) -> None:
    measured += [FIGURES, DISTURBED, FIGURES, FIGURES]
    figures, said = ask()
    assert figures is None
    assert len(said) == 2 and "twice, 33% apart" in said[1]
    assert ask() == (None, [])  # and not again by the next command
    path = figures_path(this_host())
    before = path.stat().st_mtime - RETRY_SECONDS - 1
    os.utime(path, (before, before))
    assert ask()[0] == FIGURES


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"calibration": 3}', '{"calibration": {}}'])
def test_a_torn_file_is_one_line(measured: list[Calibration], damage: str) -> None:
    path = figures_path(this_host())
    path.parent.mkdir()
    path.write_text(damage)
    with pytest.raises(LeanconvError, match="holds no figures"):
        read_figures(this_host())
    measured += [FIGURES, FIGURES]
    figures, said = ask()
    assert figures == FIGURES
    assert [line.rpartition(": ")[2] for line in said] == [
        "it is measured again", "once, some seconds",
    ]  # fmt: skip
    assert ask() == (FIGURES, [])


def test_a_machine_that_cannot_be_measured(
    measured: list[Calibration], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, times: int) -> None:
        raise LeanconvError("no compiler")

    monkeypatch.setattr(calibrate_host, "calibrations", fail)
    figures, said = ask()
    assert figures is None
    assert said[1] == "this machine is known by its table of cores only: no compiler"


def test_only_this_machine_asks(tmp_path: Path) -> None:
    asked: list[Simd] = []

    def figures(simd: Simd) -> Calibration:
        asked.append(simd)
        return FIGURES

    other = Simd.named("cortex-a76")
    assert calibrated(other, [], figures) == other
    assert not asked
    assert calibrated(HOST, [tmp_path], figures) == FIGURES.applied_to(HOST)
    assert calibrated(HOST, []) == HOST


def test_commands(
    measured: list[Calibration],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv(SWITCH, "on")
    model = tmp_path / "tiny.tflite"
    model.write_bytes(single_conv((1, 4, 4, 4), Conv(8, (1, 1))))
    compile_it = ["compile", str(model), "-f", "delegate-source", "-o"]
    assert main(["targets"]) == 0
    assert "not measured yet" in capsys.readouterr().out
    assert main([*compile_it, str(tmp_path / "table"), "--no-calibration"]) == 0
    assert main([*compile_it, str(tmp_path / "arm"), "--target", "cortex-a53"]) == 0
    assert capsys.readouterr().err == ""
    measured += [FIGURES, FIGURES]
    assert main([*compile_it, str(tmp_path / "measured")]) == 0
    assert capsys.readouterr().err.startswith("tvmc: measuring what this machine's cores do")
    assert main(["targets"]) == 0
    assert "measured: 50 G multiply-adds a second, 90 GB/s from L1" in capsys.readouterr().out
