"""winograd_error.py in small: tables, rows, the picture, layers beside XNNPACK, and errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schedules.transforms.cook_toom import filtering
from scripts.benchmarks.winograd import error as winograd_error
from scripts.benchmarks.winograd.error import COLUMNS, LAYER_COLUMNS, main
from scripts.benchmarks.winograd.forms import THIRDS, USUAL, Form, candidates, forms
from scripts.models.layers import ConvLayer


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(winograd_error, "RANDOM_CHANNELS", (16,))
    layers = {"small": ConvLayer(14, 14, 256, 3, 1, 256)}
    monkeypatch.setattr(winograd_error, "COMPILED_LAYERS", layers)
    few = [Form(), Form(filtering(4, 3)), Form(filtering(4, 3), 16)]
    monkeypatch.setattr(winograd_error, "candidates", lambda: few)


def run(folder: Path, *arguments: str) -> list[dict[str, Any]]:
    path = folder / "rows.json"
    assert main([*arguments, "--json", str(path)]) == 0
    rows: list[dict[str, Any]] = json.loads(path.read_text())["rows"]
    return rows


def test_random_and_trained(
    tmp_path: Path, trained_models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = [str(trained_models / f"{name}.tflite") for name in ("resnet8_float",
              "dscnn_hybrid")]  # fmt: skip
    parts = ["--parts", "models,random", "--models", *models, "--seeds", "1"]
    rows = run(tmp_path, *parts, "--svg", str(tmp_path))
    data = list(dict.fromkeys(row["data"] for row in rows))
    trained = [f"resnet8_float, node {node}" for node in (0, 1, 2, 5, 9)]
    assert data == ["random, 16 channels", *trained]
    for row in rows:
        # The model is for values of zero mean without zeros: half of what is behind a ReLU is 0.
        assert 0.5 < row["rms_error"] / row["expected"] < 1.2
        assert row["rms_error"] < row["max_error"]
        assert (row["rms_over_direct"] == 1) == (row["form"] == "direct")
    random = [row for row in rows if row["data"] == data[0]]
    assert {row["kernel"] for row in random} == {3, 5}
    (ours,) = [row for row in random if row["points"] == "0, ±√2/2, ±√2" and row["kernel"] == 3]
    (usual,) = [row for row in random if row["points"] == "0, ±1, ±2" and row["kernel"] == 3]
    assert (ours["form"], usual["form"]) == ("F(4)*", "F(4)")
    assert ours["rms_error"] / usual["rms_error"] == pytest.approx(5.02 / 10.77, rel=0.1)

    output = capsys.readouterr()
    header, _, *lines, _machine = output.out.splitlines()
    assert [title in header for title in COLUMNS] == [True] * len(COLUMNS)
    assert len(lines) == len(rows)
    assert output.err.splitlines() == [
        f"{models[1]}: no float32 3x3 or 5x5 convolution of stride 1"
    ]
    picture = (tmp_path / "winograd_error.svg").read_text()
    assert all(text in picture for text in (*data, "F(4) ±1, ±2", "F(4)*"))


def test_beside_xnnpack(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = run(tmp_path, "--parts", "xnnpack", "--seeds", "2")
    layers = rows
    assert [(row["by"], row["form"]) for row in layers] == [
        ("XNNPACK", "direct"),
        ("leanconv", "F(4)*, sums of 16"),
        ("numpy", "direct"),
        ("numpy", "F(4)*"),
        ("numpy", "F(4)*, sums of 16"),
    ]
    xnnpack, ours, direct, whole, same = layers
    # The same rounding everywhere but in float64: the order of its sums may be another.
    np.testing.assert_allclose(ours["rms_errors"], same["rms_errors"], rtol=1e-6)
    assert direct["rms_ratio"] == pytest.approx(1, abs=0.1)
    assert ours["rms_ratio"] < 1 < whole["rms_ratio"]
    for row in layers:
        assert len(row["rms_errors"]) == len(row["max_errors"]) == 2
        ratios = np.divide(row["max_errors"], xnnpack["max_errors"])
        assert row["worst_ratio"] == pytest.approx(ratios.max())
        assert ratios.min() <= row["max_ratio"] <= ratios.max()
        ratio = sum(row["rms_errors"]) / sum(xnnpack["rms_errors"])
        assert row["rms_ratio"] == pytest.approx(ratio)
    header, _, *lines, _machine = capsys.readouterr().out.splitlines()
    assert [title in header for title in LAYER_COLUMNS] == [True] * len(LAYER_COLUMNS)
    assert len(lines) == len(layers)


def test_forms() -> None:
    assert [(form.name, form.points) for form in forms(5)] == [
        ("direct", "-"),
        ("F(2)", "0, ±1, ±2"),
        ("F(2)*", "0, ±√2/2, ±√2"),
        ("F(2)", "0, ±2/3, ±3/2"),
        ("F(4)*", "0, ±1, ±2, ±1/2"),
    ]
    eight = Form(filtering(8, 3, USUAL[9]))
    assert eight.points == "0, ±1, ±2, ±1/2, 4, -1/4"
    names = [(form.name, form.points) for form in candidates()]
    assert len(set(names)) == len(names)
    assert Form(filtering(4, 3, THIRDS)).amplification == pytest.approx(2.182**2, rel=1e-3)
    # Blocks of 16 of 64 channels: sums of 16 terms and of 4.
    whole, blocks = Form(filtering(4, 3)), Form(filtering(4, 3), 16)
    assert blocks.expected(3, 64) == whole.expected(3, 20)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--parts", "random,sunday"], "unknown part 'sunday': one of random, models, xnnpack"),
        (["--parts", "models", "--svg", "."], "--svg shows random data"),
        (["--parts", "models", "--models", "no.tflite"], "model no.tflite does not exist"),
    ],
)
def test_errors_are_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("benchmarks.winograd.error: error: ")
    assert message in line
