"""benchmarks/coverage.py on an int8 network, one of floats and a file that is no model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.benchmarks import coverage
from tests.support.tflite_writer import Conv, single_conv


def test_quantised_models_are_counted(
    capsys: pytest.CaptureFixture[str], made_model: Callable[[str], Path], tmp_path: Path
) -> None:
    shutil.copy(made_model("small_int8"), tmp_path / "codes.tflite")
    (tmp_path / "floats.tflite").write_bytes(single_conv((1, 6, 6, 3), Conv(4)))
    (tmp_path / "none.tflite").write_bytes(b"no model")
    file = tmp_path / "rows.json"
    assert coverage.main([str(tmp_path), "--inputs", "2", "--json", str(file)]) == 0
    codes, none = json.loads(file.read_text())["rows"]
    assert (codes["model"], none["model"]) == ("codes", "none")
    assert codes["layers"] == codes["claimed"] == 6 and not codes["reasons"]
    assert (codes["left"], codes["left_operators"], codes["mismatches"]) == (0, 0, 0)
    assert codes["outputs"] == 2 * 10
    assert none["reason"]
    assert "codes" in capsys.readouterr().out


def test_layers_that_are_left_have_a_reason() -> None:
    row = {"model": "a", "reasons": {"CONV_2D: too large": 2}}
    assert list(coverage.report([row]))[1:] == ["a: 2 x CONV_2D: too large"]


def test_no_folder_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert coverage.main([str(tmp_path / "nothing")]) == 2
    assert "there is nothing at" in capsys.readouterr().err
