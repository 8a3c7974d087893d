"""The benchmarks of zeros in the Winograd domain, in small: layers, and accuracy."""

from __future__ import annotations

import gzip
import importlib.util
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from schedules.errors import LeanconvError
from scripts.benchmarks.harness.runners import XNNPACK, open_runner
from scripts.benchmarks.sparse import accuracy, crossover, direct, layers, networks


def test_rows_of_layers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(layers, "LAYERS", {"tiny": (8, 32)})
    monkeypatch.setattr(layers, "TILES", (4,))
    path = tmp_path / "rows.json"
    arguments = ["--zeros", "0,70", "--rounds", "3", "--json", str(path)]
    assert layers.main(arguments) == 0
    whole, pruned = json.loads(path.read_text())["rows"]
    assert (whole["algorithm"], pruned["algorithm"]) == ("winograd", "sparse_winograd")
    assert whole["fewer"] == pytest.approx(4)
    assert 4 / 0.32 < pruned["fewer"] < 4 / 0.28
    assert pruned["weight_bytes"] < 0.4 * whole["weight_bytes"]
    assert whole["ratios"]["dense F4"] == 1
    assert set(pruned["ratios"]) == {"dense F4", "direct", "XNNPACK", "fastest"}
    output = capsys.readouterr()
    assert "CSR / dense" in output.out
    has_torch = importlib.util.find_spec("torch") is not None
    assert (pruned["csr_ratio"] is not None) == has_torch
    assert ("torch is not installed" in output.err) != has_torch


def test_rows_of_the_crossover(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(layers.LAYERS, "tiny", (8, 32))
    monkeypatch.setattr(crossover, "ZEROS", (1, 50))
    arguments = ["--layers", "tiny", "--blocks", "16", "--tiles", "2", "--rounds", "1"]
    assert crossover.main([*arguments, "--patterns", "random,balanced"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[3] for line in lines[2:4]] == ["random", "balanced"]
    assert lines[4].startswith("blocks of 16: cost ")


def test_rows_of_zeros_anywhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(direct, "LAYERS", {"tiny": (6, 32, 16, 1)})
    path = tmp_path / "rows.json"
    assert direct.main(["--zeros", "60,90", "--rounds", "2", "--json", str(path)]) == 0
    few, most = json.loads(path.read_text())["rows"]
    assert most["weight_bytes"] < few["weight_bytes"] < few["dense_bytes"]
    assert set(few["ratios"]) == {"dense", "XNNPACK"}
    assert "taken / dense at most" in capsys.readouterr().out


@pytest.mark.parametrize("pattern", crossover.PATTERNS)
def test_patterns_have_the_zeros_that_are_asked_for(pattern: str) -> None:
    kept = crossover.kept_blocks(pattern, (4, 6, 20), 30, np.random.default_rng(0))
    assert kept.shape == (4, 6, 6, 20)
    assert 0.3 <= 1 - kept.mean() <= {"panels": 0.5}.get(pattern, 0.31)


def test_just_as_many_blocks_are_zero_as_asked_for() -> None:
    weights = layers.pruned(64, 4, 70, 16, np.random.default_rng(0))
    blocks = weights.reshape(4, 16, 4, 4, 64).any(axis=1)
    assert np.count_nonzero(~blocks) == blocks.size * 70 // 100


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    """A wheel with forty digits in it."""
    random = np.random.default_rng(0)
    table = np.column_stack([random.integers(17, size=(40, 64)), np.arange(40) % 10])
    text = "\n".join(",".join(map(str, row)) for row in table)
    with zipfile.ZipFile(tmp_path / "digits.whl", "w") as wheel:
        wheel.writestr(accuracy.MEMBER, gzip.compress(text.encode()))
    return tmp_path / "digits.whl"


def test_accuracy_is_kept_and_told(
    digits: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(accuracy, "TRAINING", 24)
    monkeypatch.setattr(accuracy, "LEVELS", (0.6,))
    kept, rows = tmp_path / "kept", tmp_path / "rows.json"
    arguments = ["--digits", digits, "--keep", kept, "--json", rows, "--epochs", "1"]
    chosen = ["--networks", "resnet", "--ways", "block", "--seeds", "5"]
    assert accuracy.main([*map(str, arguments), *chosen]) == 0
    dense, pruned = json.loads(rows.read_text())["rows"]
    assert (dense["way"], pruned["way"]) == ("dense", "block")
    assert pruned["zeros"] == pytest.approx(0.6, abs=0.01)
    assert "resnet, seed 5, block …" in capsys.readouterr().err
    monkeypatch.setattr(accuracy.Run, "_dense", None)
    assert accuracy.main([*map(str, arguments), *chosen, "--svg", str(tmp_path)]) == 0
    assert "handwritten digits" in (tmp_path / "sparse_accuracy.svg").read_text()
    assert capsys.readouterr().err == ""
    # Delegates are for others to test.
    monkeypatch.setattr(networks, "compile_delegate", lambda *_: {})
    monkeypatch.setattr(networks, "open_runner", lambda _, *rest: open_runner(XNNPACK, *rest))
    chosen = ["--networks", "resnet", "--ways", "block", "--zeros", "0.6", "--rounds", "2"]
    assert networks.main(["--keep", str(kept), "--json", str(rows), *chosen]) == 0
    (row,) = json.loads(rows.read_text())["rows"]
    assert row["lost"] == pytest.approx(dense["accuracy"] - pruned["accuracy"])
    assert set(row["ratios"]) == {"dense F4", "LiteRT + XNNPACK"}
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split()[:3] == ["resnet", "block", "60"]
    assert networks.main(["--keep", str(kept), "--ways", "filter", "--zeros", "0.6"]) == 2
    assert "no plain pruned by filter" in capsys.readouterr().err


def test_points_are_lost_within_a_seed() -> None:
    name = {"network": "vgg", "way": "dense", "zeros": 0.0}
    rows = [{**name, "seed": seed, "accuracy": a} for seed, a in ((0, 0.9), (1, 0.7))]
    pruned = {**name, "way": "block", "zeros": 0.8}
    rows += [{**pruned, "seed": seed, "accuracy": a} for seed, a in ((0, 0.88), (1, 0.68))]
    _, found = accuracy.summary(rows)
    assert found["lost"] == pytest.approx(0.02)
    assert found["lost_spread"] == pytest.approx(0)
    assert found["spread"] == pytest.approx(0.1)


@pytest.mark.parametrize(
    "change, complaint",
    [
        (["--seeds", "x"], "'x' are no seeds"),
        (["--networks", "alexnet"], "unknown network 'alexnet'"),
        (["--digits", "missing"], "no digits in it"),
    ],
)
def test_wrong_options_are_one_line(
    change: list[str], complaint: str, digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    given = ["--digits", str(digits), "--keep", str(tmp_path / "kept"), *change]
    assert accuracy.main(given) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert complaint in line


@pytest.mark.parametrize(
    "content",
    [
        gzip.compress(b"1,2,x\n"),
        gzip.compress(b"1,2,3\n"),
        gzip.compress(b"1,2,3\n")[:-4],
        b"PK\5\6" + bytes(17),
        b"",
    ],
    ids=["words", "few numbers", "cut", "no wheel", "empty"],
)
def test_damaged_digits_are_one_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "digits"
    path.write_bytes(content)
    with pytest.raises(LeanconvError, match="no digits in it"):
        accuracy.digits(path)
