"""bench_models.py on two tiny models and a file that is none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts.benchmarks import models as bench_models
from scripts.benchmarks.models import HEADER, Row
from tests.support.tflite_writer import Conv, chain, single_conv


def test_models(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    models = {
        "one": single_conv((1, 6, 6, 3), Conv(4, activation="relu")),
        "two": chain((1, 6, 6, 3), [Conv(4), Conv(4, activation="tanh")]),
        "none": b"no model",
    }
    paths = [tmp_path / f"{name}.tflite" for name in models]
    for path, content in zip(paths, models.values(), strict=True):
        path.write_bytes(content)
    output = tmp_path / "rows.json"
    arguments = [*map(str, paths), "--rounds", "3", "--json", str(output)]
    assert bench_models.main(arguments) == 0
    result = json.loads(output.read_text())
    assert [(row["model"], row["claimed"], row["left"]) for row in result["rows"]] == [
        ("one", 1, 0),
        ("two", 1, 1),
    ]
    for row in result["rows"]:
        assert row["ratio_of_minima"] == pytest.approx(row["seconds"] / row["xnnpack_seconds"])
        assert 0 <= row["max_difference"] <= row["bound"]
        assert row["arena_bytes"] > 0
    assert list(result["reasons"]) == ["none"]
    lines = capsys.readouterr().out.splitlines()
    assert len(lines[0].split()) == len(" ".join(HEADER).split())
    assert lines[-1].startswith("none: ")


def test_the_summary_counts_long_models_alone() -> None:
    def row(model: str, seconds: float, ratio: float) -> Row:
        return Row(model, ratio * seconds, seconds, ratio, ratio, 1, 1, 1, 1, 0, 0.0, 0.0)

    rows = [row("a", 1e-3, 0.5), row("b", 1e-3, 2.0), row("short", 1e-6, 4.0)]
    assert bench_models._summary(rows) == [
        "geometric mean of 2 models above 50 µs: 1.000",
        "slower than in XNNPACK: b 2.00, short 4.00",
    ]
    assert bench_models._summary(rows[2:]) == []
