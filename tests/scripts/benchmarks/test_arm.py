"""Modelled time of a network, on one small model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts.benchmarks import arm
from scripts.benchmarks.harness.inference import LEANCONV
from scripts.benchmarks.harness.runners import XNNPACK
from scripts.board.core_model import find_core
from tests.support.tflite_writer import Conv, single_conv

SHAPE, LAYER = (1, 6, 7, 4), Conv(8, kernel=(3, 3))


def test_both_runtimes_are_counted_on_each_core(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, file = tmp_path / "small.tflite", tmp_path / "rows.json"
    model.write_bytes(single_conv(SHAPE, LAYER))
    monkeypatch.setattr(arm, "found", lambda _: [model])
    assert arm.main(["small", "--cpus", "cortex-a53", "--json", str(file)]) == 0
    rows = json.loads(file.read_text())["rows"]
    assert [row["runtime"] for row in rows] == [XNNPACK, LEANCONV]
    fastest = find_core("cortex-a53").issue_width * 1e9
    for row in rows:
        assert row["cpu"] == "cortex-a53"
        assert 0 < row["v_fma"] < row["total"]
        assert 0 < row["l2_misses"] <= row["l1_misses"]
        assert row["modelled_s"] > row["total"] / fastest
        assert row["total_ratio"] == row["total"] / rows[0]["total"]
        assert row["modelled_s_ratio"] == row["modelled_s"] / rows[0]["modelled_s"]
    assert rows[0]["packed_bytes"] is None
    assert rows[1]["packed_bytes"] >= 4 * 8 * 4 * 9
    text = capsys.readouterr().out
    assert f"{rows[1]['modelled_s_ratio']:.3f}" in text


def test_an_unknown_core_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert arm.main(["mobilenet_v2", "--cpus", "cortex-m4"]) == 2
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1
    assert "unknown core 'cortex-m4'" in errors
