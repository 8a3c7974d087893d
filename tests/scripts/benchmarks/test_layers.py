"""benchmarks/layers.py and demo.py, with few rounds; and the other libraries' single layers."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from schedules.errors import LeanconvError
from scripts import demo
from scripts.benchmarks import layers as bench_layers
from scripts.benchmarks.harness import runners
from scripts.benchmarks.harness.comparison import built_in_outputs
from scripts.benchmarks.harness.inference import COMPARISON_HEADER, LEANCONV
from scripts.benchmarks.harness.machine import Machine
from scripts.benchmarks.harness.runners import NEEDED, NOT_INSTALLED, ONNX_RUNTIME, XNNPACK
from scripts.models.layers import LAYERS
from tests.support.tflite_writer import Conv, single_conv


def test_the_table_and_the_json_rows(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A library that is not there, and one that computes something else."""
    monkeypatch.setitem(NEEDED, ONNX_RUNTIME, ("not_there",))
    monkeypatch.setattr(bench_layers, "PEERS", ("sunday", ONNX_RUNTIME))
    zeros = runners.Runner(lambda _: None, lambda: None, lambda: [np.zeros((1, 112, 112, 32))])
    monkeypatch.setitem(runners.RUNNERS, "sunday", lambda *_: zeros)
    monkeypatch.setattr(bench_layers, "LAYERS", LAYERS[-1:])
    path = tmp_path / "rows.json"
    assert bench_layers.main(["--rounds", "3", "--json", str(path)]) == 0
    ours, xnnpack, sunday, absent = json.loads(path.read_text())["rows"]
    assert ours["layer"] == str(LAYERS[-1])
    assert ours["algorithms"] == ["indirect"]
    assert ours["ratios"]["min"] == pytest.approx(
        ours["times"]["min_s"] / xnnpack["times"]["min_s"]
    )
    assert ours["speed_up"] > 0 and ours["max_difference"] < 1e-4
    assert sunday["reason"].startswith("it computes something else: ") and not sunday["times"]
    assert absent["reason"] == NOT_INSTALLED
    text = capsys.readouterr().out.splitlines()
    assert text[2].startswith(str(LAYERS[-1]))
    assert f"{LAYERS[-1]}, {ONNX_RUNTIME}: {NOT_INSTALLED}" in text


@pytest.mark.parametrize("kind", NEEDED)
@pytest.mark.parametrize(("size", "channels", "stride"), [(14, 8, 1), (15, 3, 2), (20, 3, 2)])
def test_peers_compute_the_layer(
    kind: str, size: int, channels: int, stride: int, tmp_path: Path
) -> None:
    """Those that are installed; `make peers` installs them."""
    graph = tmp_path / "layer.tflite"
    layer = Conv(16, stride=(stride, stride), activation="relu")
    graph.write_bytes(single_conv((1, size, size, channels), layer))
    if any(importlib.util.find_spec(module) is None for module in NEEDED[kind]):
        with pytest.raises(LeanconvError, match=NOT_INSTALLED):
            runners.prepare(kind, graph, tmp_path)
        return
    inputs, (expected,) = built_in_outputs(graph)
    runners.prepare(kind, graph, tmp_path)
    runner = runners.open_runner(kind, graph, 1, tmp_path)
    runner.set_inputs(inputs)
    runner.invoke()
    got = runner.outputs()[0].reshape(expected.shape)
    np.testing.assert_allclose(got, expected, atol=1e-4 * np.abs(expected).max())


def test_errors_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, message in (
        (["--algorithm", "gemm"], "unknown algorithm 'gemm'"),
        (["--target", "z80"], "unknown target 'z80'"),
        (["--target", "cortex-a53"], "cannot load the delegate"),  # this machine is none
    ):
        assert bench_layers.main(arguments) == 2
        errors = capsys.readouterr().err.splitlines()
        (line,) = [line for line in errors if line.startswith("benchmarks.layers: error: ")]
        assert message in line
    assert demo.main(["--json", "no/rows.json"]) == 2
    assert capsys.readouterr().err.startswith("demo: error: cannot write no/rows.json")


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
    written = json.loads(path.read_text())
    assert Machine(**written["machine"]) == Machine.this()
    names = [XNNPACK, "LiteRT built-in", LEANCONV]
    assert [row["runtime"] for row in written["rows"]] == names
    assert written["rows"][2]["max_difference"] < 1e-5
