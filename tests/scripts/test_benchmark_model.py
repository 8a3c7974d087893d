"""benchmark_model.py: the lines that other programs read, its flags, and every error."""

from __future__ import annotations

import json
import re
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scripts import benchmark_model
from scripts.benchmarks.harness.inference import random_inputs
from scripts.benchmarks.harness.interleaving import Timing
from scripts.processes import module_command, module_environment
from scripts.tflite_benchmark import flags as benchmark_flags
from tests.conftest import Compiled
from tests.support.tflite_writer import Conv, single_conv
from tests.tflite_delegate.csrc.test_subgraphs import X, two_signatures
from tvmc.running.interpreter import Session, runtime

NUMBER = r"[0-9.e+]+"
COUNT_LINE = (
    rf"INFO: count=\d+ first=\d+ curr=\d+ min=\d+ max=\d+ avg={NUMBER} std=\d+ "
    r"p5=\d+ median=\d+ p95=\d+"
)
QUICK = ("--num_runs=5", "--min_secs=0", "--max_secs", "5")


@pytest.fixture
def graph(trained_models: Path) -> Path:
    return trained_models / "resnet8_float.tflite"


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
        assert text.count(f"leanconv/{layer['algorithm']}/{geometry}") >= 1
    assert "Number of nodes executed" in text
    written = json.loads(figures.read_text())
    assert "leanconv/indirect" in {row["name"].rsplit("/", 1)[0] for row in written["profile"]}
    assert not any(row["name"].count("leanconv") > 1 for row in written["profile"])
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
        (
            ["--graph", "{graph}", "--num_runs=0"],
            "--num_runs: '0' is not a number above 0",
        ),
        (["--graph", "{graph}", "--num_threads=0"], "argument --num_threads: '0' is not"),
        (
            ["--graph", "{graph}", "--require_full_delegation", "--use_xnnpack=false"],
            "Disallowed CPU fallback detected: ",
        ),
        (["--graph", "{graph}", "--signature_to_run_for=x"], "there is no signature 'x'"),
        (["--graph", "{graph}", "--compare", "--signature_to_run_for=x"], "runs the main graph"),
        (["--graph", "{graph}", "--op_profiling_output_mode=xml"], "'xml' is not one of stdout"),
        (["--graph", "{graph}", "--op_profiling_output_mode=proto"], "needs --op_profiling_output"),
        (["--graph", "{graph}", "--input_layer=a"], "are not of the model's 1 inputs"),
        (
            ["--graph", "{graph}", "--input_layer=a", "--input_layer_shape=1,x"],
            "--input_layer_shape: '1,x' is no shape",
        ),
        (
            ["--graph", "{graph}", "--input_layer=a", "--input_layer_shape=1,2"],
            "'1,2' is not of 4 dimensions",
        ),
        (["--graph", "{graph}", "--input_layer_value_range=a,1"], "'a,1' is not NAME,LOW,HIGH"),
        (["--graph", "{graph}", "--input_layer_value_range=a,2,1"], "2 is above 1"),
        (["--graph", "{graph}", "--input_layer_value_range=a,1,2"], "there is no input 'a'"),
        (["--graph", "{graph}", "--result_file_path", "no/out"], "there is no folder no"),
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
    command = module_command("scripts.benchmark_model", "--graph", graph, *QUICK)
    command += ["--external_delegate_path", str(compile_model(graph).library)]
    command += ["--external_delegate_options", "speed:11"]
    environment = module_environment()
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 2, done
    assert "Traceback" not in done.stderr
    assert "speed" in done.stderr


