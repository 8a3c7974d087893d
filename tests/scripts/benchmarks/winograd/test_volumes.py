"""The benchmark of volumes, in small, and whose kernel ours stand beside."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from scripts.benchmarks.harness.runners import XNNPACK, open_runner
from scripts.benchmarks.winograd import volumes
from tests.support.reference import conv2d


def test_rows_of_volumes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = {"tiny": (4, 6, 8, 16, 1), "strided": (3, 5, 4, 8, 2)}
    monkeypatch.setattr(volumes, "LAYERS", tiny)
    path = tmp_path / "rows.json"
    assert volumes.main(["--rounds", "2", "--json", str(path)]) == 0
    rows = json.loads(path.read_text())["rows"]
    kernels = ["LiteRT built-in", "indirect3d", "F(2)", "F(4)"]
    assert [row["kernel"] for row in rows] == [*kernels, *kernels[:2]]
    ours = [row for row in rows if row["kernel"] != kernels[0]]
    assert [row["layer"] for row in ours if row["taken"]] == ["tiny", "strided"]
    assert ours[-1]["taken"]
    # 3^3 taps for 2^3 outputs become 4^3 points; a row of three tiles is computed as one of four.
    assert ours[1]["fewer"] == pytest.approx(27 * 8 / 64 * 3 / 4)
    assert ours[2]["weight_bytes"] == 6**3 * 8 * 16 * 4
    # Values are about one, and the largest of thousands of errors is some times the usual one.
    assert all(row["difference"] <= 32 * row["expected_error"] for row in ours)
    assert rows[0]["workspace_bytes"] >= 0
    assert "taken / built-in at most" in capsys.readouterr().out


def test_the_built_in_kernel_computes_the_layer(tmp_path: Path) -> None:
    """XNNPACK leaves it to TFLite: the node is there as it was."""
    layer = volumes.layer_of(3, 5, 4, 8, 2)
    random = np.random.default_rng(0)
    x = random.standard_normal(layer.input_shape, np.float32)
    weights = random.standard_normal(layer.weight_shape, np.float32)
    runner = volumes.built_in_layer(layer, weights, x, tmp_path)
    runner.invoke()
    (y,) = runner.outputs()
    expected, bound = conv2d(layer, x, weights, None)
    assert (abs(y - expected) <= bound).all()
    session = open_runner(XNNPACK, tmp_path / "layer.tflite", 1, tmp_path).session
    assert session is not None
    nodes = session.interpreter._get_ops_details()
    assert [node["op_name"] for node in nodes] == ["CONV_3D"]
