"""cost_model.py on times that are made up."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from schedules.layer.block import Workload, workload_from_text
from schedules.plan.choice import Choice
from schedules.plan.plan import Plan
from schedules.plan.planner import plan_kernel
from schedules.target.simd import Simd
from schedules.tuning.measure.measure import Measurement
from schedules.tuning.measure.settings import Settings
from scripts.benchmarks import cost_model
from scripts.benchmarks.cost_model import main, plans_of, rank_correlation

LAYER = "14x14x16->16 k3x3 p1,1,1,1 relu"
TARGET = "x86-64-v4"


class MadeUp:
    """Twice as long as modelled; ``im2col`` a tenth of it, and ``mec`` fails."""

    def __init__(self, simd: Simd, *_: Any) -> None:
        self.simd, self.settings = simd, Settings()
        self.runner = SimpleNamespace(boards=lambda: 1)
        self.measured: list[Choice] = []

    def __enter__(self) -> MadeUp:
        return self

    def __exit__(self, *_: Any) -> None:
        pass

    def measure(
        self, workload: Workload, candidates: Sequence[Choice], _settings: Settings
    ) -> list[Measurement]:
        self.measured += candidates
        return [self.outcome(workload, candidate) for candidate in candidates]

    def outcome(self, workload: Workload, candidate: Choice) -> Measurement:
        if candidate.algorithm == "mec":
            return Measurement(candidate, (), "it crashed")
        factor = 0.1 if candidate.algorithm == "im2col" else 2.0
        seconds = factor * Plan.of(candidate, workload, self.simd).cost
        return Measurement(candidate, (seconds, 1.5 * seconds), None)


def is_mec(form: str) -> bool:
    return form.split(":")[0] == "mec"


def test_rows_of_every_form_and_the_regret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = MadeUp(Simd.named(TARGET))
    monkeypatch.setattr(cost_model, "Measurer", lambda *_: made)
    path = tmp_path / "rows.json"
    arguments = [LAYER, "--target", TARGET, "--records", str(tmp_path), "--json", str(path)]
    assert main(arguments) == 0
    shown, rows = capsys.readouterr().out, json.loads(path.read_text())["rows"]

    forms = [plan.why for plan in plans_of(workload_from_text(LAYER), Simd.named(TARGET))]
    assert len(forms) == len(made.measured) == len(set(forms))
    assert {form.split(":")[0] for form in forms} >= {"indirect", "mec", "kn2row"}
    assert "winograd:outputs=4:weights=panels" in forms
    assert [row["form"] for row in rows] == [form for form in forms if not is_mec(form)]
    within = [row for row in rows if row["within"]]
    chosen = plan_kernel(workload_from_text(LAYER), Simd.named(TARGET))
    taken = next(row for row in within if row["taken"])
    assert taken["form"].split(":")[0] == chosen.algorithm
    assert taken["modelled_s"] == chosen.cost
    fastest = min(within, key=lambda row: row["measured_s"])
    assert fastest["form"].split(":")[0] == "im2col"
    regret = taken["measured_s"] / fastest["measured_s"]
    assert f"median {regret:.3f}, 90th percentile {regret:.3f}" in shown

    # What is in the log is not measured again.
    made.measured.clear()
    assert main([*arguments, "--known"]) == 0
    assert not made.measured and capsys.readouterr().out == shown


def test_rank_correlation() -> None:
    def rows(*pairs: tuple[float, float]) -> list[dict[str, float]]:
        return [{"modelled_s": modelled, "measured_s": measured} for modelled, measured in pairs]

    assert rank_correlation(rows((1, 10), (2, 20), (3, 90))) == pytest.approx(1)
    assert rank_correlation(rows((3, 1), (2, 2), (1, 3))) == pytest.approx(-1)
    # Of four, the two in the middle are modelled alike.
    assert rank_correlation(rows((1, 1), (2, 2), (2, 3), (3, 4))) == pytest.approx(0.9486833)
