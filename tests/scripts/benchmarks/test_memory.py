"""What networks hold: limits of the curve, accounts of processes, the table."""

from __future__ import annotations

import mmap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schedules.errors import LeanconvError
from scripts.benchmarks.harness.comparison import built_in_outputs
from scripts.benchmarks.harness.held.residency import STAGES, residency, rollup
from scripts.benchmarks.harness.runners import BUILT_IN, inputs_path
from scripts.benchmarks.memory import COLUMNS, limits, report
from scripts.models.layers import LAYERS
from tvmc.planning.plan_command import plan

MIB = 1 << 20


def test_limits_are_kept_by_what_is_promised_within_them(made_model: Callable[[str], Path]) -> None:
    curve = plan(made_model("small"))
    found = limits(curve, 6)
    assert 2 <= len(found) <= 6
    assert all(0 < promised <= limit for limit, promised in found.items())
    assert list(found) == sorted(found)
    assert max(found) == curve.solutions[-1].bytes
    assert len(limits(curve, 1)) <= 1


def test_the_kernel_accounts_for_what_is_written() -> None:
    before = rollup()
    # A mapping of its own: of the heap, pages may be there already.
    mapping = mmap.mmap(-1, 16 * MIB, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    block = np.frombuffer(mapping, np.uint8)
    block[:] = 1
    grown = {key: value - before[key] for key, value in rollup().items()}
    for key in ("Rss", "Anonymous", "Private_Dirty"):
        assert block.nbytes <= grown[key] < block.nbytes + MIB


def test_two_processes_are_accounted(made_model: Callable[[str], Path], tmp_path: Path) -> None:
    graph = made_model(LAYERS[1].name)
    inputs, outputs = built_in_outputs(graph)
    np.savez(inputs_path(tmp_path), *inputs)
    found = residency(BUILT_IN, graph, 1, tmp_path)
    tensors = sum(array.nbytes for array in [*inputs, *outputs])
    for stage in STAGES:
        account = found[stage]
        assert account["rss"] == account["anonymous"] + account["file_backed"]
        assert 0 < account["pss"] <= account["rss"]
        assert account["private_dirty"] <= account["rss"]
    assert found["first"]["anonymous"] > found["loaded"]["anonymous"]
    assert found["later"]["anonymous"] >= tensors
    assert tensors <= found["second_bytes"] <= found["later"]["rss"]
    assert 0 < found["load_cpu_s"] <= found["load_s"] + 0.05


def test_a_process_that_fails_says_why(tmp_path: Path) -> None:
    np.savez(inputs_path(tmp_path), np.zeros(1, np.float32))
    (tmp_path / "none.tflite").write_bytes(b"none")
    with pytest.raises(LeanconvError, match="it does not run in its own process: "):
        residency(BUILT_IN, tmp_path / "none.tflite", 1, tmp_path)


def test_what_was_not_measured_is_a_dash() -> None:
    account = dict.fromkeys(("rss", "pss", "anonymous", "private_dirty", "file_backed"), 3 * MIB)
    held = {**dict.fromkeys(STAGES, account), "load_cpu_s": 0.0125, "second_bytes": MIB}
    row: dict[str, Any] = {"network": "n", "runtime": "r", "residency": held, "footprint": 1.5}
    text = "\n".join(report([row]))
    header, _, line = text.splitlines()
    assert [name in header for name in COLUMNS] == [True] * len(COLUMNS)
    cells = line.split("  ")
    assert [cell.strip() for cell in cells if cell.strip()] == [
        "n", "r", "-", "-", "-", "-", "-", "12.5", *["3 MiB"] * 7, "1 MiB", "1.50x", "-", "-",
    ]  # fmt: skip
