"""bench_modules.py on a network of one layer, and its parts."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from scripts.benchmarks import modules as bench_modules
from scripts.benchmarks.harness.inference import LEANCONV
from scripts.benchmarks.harness.runners import XNNPACK
from scripts.benchmarks.modules import COLUMNS, PLAIN
from scripts.models.layers import LAYERS
from scripts.processes import module_command


def test_a_network(repo_root: Path, tmp_path: Path) -> None:
    """In a process of its own, as it has one thread and TVM here may have more."""
    path = tmp_path / "rows.json"
    command = module_command("scripts.benchmarks.modules", LAYERS[-1].name)
    options = ["--rounds", "5", "--slow-rounds", "1", "--json", str(path)]
    done = subprocess.run([*command, *options], capture_output=True, text=True, cwd=repo_root)
    assert done.returncode == 0, done.stderr
    header, _, *lines, machine = done.stdout.splitlines()
    assert machine.startswith("on ")
    assert [title in header for title in COLUMNS] == [True] * len(COLUMNS)
    rows = json.loads(path.read_text())["rows"]
    assert [row["runtime"] for row in rows] == [XNNPACK, LEANCONV, PLAIN]
    for row, line in zip(rows, lines, strict=True):
        assert row["network"] == LAYERS[-1].name
        assert row["runtime"] in line
        times = row["times"]
        assert 0 < times["min_s"] <= times["median_s"]
        assert times["samples"] == (1 if row["runtime"] == PLAIN else 5)
        assert row["max_difference"] < 1e-4
        is_module = row["runtime"] != XNNPACK
        assert (row["compile_seconds"] is not None) == is_module
        assert (row["library_bytes"] is not None) == is_module
    assert (rows[0]["ratios"]["min"], rows[2]["speed_up"]["median"]) == (1, 1)
    # Both are of the turns that TVM's own module took part in.
    assert rows[2]["ratios"]["min"] == pytest.approx(rows[0]["speed_up"]["min"])


def test_an_unknown_network(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench_modules.main(["nasnet"]) == 2
    assert capsys.readouterr().err.startswith("benchmarks.modules: error: unknown network 'nasnet'")
