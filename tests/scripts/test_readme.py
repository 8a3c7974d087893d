"""README.md's figures are those of the results that are kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from schedules.errors import LeanconvError
from scripts import readme
from scripts.benchmarks import networks
from scripts.benchmarks.harness import benchmark as harness
from scripts.benchmarks.harness.inference import LEANCONV
from scripts.benchmarks.harness.machine import Machine
from scripts.benchmarks.harness.runners import XNNPACK


def row(network: str, runtime: str, threads: int, seconds: float, heap: int) -> dict[str, Any]:
    memory = {"arena_bytes": 1024, "packed_bytes": 2048, "peak_heap_bytes": heap}
    ratio = seconds / 0.010
    return {
        "network": network, "runtime": runtime, "threads": threads,
        "times": {"min_s": seconds}, "ratios": {"min": ratio, "median": ratio},
        "memory": memory,
    }  # fmt: skip


def results() -> dict[str, Any]:
    machine = {
        "processor": "Some CPU", "cores": 2, "caches": {"L2": "1024K"},
        "date": "2026-01-02", "commit": "abc",
    }  # fmt: skip
    rows = [
        row(network, runtime, threads, seconds, heap)
        for network, ours in (("mobilenet_v2", 0.008), ("vgg16", 0.002))
        for threads in (1, 2)
        for runtime, seconds, heap in (
            (XNNPACK, 0.010, 4096),
            (LEANCONV, ours * threads, 3072),
        )
    ]
    return {"machine": machine, "rows": rows}


def test_blocks_are_filled_and_nothing_else_is_touched() -> None:
    text = "before <!-- claim -->old<!-- /claim --> between <!-- machine --><!-- /machine --> after"
    filled = readme.filled(text, results())
    assert filled.startswith("before <!-- claim -->2 networks run in 0.40 of the time")
    assert "MobileNetV2 in 0.80, with 3 KiB on the heap where XNNPACK has 4 KiB." in filled
    assert filled.endswith("<!-- machine -->Some CPU, 2 cores, L2 1024K; 2026-01-02, commit abc"
                           "<!-- /machine --> after")  # fmt: skip
    assert readme.filled(filled, results()) == filled


def test_the_table_has_a_line_a_network_of_one_thread() -> None:
    filled = readme.filled("<!-- networks -->\n<!-- /networks -->", results())
    lines = [line for line in filled.splitlines() if line.startswith("| ")]
    assert len(lines) == 4
    assert lines[-1] == "| vgg16 | 2 | 0.200 / 0.200 | 1 KiB | 2 KiB | 3 KiB | 4 KiB |"


def test_a_block_of_another_name_is_refused() -> None:
    with pytest.raises(LeanconvError, match="block 'claims'"):
        readme.filled("<!-- claims --><!-- /claims -->", results())


def test_the_readme_is_what_the_kept_results_say(capsys: pytest.CaptureFixture[str]) -> None:
    assert readme.main(["--check"]) == 0, capsys.readouterr().err
    kept = networks.BENCHMARK.kept()
    assert kept and kept["machine"]["processor"] and len(kept["rows"]) > 0


def test_the_readme_is_short() -> None:
    assert len(readme.README.read_text().splitlines()) <= 130


def test_what_a_benchmark_printed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = "<!-- nodes_result -->old<!-- /nodes_result -->"
    monkeypatch.setattr(readme, "ROOT", tmp_path)
    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    command = "python -m scripts.benchmarks.nodes --json nodes.json"
    assert f"No figures are kept: `{command}`" in readme.filled(text, results())
    layer = {"operator": "CONV_2D", "layer": "conv", "runtime": LEANCONV, "ratios": {"min": 0.5}}
    kept = {"command": "python -m it", "machine": results()["machine"], "rows": [layer]}
    (tmp_path / "nodes.json").write_text(json.dumps(kept))
    lines = readme.filled(text, results()).splitlines()
    assert lines[1:4] == [
        "`python -m it`",
        "on Some CPU, 2 cores, L2 1024K; 2026-01-02, commit abc:",
        "",
    ]
    assert lines[6].split() == ["CONV_2D", "conv", "-", "-", "-", "0.500", "-"]


def test_this_machine_is_described() -> None:
    machine = Machine.this()
    assert machine.processor in machine.describe()
    assert machine.cores >= 1 and machine.date.count("-") == 2
    assert Machine(**machine.to_dict()) == machine
