"""search_quality.py on a tiny space whose costs are made up."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from schedules.layer.block import Workload, workload_from_text
from schedules.plan.choice import Choice
from schedules.target.simd import Simd
from schedules.tuning.measure.measure import Measurement
from schedules.tuning.measure.settings import Settings
from schedules.tuning.search.space import Space
from scripts.benchmarks import search_quality
from scripts.benchmarks.search_quality import LEADERS, main, trials_to

LAYER = "28x28x32->32 k3x3 p1,1,1,1 g32 relu6"


class MadeUp:
    """Measures nothing: of every tile, the one with the most pixels is the fastest."""

    measured: list[Choice]

    def __init__(self, *_: Any) -> None:
        self.runner, self.settings = SimpleNamespace(boards=lambda: 1), Settings()

    def __enter__(self) -> MadeUp:
        return self

    def __exit__(self, *_: Any) -> None:
        pass

    def probe(self) -> dict[str, Any]:
        return {}

    def measure(
        self, _workload: Workload, candidates: Sequence[Choice], settings: Settings
    ) -> list[Measurement]:
        MadeUp.measured += candidates
        return [self.outcome(candidate, settings.repeat) for candidate in candidates]

    def outcome(self, candidate: Choice, samples: int) -> Measurement:
        pixels = candidate.knobs["rows"] * candidate.knobs["columns"]
        if pixels == 1:
            return Measurement(candidate, (), "it crashed")
        return Measurement(candidate, (1e-3 / pixels,) * samples, None)


@pytest.fixture(autouse=True)
def _made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    MadeUp.measured = []
    monkeypatch.setattr(search_quality, "Measurer", MadeUp)


def test_a_space_is_measured_once_and_every_search_played(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rows.json"
    arguments = [LAYER, "--target", "x86-64-v4", "--records", str(tmp_path), "--json", str(path)]
    assert main([*arguments, "--seeds", "2"]) == 0
    first, rows = capsys.readouterr().out, json.loads(path.read_text())["rows"]

    space = Space(workload_from_text(LAYER), Simd.named("x86-64-v4"))
    candidates = list(space)
    assert sorted(map(str, MadeUp.measured[: len(candidates)])) == sorted(map(str, candidates))
    again = MadeUp.measured[len(candidates) :]  # some in the play-off, then all other leaders
    pixels = [c.knobs["rows"] * c.knobs["columns"] for c in candidates]
    assert len(candidates) <= LEADERS
    assert len(again) == len(set(again)) == len(candidates) - pixels.count(1)
    untuned = space.default.knobs["rows"] * space.default.knobs["columns"]
    assert [row["search"] for row in rows] == ["xgb", "ga", "random"]
    for row in rows:
        assert row["candidates"] == len(candidates) and row["failed"] == pixels.count(1) > 0
        assert row["best_s"] == pytest.approx(1e-3 / max(pixels), rel=1e-3)
        assert row["untuned"] == pytest.approx(max(pixels) / untuned, rel=1e-3)
        # 32 trials are more than there are candidates.
        assert row["best_after"]["32"] == row["best_after"]["64"] == 1 <= row["best_after"]["16"]
        assert row["trials_to_close"] <= len(candidates)
    assert f"{len(candidates)} candidates, {pixels.count(1)} failed" in first

    # What is in the log is not measured again, and seeds decide.
    MadeUp.measured = []
    assert main([*arguments, "--seeds", "2"]) == 0
    assert MadeUp.measured == [] and capsys.readouterr().out == first


def test_too_few_trials_are_said_to_be() -> None:
    curves = [[3.0, 2.0, 1.0], [3.0, 3.0, 3.0], [2.0, 2.0, 2.0]]
    assert trials_to(curves, 2.0) == 2
    assert trials_to(curves, 1.0) is None


def test_what_is_no_layer_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conv3x3"]) == 2
    assert capsys.readouterr().err == (
        "benchmarks.search_quality: error: 'conv3x3' describes no convolution\n"
    )
