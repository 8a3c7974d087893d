"""Counts of algorithms on one small layer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from schedules.algorithms import REGISTRY
from schedules.target.simd import PRESETS
from scripts.benchmarks import instructions as count_algorithms
from tests.support.kernels import serves
from tests.support.tflite_writer import Conv, single_conv

SHAPE, LAYER = (1, 6, 7, 4), Conv(8, stride=(2, 2))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "small.tflite"
    path.write_bytes(single_conv(SHAPE, LAYER))
    return path


def test_every_algorithm_that_serves_the_layer_is_counted(
    model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Each takes seconds; what all of them compute on the board is the delegate's own test.
    monkeypatch.setattr(REGISTRY, "names", lambda: ("im2col", "indirect", "winograd", "depthwise"))
    rows_file = tmp_path / "rows.json"
    arguments = [str(model), "--cpu", "cortex-a53", "--json", str(rows_file)]
    assert count_algorithms.main(arguments) == 0
    all_rows = json.loads(rows_file.read_text())["rows"]
    rows = [row for row in all_rows if "total" in row]
    workload, simd = LAYER.workload(SHAPE), PRESETS["cortex-a53"]
    served = [name for name in REGISTRY.names() if serves(name, workload, simd)]
    assert [row["kernels"] for row in rows] == ["XNNPACK", "built-in", *served]
    assert [row["layers"] for row in rows] == [0, 0, *(1 for _ in served)]
    text = capsys.readouterr().out
    for row in rows:
        assert 0 < row["v_fma"] < row["total"]
        assert 0 <= row["difference"] < 1e-5
        assert f"{row['total'] / 1e6:.3f}" in text
    refused = set(REGISTRY.names()) - set(served)
    assert "winograd" in refused
    assert all(f"{name} serves no layer of it" in text for name in refused)


def test_what_cannot_be_counted_is_one_line(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, message in (
        ([str(tmp_path / "none.tflite")], "does not exist"),
        ([str(model), "--algorithms", "gemm"], "unknown algorithm 'gemm'"),
        ([str(model), "--algorithms", "winograd"], "winograd: Winograd's algorithm needs stride 1"),
    ):
        assert count_algorithms.main(arguments) == 2
        errors = capsys.readouterr().err
        assert errors.count("\n") == 1
        assert message in errors
