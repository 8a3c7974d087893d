"""bench_nodes.py on a tiny network."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import pytest

from scripts.benchmarks import nodes as bench_nodes


def test_every_layer_of_a_kind(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    arguments = ["small", "--rounds", "3", "--json", str(path)]
    assert bench_nodes.main([*arguments, "--operator", "FULLY_CONNECTED"]) == 0
    row, base = json.loads(path.read_text())["rows"]
    assert (row["layer"], row["algorithms"]) == ("dense 40->10", ["dense"])
    assert row["ratios"]["min"] == pytest.approx(row["times"]["min_s"] / base["times"]["min_s"])

    assert bench_nodes.main([*arguments, "--only", "16x16x16"]) == 0
    rows = json.loads(path.read_text())["rows"][::2]
    assert [row["operator"] for row in rows] == ["DEPTHWISE_CONV_2D", "CONV_2D"]
    lines = capsys.readouterr().out.splitlines()
    mean = statistics.geometric_mean([rows[1]["ratios"]["min"]])
    assert lines[-2].split() == ["CONV_2D", "geometric", "mean", "-", "-", "-", f"{mean:.3f}", "-"]


def test_a_batch_and_as_many_single_images(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "rows.json"
    arguments = ["small", "--rounds", "3", "--json", str(path), "--batch", "3"]
    assert bench_nodes.main([*arguments, "--operator", "FULLY_CONNECTED"]) == 0
    row, _ = json.loads(path.read_text())["rows"]
    assert row["layer"] == "dense 3x40->10"
    assert set(row["of_singles"]) == {"min", "median"}
    assert f"{row['of_singles']['min']:.3f}" in capsys.readouterr().out


def test_an_unknown_network(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench_nodes.main(["nasnet"]) == 2
    assert capsys.readouterr().err.startswith("benchmarks.nodes: error: unknown model 'nasnet'")
