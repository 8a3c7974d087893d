"""benchmarks/networks.py on a tiny network: table, rows, pictures, what is missing, its parts."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schedules.errors import LeanconvError
from schedules.target.simd import Simd
from schedules.tuning.records.records import Log
from scripts.benchmarks import networks as bench_networks
from scripts.benchmarks.harness import runners as network_runners
from scripts.benchmarks.harness.inference import LEANCONV, max_difference, random_inputs
from scripts.benchmarks.harness.node_times import describe, seconds_by_operator, single_nodes
from scripts.benchmarks.harness.runners import (
    BUILT_IN,
    MNN,
    NCNN,
    NEEDED,
    NOT_INSTALLED,
    ONE_DNN,
    ONNX_RUNTIME,
    RUNNERS,
    TENSORFLOW,
    TUNED,
    XNNPACK,
)
from scripts.benchmarks.networks import COLUMNS
from scripts.models import make as make_models
from scripts.models import onnx_export
from tests.support.trials import record
from tflite_delegate.read import model as tflite_model
from tvmc.running.interpreter import Session, runtime

MODULES = {kind: NEEDED[kind] for kind in (NCNN, MNN, ONNX_RUNTIME)}
#: Without tuning records.
UNTUNED = [name for name in RUNNERS if name not in (TUNED, ONE_DNN, TENSORFLOW)]
ABSENT = {
    name
    for name, modules in MODULES.items()
    if any(importlib.util.find_spec(module) is None for module in modules)
}


def bench(folder: Path, *arguments: str) -> dict[str, Any]:
    path = folder / "rows.json"
    assert bench_networks.main([*arguments, "--rounds", "3", "--json", str(path)]) == 0
    written: dict[str, Any] = json.loads(path.read_text())
    return written


def test_table_rows_and_pictures(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(bench_networks, "BROKEN_DOWN", "small")
    written = bench(tmp_path, "small", "--threads", "1,2", "--svg", str(tmp_path))
    rows = written["rows"]
    assert [(r["network"], r["threads"], r["runtime"]) for r in rows] == [
        ("small", threads, name) for threads in (1, 2) for name in UNTUNED
    ]
    output = capsys.readouterr()
    assert "small: compiling …" in output.err.splitlines()
    header, _, *lines = output.out.splitlines()
    assert [title in header for title in COLUMNS] == [True] * len(COLUMNS)
    for row, line in zip(rows, lines, strict=False):
        assert row["runtime"] in line
        if row["runtime"] in ABSENT:
            assert row["reason"] == NOT_INSTALLED
        else:
            (base,) = (r for r in rows if (r["runtime"], r["threads"]) == (XNNPACK, row["threads"]))
            check_measured(row, base)
    for picture in bench_networks.BENCHMARK.pictures:
        text = (tmp_path / picture).read_text()
        assert all(name in text for name in (*UNTUNED, "small", "1 thread"))
    broken_down = {row["runtime"]: row["operators"] for row in rows if row["operators"]}
    assert list(broken_down) == [XNNPACK, BUILT_IN, LEANCONV]
    assert {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"} <= set(broken_down[LEANCONV])
    assert any("89% in the literature" in line for line in output.out.splitlines())


def check_measured(row: dict[str, Any], base: dict[str, Any]) -> None:
    assert row["reason"] is None
    for figure in ("min", "p25", "median"):
        ratio = row["times"][f"{figure}_s"] / base["times"][f"{figure}_s"]
        assert row["ratios"][figure] == pytest.approx(ratio)
    memory = row["memory"]
    assert 0 < memory["kept_heap_bytes"] <= memory["peak_heap_bytes"]
    assert 0 <= memory["kept_rss_bytes"] <= memory["peak_rss_bytes"]
    is_tflite = row["runtime"] not in MODULES
    assert (memory["arena_bytes"] is not None) == is_tflite
    assert row["max_difference"] < 1e-5
    scales = row["runtime"] in (LEANCONV, XNNPACK) and row["threads"] > 1
    assert (row.get("speed_up") is not None) == scales
    if row["runtime"] != LEANCONV:
        assert row["bound"] is memory["packed_bytes"] is None
        return
    assert row["max_difference"] <= row["bound"] < 1e-2
    assert memory["packed_bytes"] > 0
    assert memory["workspace_bytes"] + memory["packed_bytes"] < memory["peak_heap_bytes"]


def test_choices_reach_the_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An algorithm that needs workspace, with wide panels on record; and no workspace at all."""
    for name in RUNNERS.keys() - {LEANCONV, TUNED, BUILT_IN}:
        monkeypatch.delitem(RUNNERS, name)
    layer = tflite_model.read(make_models.ensure(["small"])[0]).layers[0].workload
    assert layer is not None
    Log(tmp_path).append(record(layer, Simd.named("host"), "im2col_tiled:panel=64", 1.0))

    lowered = ("--algorithm", "im2col_tiled", "--tuning-records", str(tmp_path))
    rows = bench(tmp_path, "small", "--threads", "1", *lowered)["rows"]
    _, untuned, tuned = rows
    assert [row["runtime"] for row in rows] == [BUILT_IN, LEANCONV, TUNED]
    assert untuned["ratios"] is None  # without XNNPACK
    assert untuned["tuned_ratios"]["min"] == 1
    assert untuned["memory"]["workspace_bytes"] > 0
    assert tuned["memory"]["packed_bytes"] > untuned["memory"]["packed_bytes"]
    assert tuned["max_difference"] <= tuned["bound"]
    for figure in ("min", "p25", "median"):
        ratio = tuned["times"][f"{figure}_s"] / untuned["times"][f"{figure}_s"]
        assert tuned["tuned_ratios"][figure] == pytest.approx(ratio)

    _, row = bench(tmp_path, "small", "--threads", "1", "--workspace-limit", "0")["rows"]
    assert (row["runtime"], row["memory"]["workspace_bytes"]) == (LEANCONV, 0)


