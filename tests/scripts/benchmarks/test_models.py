"""bench_models.py on two tiny models and a file that is none."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.benchmarks import models as bench_models
from scripts.benchmarks.harness.benchmark import Row
from scripts.benchmarks.harness.inference import LEANCONV
from scripts.benchmarks.harness.runners import XNNPACK
from scripts.benchmarks.models import COLUMNS
from tests.support.tflite_writer import Conv, chain, single_conv


def test_models(
    capsys: pytest.CaptureFixture[str], made_model: Callable[[str], Path], tmp_path: Path
) -> None:
    models = {
        "one": single_conv((1, 6, 6, 3), Conv(4, activation="relu")),
        "two": chain((1, 6, 6, 3), [Conv(4), Conv(4, activation="tanh")]),
        "none": b"no model",
    }
    paths = [tmp_path / f"{name}.tflite" for name in models]
    for path, content in zip(paths, models.values(), strict=True):
        path.write_bytes(content)
    output, codes = tmp_path / "rows.json", made_model("small_int8")
    arguments = [*map(str, [codes, *paths]), "--rounds", "3", "--json", str(output)]
    assert bench_models.main(arguments) == 0
    result = json.loads(output.read_text())
    of_codes, xnnpack, *measured, none = result["rows"]
    ours, theirs = measured[::2], measured[1::2]
    assert [(row["model"], row["claimed"], row["left"]) for row in ours] == [
        ("one", 1, 0),
        ("two", 1, 1),
    ]
    for row, base in zip(ours, theirs, strict=True):
        assert row["ratios"]["min"] == pytest.approx(row["times"]["min_s"] / base["times"]["min_s"])
        assert 0 <= row["max_difference"] <= row["bound"]
        assert row["arena_bytes"] > 0 and "mismatches" not in row
        for of in (row, base):
            assert of["arena_bytes"] < of["memory"]["peak_heap_bytes"] < 1 << 20
    assert (of_codes["claimed"], of_codes["left"], of_codes["mismatches"]) == (6, 0, 0)
    assert xnnpack["mismatches"] == 0 and of_codes["max_difference"] is None
    assert none["model"] == "none" and none["reason"]
    lines = capsys.readouterr().out.splitlines()
    assert len(lines[0].split()) == len(" ".join(COLUMNS).split())
    assert lines[-2].startswith("none: ")


def test_the_summary_counts_long_models_alone() -> None:
    def rows(model: str, seconds: float, ratio: float) -> list[Row]:
        return [
            {"model": model, "runtime": LEANCONV, "ratios": {"min": ratio}},
            {"model": model, "runtime": XNNPACK, "times": {"min_s": seconds}},
        ]

    short = rows("short", 1e-6, 4.0)
    _, *lines = bench_models.report([*rows("a", 1e-3, 0.5), *rows("b", 1e-3, 2.0), *short])
    assert lines == [
        "geometric mean of 2 models above 50 µs: 1.000",
        "slower than in XNNPACK: b 2.00, short 4.00",
    ]
    assert len(list(bench_models.report(short))) == 1


def test_trained_models_are_at_hand() -> None:
    assert "face_detection_front" in [path.stem for path in bench_models.face_models()]
