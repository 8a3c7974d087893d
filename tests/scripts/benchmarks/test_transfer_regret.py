"""transfer_regret.py: one layer left out at a time, three candidates measured together."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from schedules.layer.block import Workload
from schedules.layer.workload import Conv2dWorkload
from schedules.plan.choice import Choice
from schedules.plan.planner import plan_kernel
from schedules.target.simd import Simd
from schedules.tuning import advice
from schedules.tuning.measure.measure import Measurement
from schedules.tuning.records.records import Log
from schedules.tuning.search.space import Space
from scripts.benchmarks import transfer_regret
from tests.support.trials import record

HOST = Simd.named("host")
LAYER = Conv2dWorkload.from_text("14x14x32->32 k3x3 p1,1,1,1 relu")
SIZES = (8, 10, 12, 14, 16)


def milliseconds(candidate: Choice) -> float:
    """Everywhere the same: the more columns, the slower; mec is best."""
    return candidate.knobs["columns"] * (0.01 if candidate.algorithm == "mec" else 0.1)


class FakeMeasurer:
    """Three samples of the above; the middle one counts."""

    def __init__(self, *_arguments: Any, **_options: Any) -> None:
        self.measured: list[Sequence[Choice]] = []

    def __enter__(self) -> FakeMeasurer:
        return self

    def __exit__(self, *_error: object) -> None:
        pass

    def measure(self, _workload: Workload, candidates: Sequence[Choice]) -> list[Measurement]:
        self.measured.append(candidates)
        times = [milliseconds(candidate) * 1e-3 for candidate in candidates]
        pairs = zip(candidates, times, strict=True)
        return [Measurement(c, (9 * seconds, seconds, 0.5 * seconds), None) for c, seconds in pairs]


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(advice, "CANDIDATES", 50)
    return written(tmp_path, HOST)


def written(folder: Path, simd: Simd) -> Path:
    """A log of all layers."""
    log = Log(folder)
    for size in SIZES:
        layer = replace(LAYER, in_height=size, in_width=size)
        space, random = Space(layer, simd), Random(size)
        found = [*space.starts(), *(space.sample(random) for _ in range(20))]
        for candidate in dict.fromkeys(found):
            log.append(record(layer, simd, candidate, milliseconds(candidate)))
    return log.path


def test_table_and_rows(
    log: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(transfer_regret, "Measurer", FakeMeasurer)
    path = tmp_path / "rows.json"
    assert transfer_regret.main([str(log), "--json", str(path)]) == 0
    rows = json.loads(path.read_text())["rows"]
    assert len(rows) == len(SIZES)
    for row in rows:
        layer = Conv2dWorkload.from_text(row["layer"])
        default = plan_kernel(layer, HOST)
        untuned = milliseconds(default.choice) * 1e-3
        assert row["untuned_s"] == pytest.approx(untuned)
        # What is learned from the others is better than nothing.
        assert row["source"] == "transferred"
        assert row["algorithm"] == "mec"
        assert row["advised_s"] < row["untuned_s"]
    median, percentile, _ = capsys.readouterr().out.splitlines()[-3:]
    ratios = sorted(row["advised_s"] / row["tuned_s"] for row in rows)
    assert f"{ratios[2]:.3f}" in median
    assert percentile.split()[:6] == ["90th", "percentile", "5", "of", "5", "transferred"]


def test_some_of_the_layers(log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer_regret, "Measurer", FakeMeasurer)
    chosen = []
    for seed in (0, 1):
        path = tmp_path / "rows.json"
        arguments = ["--layers", "1", "--seed", str(seed), "--json", str(path)]
        assert transfer_regret.main([str(log), *arguments]) == 0
        (row,) = json.loads(path.read_text())["rows"]
        chosen.append(row["layer"])
    assert len(set(chosen)) == 2


def test_from_one_processor_to_another(log: Path, tmp_path: Path) -> None:
    """Nothing is measured: what the first one's model ranks first is on record of the second."""
    simd = Simd.named("cortex-a76")
    other, path = written(tmp_path / "other", simd), tmp_path / "rows.json"
    assert transfer_regret.main([str(log), "--to", str(other), "--json", str(path)]) == 0
    rows = json.loads(path.read_text())["rows"]
    assert len(rows) == len(SIZES)
    for row in rows:
        default = plan_kernel(Conv2dWorkload.from_text(row["layer"]), simd)
        assert row["untuned_s"] == pytest.approx(milliseconds(default.choice) * 1e-3)
        assert row["tuned_s"] <= row["advised_s"]
    total = {key: sum(row[key] for row in rows) for key in ("advised_s", "untuned_s")}
    assert total["advised_s"] < total["untuned_s"]


def test_what_cannot_be_measured(
    log: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Broken(FakeMeasurer):
        def measure(self, _workload: Workload, candidates: Sequence[Choice]) -> list[Measurement]:
            return [Measurement(candidate, (), "it crashed") for candidate in candidates]

    monkeypatch.setattr(transfer_regret, "Measurer", Broken)
    assert transfer_regret.main([str(log), "--layers", "1"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("benchmarks.transfer_regret: error: ")
    assert line.endswith(": it crashed")
