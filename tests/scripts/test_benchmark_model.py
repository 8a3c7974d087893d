"""benchmark_model.py: the lines that other programs read, its flags, and every error."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import benchmark_model
from benchmarking import Timing
from inference import random_inputs
from tests.conftest import Compiled
from tvmc.interpreter import Session, runtime

NUMBER = r"[0-9.e+]+"
COUNT_LINE = (
    rf"INFO: count=\d+ first=\d+ curr=\d+ min=\d+ max=\d+ avg={NUMBER} std=\d+ "
    r"p5=\d+ median=\d+ p95=\d+"
)
QUICK = ("--num_runs=5", "--min_secs=0", "--max_secs", "5")


@pytest.fixture
def graph(shared_models: Path) -> Path:
    return shared_models / "resnet8_cifar10_float.tflite"


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert benchmark_model.main([*map(str, arguments), *QUICK]) == 0
    return capsys.readouterr().out


def test_the_lines_of_the_c_plus_plus_tool(capsys: pytest.CaptureFixture[str], graph: Path) -> None:
    text = run(capsys, "--graph", graph)
    for line in (
        r"INFO: STARTING!",
        rf"INFO: Graph: \[{re.escape(str(graph))}\]",
        rf"INFO: Loaded model {re.escape(str(graph))}",
        rf"INFO: The input model file size \(MB\): {NUMBER}",
        rf"INFO: Initialized session in {NUMBER}ms\.",
        r"INFO: Running benchmark for at least 5 iterations and at least 0 seconds but terminate "
        r"if exceeding 5 seconds\.",
        rf"INFO: Inference timings in us: Init: \d+, First inference: \d+, "
        rf"Warmup \(avg\): {NUMBER}, Inference \(avg\): {NUMBER}",
        rf"INFO: Memory footprint delta from the start of the tool \(MB\): init={NUMBER} "
        rf"overall={NUMBER}",
    ):
        assert re.search(rf"^{line}$", text, re.MULTILINE), line
    assert len(re.findall(rf"^{COUNT_LINE}$", text, re.MULTILINE)) == 2


def test_statistics_of_equal_samples_have_the_short_form() -> None:
    assert benchmark_model.statistics_line(Timing((2e-6, 2e-6))) == "count=2 curr=2"


def test_both_ways_to_write_flags(capsys: pytest.CaptureFixture[str], graph: Path) -> None:
    run(capsys, f"--graph={graph}", "--use_xnnpack=false", "--num_threads=2")
    run(capsys, "--graph", graph, "--use_xnnpack", "true", "--num_threads", "2")


def test_inputs_from_files_and_outputs_to_a_file(
    capsys: pytest.CaptureFixture[str], graph: Path, tmp_path: Path
) -> None:
    session = Session(graph, runtime("litert"))
    name = session.inputs()[0]["name"]
    values = random_inputs(session, seed=7)
    raw = tmp_path / "input.raw"
    raw.write_bytes(values[0].tobytes())
    run(
        capsys,
        *("--graph", graph, "--output_filepath", tmp_path / "output.raw"),
        *("--input_layer_value_files", f"{name.replace(':', '::')}:{raw}"),
    )
    output = np.frombuffer((tmp_path / "output.raw").read_bytes(), np.float32)
    np.testing.assert_array_equal(output, session.run(values)[0].ravel())


def test_op_profile(
    capsys: pytest.CaptureFixture[str],
    graph: Path,
    compile_model: Callable[..., Compiled],
    tmp_path: Path,
) -> None:
    compiled = compile_model(graph)
    figures = tmp_path / "figures.json"
    text = run(
        capsys,
        *("--graph", graph, "--enable_op_profiling", "--json", figures),
        *("--external_delegate_path", compiled.library),
    )
    layers = [layer for layer in compiled.report["layers"] if layer["claimed"]]
    assert len(layers) == 10
    for layer in layers:
        # A fully-connected layer is a 1x1 convolution there.
        geometry = layer["geometry"].replace("dense ", "conv1x1 1x1x")
        assert f"leanconv/{layer['algorithm']} {geometry}" in text
    assert "Number of nodes executed" in text
    written = json.loads(figures.read_text())
    assert {row["name"].split(" ")[0] for row in written["profile"]} >= {"leanconv/indirect"}
    assert all(row["avg_s"] > 0 for row in written["profile"])
    assert written["delegate"]["claimed"] == 10
    assert written["arena_bytes"] > 0


@pytest.mark.parametrize("name", ["litert", "tensorflow"])
def test_compare(
    capsys: pytest.CaptureFixture[str],
    graph: Path,
    compile_model: Callable[..., Compiled],
    tmp_path: Path,
    name: str,
) -> None:
    compiled = compile_model(graph)
    figures = tmp_path / "figures.json"
    text = run(
        capsys,
        *("--graph", graph, "--compare", "--json", figures, "--runtime", name),
        *("--external_delegate_path", compiled.library),
        *("--external_delegate_options", "num_threads:1;verbose:0"),
    )
    runtimes = ["LiteRT", "TensorFlow"]["litert" != name]
    rows: list[dict[str, Any]] = json.loads(figures.read_text())["results"]
    names = [f"{runtimes} + XNNPACK", f"{runtimes} built-in", "leanconv"]
    assert [row["runtime"] for row in rows] == names
    for row in rows:
        assert row["runtime"] in text
        assert 0 < row["min_s"] <= row["p25_s"] <= row["median_s"]
        assert row["heap_bytes"] is None or row["heap_bytes"] > 0
        assert row["max_difference"] < 1e-4
    assert rows[0]["ratio_of_minima"] == rows[0]["ratio_of_medians"] == 1.0
    assert rows[2]["packed_bytes"] >= 300_000  # the model has 77,360 convolution weights


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: --graph"),
        (["--graph", "no.tflite"], "there is no file no.tflite"),
        (["--graph", "{graph}", "--frobnicate"], "unrecognized arguments: --frobnicate"),
        (
            ["--graph", "{graph}", "--num_runs=0"],
            "--num_runs: '0' is not a number above 0",
        ),
        (["--graph", "{graph}", "--num_threads=0"], "argument --num_threads: '0' is not"),
        (["--graph", "{graph}", "--use_xnnpack=maybe"], "'maybe' is neither true nor false"),
        (["--graph", "{graph}", "--external_delegate_path", "no.so"], "there is no file no.so"),
        (["--graph", "{graph}", "--external_delegate_path", "{graph}"], "cannot load the delegate"),
        (["--graph", "{graph}", "--external_delegate_options", "a"], "'a' is not key:value"),
        (["--graph", "{graph}", "--input_layer_value_files", "a:b"], "there is no input 'a'"),
        (["--graph", "{graph}", "--input_layer_value_files", "a"], "'a' is not NAME:FILE"),
        (["--graph", "{graph}", "--input_layer_value_files", "{input}:no"], "cannot read no"),
        (["--graph", "{graph}", "--input_layer_value_files", "{input}:{graph}"], "bytes, input"),
        (["--graph", "{graph}", "--output_filepath", "no/out"], "there is no folder no"),
        (["--graph", "{graph}", "--json", "."], "not a regular file"),
        (["--graph", "{text}"], "LiteRT cannot run"),
    ],
)
def test_every_error_is_one_line(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    graph: Path,
    arguments: list[str],
    message: str,
) -> None:
    text = tmp_path / "text.tflite"
    text.write_text("this is no model")
    monkeypatch.chdir(tmp_path)
    name = Session(graph, runtime("litert")).inputs()[0]["name"]
    filled = [a.format(graph=graph, text=text, input=name.replace(":", "::")) for a in arguments]
    capsys.readouterr()
    try:
        status = benchmark_model.main(filled)
    except SystemExit as stop:
        status = stop.code  # type: ignore[assignment]
    errors = capsys.readouterr().err.splitlines()
    ours = [line for line in errors if line.startswith("benchmark_model: error: ")]
    assert status == 2
    assert len(ours) == 1, errors
    assert message in ours[0]


def test_unknown_delegate_options_are_named(
    graph: Path, compile_model: Callable[..., Compiled]
) -> None:
    """In a process of its own: the runtime leaves the failed delegate to its destructor."""
    script = Path(benchmark_model.__file__)
    command = [sys.executable, str(script), "--graph", str(graph), *QUICK]
    command += ["--external_delegate_path", str(compile_model(graph).library)]
    command += ["--external_delegate_options", "speed:11"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2, done
    assert "Traceback" not in done.stderr
    assert "speed" in done.stderr