def test_flags_of_the_c_plus_plus_tool(capsys: pytest.CaptureFixture[str], graph: Path) -> None:
    """All are taken; those that do nothing here, and those that nobody knows, say so and go on."""
    names = [*benchmark_flags.WITHOUT_EFFECT, *benchmark_flags.NOT_HONOURED]
    all_names = {"graph", "help", *(flag.name for flag in benchmark_flags.HONOURED), *names}
    assert len(all_names) > 75
    given = [f"--{name}=1" for name in names]
    assert benchmark_model.main(["--graph", str(graph), "--dry_run", *given, "--frobnicate=3"]) == 0
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if line.startswith("WARNING: ")]
    warned = {line.split()[1].removeprefix("--") for line in lines[:-1]}
    assert warned == set(benchmark_flags.NOT_HONOURED)
    assert lines[-1] == "WARNING: Unconsumed cmdline flags: --frobnicate=3"
    assert "count=" not in captured.out, "nothing has run"


def test_full_delegation(
    capsys: pytest.CaptureFixture[str], graph: Path, compile_model: Callable[..., Compiled]
) -> None:
    arguments = ["--graph", graph, "--external_delegate_path", compile_model(graph).library]
    arguments += ["--require_full_delegation", "--num_threads=-1"]
    assert benchmark_model.main([*map(str, arguments), *QUICK]) == 2
    assert "13 nodes (leanconv's option one_node:1 makes" in capsys.readouterr().err
    run(capsys, *arguments, "--external_delegate_options=one_node:1")


def fields(data: bytes) -> dict[int, list[Any]]:
    """The fields of a protocol buffer by number, as the encoding's specification has them."""

    def varint() -> int:
        value = shift = 0
        while True:
            byte = next(stream)
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    stream = iter(data)
    found: dict[int, list[Any]] = {}
    while True:
        try:
            key = varint()
        except StopIteration:
            return found
        if key & 7 == 0:
            value: Any = varint()
        else:
            count = 4 if key & 7 == 5 else varint()
            value = bytes(next(stream) for _ in range(count))
            value = struct.unpack("<f", value)[0] if key & 7 == 5 else value
        found.setdefault(key >> 3, []).append(value)


def test_result_file(capsys: pytest.CaptureFixture[str], graph: Path, tmp_path: Path) -> None:
    result, figures = tmp_path / "result.pb", tmp_path / "figures.json"
    text = run(
        capsys,
        *("--graph", graph, "--result_file_path", result, "--json", figures),
        *("--report_peak_memory_footprint", "--memory_footprint_check_interval_ms=5"),
    )
    written = json.loads(figures.read_text())
    (latency,), (memory,), (misc,) = (fields(result.read_bytes())[i] for i in (2, 3, 4))
    milliseconds = {number: value for number, (value,) in fields(latency).items()}
    assert sorted(milliseconds) == [*range(1, 11)]
    names = {
        1: "inference_avg_s", 2: "min_s", 5: "median_s", 7: "p95_s", 8: "init_s",
        9: "first_inference_s", 10: "warmup_avg_s",
    }  # fmt: skip
    for number, name in names.items():
        assert milliseconds[number] == pytest.approx(written[name] * 1e3, rel=1e-6)
    assert milliseconds[2] <= milliseconds[6] <= milliseconds[5] <= milliseconds[3]
    (peak,) = fields(memory)[3]
    assert peak == pytest.approx(written["peak_rss_bytes"] / 2**20, rel=1e-6)
    assert fields(misc)[2] == [5]
    assert fields(misc)[1] == [pytest.approx(graph.stat().st_size / 1e6)]
    assert "Overall peak memory footprint (MB) via periodic monitoring: " in text


def test_profiles_as_files(capsys: pytest.CaptureFixture[str], graph: Path, tmp_path: Path) -> None:
    csv, proto = tmp_path / "profile.csv", tmp_path / "profile.pb"
    common = ("--graph", graph, "--enable_op_profiling", "--use_xnnpack=false")
    run(capsys, *common, "--profiling_output_csv_file", csv)
    run(capsys, *common, "--op_profiling_output_mode=proto", "--op_profiling_output_file", proto)
    lines = csv.read_text().splitlines()
    start = lines.index("node type, first, avg_ms, %, cdf%, mem KB, times called, name") + 1
    rows = lines[start : lines.index("", start)]
    (part,) = as_litert_reads_it(proto)["runtime_profile"]["subgraph_profiles"]
    ops = part["per_op_profiles"]
    assert [row.split(", ")[0] for row in rows] == [op["node_type"] for op in ops]
    assert rows[0].startswith("CONV_2D, ")
    assert [int(op.get("run_order", 0)) for op in ops] == [*range(len(rows))]
    for op in ops:
        times = op["inference_microseconds"]
        assert int(times["count"]) == 5
        assert int(times["min"]) <= int(times["avg"]) <= int(times["max"])
        assert op["name"].startswith("[")


