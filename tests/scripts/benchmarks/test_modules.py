"""bench_modules.py on a network of one layer, and its parts."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from scripts.benchmarks import modules as bench_modules
from scripts.benchmarks.harness.inference import LEANCONV
from scripts.benchmarks.harness.interleaving import Timing
from scripts.benchmarks.harness.runners import XNNPACK
from scripts.benchmarks.modules import HEADER, PLAIN, Row
from scripts.models.make import LAYERS
from scripts.processes import module_command


def test_a_network(repo_root: Path, tmp_path: Path) -> None:
    """In a process of its own, as it has one thread and TVM here may have more."""
    path = tmp_path / "rows.json"
    command = module_command("scripts.benchmarks.modules", LAYERS[-1].name)
    options = ["--rounds", "5", "--slow-rounds", "1", "--json", str(path)]
    done = subprocess.run([*command, *options], capture_output=True, text=True, cwd=repo_root)
    assert done.returncode == 0, done.stderr
    header, _, *lines = done.stdout.splitlines()
    assert [title in header for title in HEADER] == [True] * len(HEADER)
    rows = json.loads(path.read_text())
    assert [row["runtime"] for row in rows] == [XNNPACK, LEANCONV, PLAIN]
    for row, line in zip(rows, lines, strict=True):
        assert row["network"] == LAYERS[-1].name
        assert row["runtime"] in line
        assert 0 < row["min_s"] <= row["median_s"]
        assert row["samples"] == (1 if row["runtime"] == PLAIN else 5)
        assert row["max_difference"] < 1e-4
        is_module = row["runtime"] != XNNPACK
        assert (row["compile_seconds"] is not None) == is_module
        assert (row["library_bytes"] is not None) == is_module
    assert (rows[0]["ratio_of_minima"], rows[2]["speed_up_of_medians"]) == (1, 1)


def test_ratios_are_of_the_same_turns() -> None:
    row = Row(
        network="small",
        runtime=LEANCONV,
        compile_seconds=12.34,
        library_bytes=3 * 2**20,
        timing=Timing((2e-3, 3e-3, 4e-3)),
        base=Timing((4e-3, 4e-3, 8e-3)),
        plain=Timing((0.5, 0.8)),
        beside_plain=Timing((0.05, 0.05)),
        difference=1.25e-7,
    )
    figures = ["12.3", "3 MiB", "2", "3", "0.500", "0.750", "10.00x", "13.00x", "1.2e-07"]
    assert row.columns() == ["small", LEANCONV, *figures]
    written = row.to_dict()
    assert (written["ratio_of_minima"], written["ratio_of_medians"]) == (0.5, 0.75)
    assert (written["speed_up_of_minima"], written["speed_up_of_medians"]) == (10, 13)


def test_an_unknown_network(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench_modules.main(["lenet"]) == 2
    assert capsys.readouterr().err.startswith("benchmarks.modules: error: unknown network 'lenet'")


def test_a_file_that_cannot_be_written(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "rows.json"
    assert bench_modules.main(["small", "--json", str(path)]) == 2
    assert capsys.readouterr().err.startswith(f"benchmarks.modules: error: cannot write {path}")
