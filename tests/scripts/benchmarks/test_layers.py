"""bench_layers.py and demo.py: the tables, with few rounds; and the other libraries' layers."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scripts import demo
from scripts.benchmarks import layers as bench_layers
from scripts.benchmarks.harness.inference import COMPARISON_HEADER
from scripts.benchmarks.harness.machine import Machine
from scripts.benchmarks.harness.peers import PEERS, Peer, Problem
from scripts.models.make import LAYERS, ConvLayer


def test_the_table_and_the_json_rows(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def absent(_problem: Problem, _threads: int) -> Peer:
        raise ImportError

    def own(problem: Problem, threads: int) -> Peer:
        return Peer(lambda: None, lambda: problem.output)

    # Two stand-ins: installing the real ones is not for every test run.
    monkeypatch.setattr(bench_layers, "PEERS", {"oneDNN": own, "ONNX Runtime": absent, "ncnn": own})
    monkeypatch.setattr(bench_layers, "LAYERS", LAYERS[-2:])
    path = tmp_path / "rows.json"
    assert bench_layers.main(["--rounds", "3", "--json", str(path)]) == 0
    rows = json.loads(path.read_text())
    text = capsys.readouterr().out
    assert [row["layer"] for row in rows] == [str(layer) for layer in LAYERS[-2:]]
    for row, line in zip(rows, text.splitlines()[2:], strict=True):
        assert row["layer"] in line
        assert "not installed" in line
        assert row["algorithm"] == "indirect"
        assert row["peers"]["ONNX Runtime"] is None
        times = row["times"]
        ratio = times["leanconv"]["min_s"] / times["LiteRT + XNNPACK"]["min_s"]
        assert row["ratio_of_minima"] == pytest.approx(ratio)
        assert row["two_thread_speedup"] > 0
        assert row["max_difference"] < 1e-4


@pytest.mark.parametrize("name", PEERS)
@pytest.mark.parametrize(
    "layer", [ConvLayer(14, 14, 8, 3, 1, 16), ConvLayer(15, 15, 3, 3, 2, 8), LAYERS[-1]]
)
def test_peers_compute_the_layer(name: str, layer: ConvLayer) -> None:
    """Those that are installed; `make peers` installs them."""
    modules = {"oneDNN": ["torch"], "ONNX Runtime": ["onnx", "onnxruntime"], "ncnn": ["ncnn"]}
    problem = _problem(layer)
    if any(importlib.util.find_spec(module) is None for module in modules[name]):
        with pytest.raises(ImportError):
            PEERS[name](problem, 1)
        return
    np.testing.assert_allclose(PEERS[name](problem, 1).output(), problem.output, atol=1e-4)


def _problem(layer: ConvLayer) -> Problem:
    rng = np.random.default_rng(0)
    shape = (layer.in_height, layer.in_width, layer.in_channels)
    image = rng.uniform(-1, 1, (1, *shape)).astype(np.float32)
    taps = (layer.out_channels, layer.kernel, layer.kernel, layer.in_channels)
    weights = rng.uniform(-1, 1, taps).astype(np.float32)
    bias = rng.uniform(-1, 1, layer.out_channels).astype(np.float32)
    size = -(-layer.in_height // layer.stride)
    empty = np.zeros((1, size, size, layer.out_channels), np.float32)
    before, after = Problem(layer, image, weights, bias, empty).padding
    padded = np.pad(image[0], ((before, after), (before, after), (0, 0)))
    sliding: Any = np.lib.stride_tricks.sliding_window_view  # typed differently in each numpy
    windows = sliding(padded, (layer.kernel,) * 2, axis=(0, 1))
    windows = windows[:: layer.stride, :: layer.stride]
    output = np.einsum("hwcij,mijc->hwm", windows, weights) + bias
    return Problem(layer, image, weights, bias, np.maximum(output, 0)[None].astype(np.float32))


def test_errors_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, message in (
        (["--algorithm", "gemm"], "unknown algorithm 'gemm'"),
        (["--target", "z80"], "unknown target 'z80'"),
        (["--json", "no/rows.json"], "there is no folder no"),
    ):
        assert bench_layers.main(arguments) == 2
        errors = [li for li in capsys.readouterr().err.splitlines() if not li.endswith("…")]
        assert len(errors) == 1
        assert errors[0].startswith("benchmarks.layers: error: ")
        assert message in errors[0]
    assert demo.main(["--json", "no/rows.json"]) == 2
    assert capsys.readouterr().err.startswith("demo: error: cannot write no/rows.json")


def test_a_target_that_this_machine_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench_layers.main(["--target", "cortex-a53"]) == 2
    assert "benchmarks.layers: error: cannot load the delegate" in capsys.readouterr().err


def test_demo(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    made_model: Callable[[str], Path],
) -> None:
    made_model("small")
    monkeypatch.setattr(demo, "NETWORKS", ("small",))
    path = tmp_path / "table.json"
    assert demo.main(["--rounds", "3", "--json", str(path)]) == 0
    text = capsys.readouterr().out
    assert all(title in text for title in COMPARISON_HEADER)
    assert text.splitlines()[-1].endswith(f"on {Machine.this().describe()}")
    rows = json.loads(path.read_text())
    names = ["LiteRT + XNNPACK", "LiteRT built-in", "leanconv"]
    assert [row["runtime"] for row in rows] == names
    assert rows[2]["max_difference"] < 1e-5
