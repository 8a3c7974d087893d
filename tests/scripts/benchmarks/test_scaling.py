"""benchmarks/scaling.py on a tiny network: rows and table; turns, and what keeps them apart."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from schedules.errors import LeanconvError
from scripts.benchmarks import scaling
from scripts.benchmarks.harness.apart import processes
from scripts.benchmarks.harness.apart.processes import Apart, interleave_apart
from scripts.benchmarks.harness.apart.round_trip import FAR, NEAR, NEAR_SECONDS, distance
from scripts.benchmarks.harness.inference import LEANCONV
from scripts.benchmarks.harness.runners import XNNPACK


class Fake:
    """A subject whose turns take as long as there were turns before."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.log = name, log

    def turn(self) -> list[float]:
        self.log.append(self.name)
        return [float(len(self.log))]


def fakes(log: list[str]) -> dict[Any, Any]:
    return {(name, 1): Fake(name, log) for name in "ab"}


@pytest.fixture(autouse=True)
def _no_parking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "PARKED_SECONDS", 0.0)


def test_states_are_kept_apart_and_changes_do_not_count() -> None:
    log: list[str] = []
    states: Iterator[str] = iter(["near", "near", "far", "far", "far"])
    found = interleave_apart(fakes(log), lambda: next(states), rounds=4, seconds=60)
    assert "".join(log) == "abbaabba"
    assert {state: times["a", 1].seconds for state, times in found.items()} == {
        "near": (1.0,),
        "far": (5.0, 8.0),
    }


def test_three_rounds_at_least() -> None:
    log: list[str] = []
    interleave_apart(fakes(log), lambda: "near", rounds=9, seconds=0)
    assert len(log) == 6


def test_names_of_distances() -> None:
    assert [distance(f * NEAR_SECONDS) for f in (0.4, 0.99, 1, 2)] == [NEAR, NEAR, FAR, FAR]


def test_a_process_that_ends_is_told(tmp_path: Path) -> None:
    with pytest.raises(LeanconvError, match="its process ended with 1"):
        Apart(LEANCONV, tmp_path / "missing.tflite", 2, tmp_path)


def test_table_and_rows(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(scaling, "distance", lambda seconds: NEAR if 0 < seconds < 1 else FAR)
    path = tmp_path / "rows.json"
    command = ["small", "--threads", "1,2", "--rounds", "3", "--seconds", "0"]
    command += ["--records", str(tmp_path / "kept")]
    assert scaling.main([*command, "--json", str(path)]) == 0
    rows = json.loads(path.read_text())["rows"]
    assert [(r["network"], r["cores"], r["threads"]) for r in rows] == [
        ("small", NEAR, 1),
        ("small", NEAR, 2),
    ]
    one, two = rows
    assert one[LEANCONV]["speed_up"] is None
    for kind in (LEANCONV, XNNPACK):
        minima = [row[kind]["times"]["min_s"] for row in rows]
        assert two[kind]["speed_up"]["min"] == pytest.approx(minima[0] / minima[1])
    assert one["ratios"]["min"] == pytest.approx(
        one[LEANCONV]["times"]["min_s"] / one[XNNPACK]["times"]["min_s"]
    )
    header = capsys.readouterr().out.splitlines()[0]
    assert all(title.strip() in header for title in scaling.COLUMNS)

    # A network whose rows are kept is not measured again.
    monkeypatch.setattr(scaling, "bench", None)
    again = tmp_path / "again.json"
    assert scaling.main([*command, "--json", str(again)]) == 0
    assert json.loads(again.read_text())["rows"] == rows