def test_what_is_missing_or_fails_is_shown_with_the_reason(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """ncnn is not there, ONNX Runtime cannot be given the network, built-in computes zeros."""
    find_spec = importlib.util.find_spec

    def without_ncnn(name: str, *rest: Any) -> Any:
        if name == "ncnn":
            return None
        return object() if name in ("onnx", "onnxruntime") else find_spec(name, *rest)

    def refuse(_graph: Path, _target: Path) -> None:
        raise LeanconvError("WHERE is not exported to ONNX")

    def zeros(graph: Path, threads: int, folder: Path) -> network_runners.Runner:
        runner = real(graph, threads, folder)
        return network_runners.Runner(
            runner.set_inputs, runner.invoke, lambda: [0 * y for y in runner.outputs()]
        )

    monkeypatch.setattr(importlib.util, "find_spec", without_ncnn)
    monkeypatch.setattr(onnx_export, "export", refuse)
    real = RUNNERS[BUILT_IN]
    monkeypatch.setitem(RUNNERS, BUILT_IN, zeros)
    rows = {row["runtime"]: row for row in bench(tmp_path, "small", "--threads", "1")["rows"]}
    reasons = {name: row["reason"] for name, row in rows.items()}
    assert reasons[NCNN] == NOT_INSTALLED
    assert reasons[ONNX_RUNTIME] == "WHERE is not exported to ONNX"
    assert str(reasons[BUILT_IN]).startswith("it computes something else: ")
    assert reasons[LEANCONV] is reasons[XNNPACK] is None
    for name in (NCNN, ONNX_RUNTIME, BUILT_IN):
        assert rows[name]["times"] is rows[name]["ratios"] is None
    text = capsys.readouterr().out.splitlines()
    assert f"small, {ONNX_RUNTIME}: {reasons[ONNX_RUNTIME]}" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nasnet"], "unknown network 'nasnet': one of mobilenet_v1, "),
        (["small", "--algorithm", "gemm"], "unknown algorithm 'gemm': one of auto, "),
    ],
)
def test_errors_are_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench_networks.main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("benchmarks.networks: error: ")
    assert message in line


