"""A row of the benchmark of chains: what is measured is what was planned."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.benchmarks.small.chains import BENCHMARK, done, measure_within
from tests.tflite_delegate.csrc.run.test_rows import chains
from tvmc.planning.plan_command import plan


@pytest.mark.slow
def test_a_plan_is_compiled_and_measured(tmp_path: Path) -> None:
    graph = tmp_path / "chains.tflite"
    graph.write_bytes(chains())
    curve = plan(graph, embeds=True)
    row = measure_within(graph, tmp_path, curve, 1.5)
    assert row["arena_bytes"] == row["limit"]
    assert row["between_bytes"] <= row["at_once_bytes"]
    assert 1 <= row["done"] <= 1.5
    assert row["done"] in {done(curve, solution) for solution in curve.solutions}
    assert row["error"] < 1e-5
    (text,) = BENCHMARK.report([row])
    assert f"{row['arena_bytes']:,}" in text
