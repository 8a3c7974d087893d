"""What this machine does in a second; boards that do not answer; what is kept of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from schedules.errors import LeanconvError
from schedules.target.simd import Simd
from schedules.tuning.boards.base import PROGRAM, Batch
from schedules.tuning.boards.local import LocalRunner
from schedules.tuning.measure.calibrate import calibrate, memory_bytes
from schedules.tuning.records.board_info import BoardInfo, calibrated, check_same
from schedules.tuning.records.calibration import KERNELS_SHARE, Bandwidth, Calibration
from schedules.tuning.records.task import tuning_target
from tvmc.cli import main

HOST = Simd.named("host")
BANDWIDTHS = {"l1": Bandwidth(1, 4e9, 8e9), "memory": Bandwidth(9, 1e9, 1e9)}
CALIBRATION = Calibration(threads=2, macs=3e9, barrier_s=1e-6, bandwidths=BANDWIDTHS)


class Answers(LocalRunner):
    """A board that prints these lines."""

    def __init__(self, *lines: dict[str, Any]) -> None:
        self._lines = lines

    def run(self, batch: Batch) -> Sequence[dict[str, Any]]:
        assert (batch.folder / PROGRAM).is_file()
        return self._lines


def test_this_machine(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["calibrate", "-o", str(tmp_path / "here"), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    info = BoardInfo.read(tmp_path / "here")
    assert info and info.calibration
    assert info.calibration == Calibration.from_dict(printed["calibration"])
    bandwidths = info.calibration.bandwidths
    assert bandwidths["l1"].bytes == HOST.l1_bytes // 2
    assert bandwidths["memory"].bytes == memory_bytes(HOST)
    # A vector that is read from memory takes longer than one from the nearest cache.
    assert bandwidths["memory"].one < bandwidths["l1"].one
    assert info.calibration.threads == HOST.cores
    # Vectors of one multiply-add each, and not two cycles of 5 GHz.
    assert 0 < info.calibration.macs < 2 * 5e9 * HOST.lanes("float32")


def test_the_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    board = {"cpu": "A core"}
    monkeypatch.setattr(
        "schedules.tuning.measure.calibrate.calibrate", lambda *_: (board, CALIBRATION)
    )
    assert main(["calibrate"]) == 0
    first, _, _, l1, memory = capsys.readouterr().out.splitlines()
    assert first == (
        "A core: 3.0 G multiply-adds a second (float32, one thread); 1.00 us for 2 threads to meet"
    )
    assert l1.split() == ["l1", "1", "B", "4.0", "8.0", "3.0"]
    assert memory.split() == ["memory", "9", "B", "1.0", "1.0", "12.0"]


def test_levels_that_are_not_there_are_the_next_ones() -> None:
    assert CALIBRATION.macs_of("l1", 4) == 3.0
    assert CALIBRATION.macs_of("l2", 4) == CALIBRATION.macs_of("memory", 4) == 12.0


@pytest.mark.parametrize(
    "lines",
    [
        (),
        ({"board": {}},),
        ({"board": {}}, {"calibration": {"threads": 1}}),
        ({"board": {}}, {"calibration": {**CALIBRATION.to_dict(), "l1": {"bytes": 1}}}),
        ({"board": {}}, {"calibration": {"threads": 1, "macs": 0, "barrier_s": 0}}),
    ],
)
def test_a_board_that_does_not_come_to_the_end(lines: tuple[dict[str, Any], ...]) -> None:
    with pytest.raises(LeanconvError, match="calibrates host did not come to its end"):
        calibrate(HOST, Answers(*lines))


INFO = BoardInfo("a", "b", "c", "d", (), 1, "e", 2, {}, CALIBRATION)


def test_tuning_keeps_the_calibration(tmp_path: Path) -> None:
    INFO.write(tmp_path)
    assert check_same(tmp_path, replace(INFO, calibration=None)) == INFO
    other = replace(CALIBRATION, macs=1.0)
    assert check_same(tmp_path, replace(INFO, calibration=other)).calibration == other


@pytest.mark.parametrize(
    "damaged", ["x", {}, {**CALIBRATION.to_dict(), "macs": -1}, {**CALIBRATION.to_dict(),
                                                                 "bandwidths": {}}]
)  # fmt: skip
def test_a_damaged_calibration_is_one_line(tmp_path: Path, damaged: object) -> None:
    INFO.write(tmp_path)
    path = tmp_path / "board.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "calibration": damaged}))
    with pytest.raises(LeanconvError, match=r"board\.json describes no board: remove it"):
        BoardInfo.read(tmp_path)


def test_what_was_measured_decides_in_coarse_steps(tmp_path: Path) -> None:
    simd = Simd.named("cortex-a76")
    bandwidths = {
        "l1": Bandwidth(1, 90e9, 90e9),
        "l3": Bandwidth(2, 10e9, 10e9),
        "memory": Bandwidth(3, 3.8e9, 5.7e9),
    }
    measured = Calibration(4, 16e9, 1e-6, bandwidths)  # 8 multiply-adds a cycle of 2 GHz
    fast = measured.applied_to(simd)
    assert fast.clock_hz == pytest.approx(2e9, rel=0.05)
    assert fast.l3_bandwidth == pytest.approx(5, rel=0.05)
    assert fast.memory_bandwidth == pytest.approx(1.9 * KERNELS_SHARE, rel=0.05)
    assert fast.memory_cores == pytest.approx(1.5, rel=0.05)
    assert fast.barrier_cycles == pytest.approx(2000, rel=0.05)
    noisy = replace(measured, macs=1.003 * measured.macs)
    assert noisy.applied_to(simd) == fast

    # Of a board's records, for its own target.
    probed = {
        "cpu": "A",
        "arch": "aarch64",
        "features": [],
        "cores": 4,
        "os": "",
        "memory_bytes": 1,
    }
    info = BoardInfo.of("board", tuning_target(simd), probed)
    info.write(tmp_path)
    assert calibrated(simd, [tmp_path]) == simd
    replace(info, calibration=measured).write(tmp_path)
    assert calibrated(simd, [tmp_path / "float32.jsonl"]) == calibrated(simd, [tmp_path]) == fast
    other = Simd.named("cortex-a53")
    assert calibrated(other, [tmp_path]) == other
    (tmp_path / "board.json").write_text("{")
    with pytest.raises(LeanconvError, match="describes no board"):
        calibrated(simd, [tmp_path])