def as_litert_reads_it(profile: Path) -> dict[str, Any]:
    """In a process of its own: TensorFlow and LiteRT register the same messages."""
    code = (
        "import sys, google.protobuf.json_format as j, ai_edge_litert.profiling_info_pb2 as p;"
        "data = p.BenchmarkProfilingData.FromString(open(sys.argv[1], 'rb').read());"
        "print(j.MessageToJson(data, preserving_proto_field_name=True))"
    )
    command = [sys.executable, "-c", code, str(profile)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    read: dict[str, Any] = json.loads(said)
    return read


def test_outputs_as_an_example(
    capsys: pytest.CaptureFixture[str], graph: Path, tmp_path: Path
) -> None:
    raw, proto = tmp_path / "out.raw", tmp_path / "out.pb"
    run(capsys, "--graph", graph, "--output_filepath", raw, "--output_proto_filepath", proto)
    (features,) = fields(proto.read_bytes())[1]
    (entry,) = fields(features)[1]
    (name,), (feature,) = (fields(entry)[i] for i in (1, 2))
    (values,) = fields(fields(feature)[2][0])[1]
    (output,) = Session(graph, runtime("litert")).interpreter.get_output_details()
    assert name.decode() == output["name"]
    assert values == raw.read_bytes()


def test_signatures(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path, output = tmp_path / "two.tflite", tmp_path / "out.raw"
    path.write_bytes(two_signatures())
    assert benchmark_model.main(["--graph", str(path), *QUICK]) == 2
    assert "--signature_to_run_for: first, second" in capsys.readouterr().err
    text = run(capsys, "--graph", path, "--list_signatures")
    assert "INFO: -> Signature Key: second" in text
    x = np.ones(X, np.float32)
    (tmp_path / "x.raw").write_bytes(x.tobytes())
    for key in ("first", "second"):
        text = run(
            capsys,
            *("--graph", path, "--signature_to_run_for", key, "--output_filepath", output),
            *("--input_layer_value_files", f"tensor_0:{tmp_path / 'x.raw'}"),
        )
        assert f"INFO: Using signature: {key}" in text
        runner = Session(path, runtime("litert")).interpreter.get_signature_runner(key)
        (expected,) = runner(tensor_0=x).values()
        assert np.array_equal(np.frombuffer(output.read_bytes(), np.float32), expected.ravel())


def test_shapes_of_inputs(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    model, output = tmp_path / "model.tflite", tmp_path / "out.raw"
    model.write_bytes(single_conv((1, 8, 8, 3), Conv(5)))
    shape = ("--input_layer", "whatever", "--input_layer_shape", "3,8,8,3")
    run(capsys, "--graph", model, *shape, "--output_filepath", output)
    assert output.stat().st_size == 3 * 8 * 8 * 5 * 4


@pytest.mark.parametrize("xnnpack_first", [True, False])
def test_order_of_delegates(
    capsys: pytest.CaptureFixture[str],
    graph: Path,
    compile_model: Callable[..., Compiled],
    xnnpack_first: bool,
) -> None:
    flags = ["--use_xnnpack=true", f"--external_delegate_path={compile_model(graph).library}"]
    ordered = flags if xnnpack_first else flags[::-1]
    assert benchmark_model.main(["--graph", str(graph), "--dry_run", *ordered]) == 0
    warned = "the C++ tool would apply XNNPACK first" in capsys.readouterr().err
    assert warned == xnnpack_first