@pytest.mark.parametrize("arguments", [["--threads", "0"], ["--workspace-limit", "x"]])
def test_numbers_are_checked(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        bench_networks.main(arguments)
    assert exit.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("benchmarks.networks: error: ")


def test_single_nodes_make_up_the_network(
    made_model: Callable[[str], Path], tmp_path: Path
) -> None:
    """Fed with what it gets within the network, each node alone has the same output."""
    graph, litert = made_model("small"), runtime("litert")
    whole = Session(graph, litert, xnnpack=False, keep_tensors=True)
    whole.run(random_inputs(whole))
    tensor = whole.interpreter.get_tensor
    nodes = whole.interpreter._get_ops_details()
    parts = list(single_nodes(graph))
    assert [name for name, _ in parts] == [node["op_name"] for node in nodes]
    for node, (_, data) in zip(nodes, parts, strict=True):
        path = tmp_path / "node.tflite"
        path.write_bytes(data)
        alone = Session(path, litert, xnnpack=False)
        by_name = {d["name"]: d["index"] for d in whole.interpreter.get_tensor_details()}
        values = [tensor(by_name[details["name"]]) for details in alone.inputs()]
        assert max_difference(alone.run(values), [tensor(node["outputs"][0])]) == 0


def test_time_by_operator(made_model: Callable[[str], Path], tmp_path: Path) -> None:
    seconds = seconds_by_operator(made_model("small"), tmp_path, [XNNPACK], 3)
    assert all(value > 0 for value in seconds[XNNPACK].values())
    text = describe({"a": {"CONV_2D": 2e-3, "FULLY_CONNECTED": 1e-3, "SOFTMAX": 1e-3}})
    assert "CONV_2D             2  50.0%" in text
    assert "fully-connected layers: 75.0% (a); 89% in the literature" in text


def test_exported_operators(made_model: Callable[[str], Path], tmp_path: Path) -> None:
    """Every operator of the networks and those of `small`, where ONNX Runtime is installed."""
    if ONNX_RUNTIME in ABSENT:
        with pytest.raises(LeanconvError, match=NOT_INSTALLED):
            network_runners.prepare(ONNX_RUNTIME, made_model("small"), tmp_path)
        return
    litert = runtime("litert")
    for name in ("small", "mobilenet_v3_small", "googlenet"):
        folder = tmp_path / name
        folder.mkdir()
        graph = made_model(name)
        built_in = Session(graph, litert, xnnpack=False)
        (image,) = random_inputs(built_in)
        (expected,) = built_in.run([image])
        for kind in MODULES.keys() - ABSENT:
            network_runners.prepare(kind, graph, folder)
            runner = RUNNERS[kind](graph, 1, folder)
            runner.set_inputs([image])
            runner.invoke()
            np.testing.assert_allclose(
                runner.outputs()[0].ravel(), expected.ravel(), atol=1e-3 * expected.max()
            )


def summed(network: str, runtime: str, ratio: float, tuned: float | None = None) -> dict[str, Any]:
    row = {"network": network, "threads": 1, "runtime": runtime, "times": {"min_s": 2e-3 * ratio}}
    figures = ("min", "p25", "median")
    row["ratios"] = dict.fromkeys(figures, ratio)
    row["tuned_ratios"] = tuned and dict.fromkeys(figures, tuned)
    return row


def test_one_line_a_network_and_the_mean() -> None:
    rows = [
        summed("a", XNNPACK, 1.0), summed("a", LEANCONV, 0.5), summed("a", TUNED, 0.25, 0.5),
        summed("b", XNNPACK, 1.0), summed("b", LEANCONV, 2.0), summed("b", TUNED, 0.25, 0.125),
    ]  # fmt: skip
    _, _, *lines = bench_networks.summary(rows).splitlines()
    assert [line.split() for line in lines] == [
        ["a", "1", "1", "2", "0.500", "0.500", "-", "-", "0.250", *"----", "0.500", "0.500"],
        ["b", "1", "4", "2", "2.000", "2.000", "-", "-", "0.250", *"----", "0.125", "0.125"],
        ["geometric", "mean", "1", "-", "-", "1.000", "1.000", "-", "-", "0.250", *"----", "0.250",
         "0.250"],
    ]  # fmt: skip
    assert len(bench_networks.summary(rows[:3]).splitlines()) == 3
