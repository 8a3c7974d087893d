"""The tvmc command: what it prints, writes and refuses."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

import schedules
import tvmc
from schedules.algorithms import REGISTRY
from schedules.errors import LeanconvError
from schedules.target.simd import PRESETS
from scripts.models.layers import LAYERS
from tests.conftest import Compiled
from tvmc.cli import main
from tvmc.running.interpreter import Session, runtime

RunTvmc = Callable[..., subprocess.CompletedProcess[str]]

LAYER_KEYS = {
    *("index", "op", "geometry", "claimed", "algorithm", "knobs", "workspace_bytes"),
    *("weight_bytes", "packed_bytes", "macs", "kernel_macs", "expected_error"),
    *("why", "rejected", "reason", "nodes", "block", "thread_bytes"),
    *("tuning", "seconds", "precision", "embedded"),
}


@pytest.fixture
def small(made_model: Callable[[str], Path]) -> Path:
    """Layers of every kind."""
    return made_model("small")


@pytest.fixture
def graph(made_model: Callable[[str], Path]) -> Path:
    """One convolution, of stride 2: the least that can be compiled."""
    return made_model(LAYERS[-1].name)


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit status, standard output and standard error, in this process."""
    try:
        status = main([str(argument) for argument in arguments])
    except SystemExit as stop:
        status = int(stop.code or 0)
    output = capsys.readouterr()
    return status, output.out, output.err


# What it does


def test_compile_writes_a_delegate_and_a_report(
    run_tvmc: RunTvmc, small: Path, tmp_path: Path
) -> None:
    library, report_file = tmp_path / "libsmall.so", tmp_path / "report.json"
    done = run_tvmc(
        *("compile", small, "--target", "host", "--output-format", "delegate"),
        *("-o", library, "--report", report_file, "--verbose"),
    )
    assert done.returncode == 0, done.stderr
    assert sorted(os.listdir(tmp_path)) == ["libsmall.so", "report.json"]

    report = json.loads(report_file.read_text())
    assert report["model"] == "small.tflite"
    assert (report["target"], report["leanconv"]) == ("host", schedules.__version__)
    assert report["library_bytes"] == library.stat().st_size
    assert [layer["op"] for layer in report["layers"]] == [
        *("CONV_2D", "DEPTHWISE_CONV_2D", "CONV_2D", "CONV_2D", "CONV_2D", "FULLY_CONNECTED")
    ]
    assert [layer["index"] for layer in report["layers"]] == sorted(
        layer["index"] for layer in report["layers"]
    )
    for layer in report["layers"]:
        assert set(layer) == LAYER_KEYS
        assert (layer["claimed"], layer["reason"]) == (True, None)
        assert layer["algorithm"] in REGISTRY.names()
        assert layer["index"] in layer["nodes"]
        assert layer["macs"] > 0
        assert layer["weight_bytes"] > 0
        in_place = layer["algorithm"] == "depthwise"
        assert (layer["packed_bytes"] == 0) == in_place
        # The table for people says the same.
        assert layer["geometry"] in done.stdout
    assert set(report["between"].values()) == {"MEAN", "SOFTMAX"}
    assert report["left"] == []
    assert report["objective"] == "time"
    assert report["peak_bytes"] > 32 * 32 * 3 * 4
    assert "6 of 6 layers for host" in done.stdout

    steps = done.stderr.splitlines()
    assert steps[0].startswith("[0/7] ")
    assert steps[-1].startswith("[7/7] ")

    session = Session(small, runtime("litert"), delegate=library)
    delegate = session.report()
    assert delegate is not None
    assert delegate["claimed"] == 6


def test_every_named_algorithm_is_compiled_in(
    made_model: Callable[[str], Path], compile_model: Callable[..., Compiled]
) -> None:
    graph = made_model(LAYERS[2].name)
    compiled = compile_model(graph, algorithms=list(REGISTRY.names()))
    library, names = compiled.library, compiled.report["algorithms"]
    assert {"indirect", "winograd"} < set(names)
    for name in names:
        options = {"algorithm": name}
        session = Session(graph, runtime("litert"), delegate=library, delegate_options=options)
        report = session.report()
        assert report is not None
        assert {layer["algorithm"] for layer in report["layers"]} == {name}


def test_sources_for_cmake(run_tvmc: RunTvmc, graph: Path, tmp_path: Path) -> None:
    folder = tmp_path / "sources"
    done = run_tvmc(
        "compile", graph, "--target", "cortex-a53-android", "-f", "delegate-source", "-o", folder
    )
    assert done.returncode == 0, done.stderr
    assert os.listdir(tmp_path) == ["sources"]
    names = set(os.listdir(folder))
    assert {"CMakeLists.txt", "kernel_table.c", "delegate.c", "exports.map"} <= names
    assert any(name.endswith(".o") for name in names)


def test_the_library_function_tells_its_progress(graph: Path, tmp_path: Path) -> None:
    steps: list[tuple[int, int, str]] = []
    tvmc.compile(graph, output=tmp_path / "a.so", progress=lambda *step: steps.append(step))
    assert [done for done, _, _ in steps] == sorted(done for done, _, _ in steps)
    assert steps[-1][0] == steps[-1][1]


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    versions = f"tvmc (leanconv) {schedules.__version__}, TVM {version('apache-tvm')}\n"
    assert call(capsys, "--version") == (0, versions, "")
    for arguments in ([], ["compile"], ["targets"], ["algorithms"]):
        status, text, _ = call(capsys, *arguments, "--help")
        assert status == 0
        assert "usage: tvmc" in text


def test_lists(capsys: pytest.CaptureFixture[str]) -> None:
    status, text, _ = call(capsys, "targets")
    assert status == 0
    assert {line.split()[0] for line in text.splitlines() if line} >= {"host", *PRESETS}
    status, listed, errors = call(capsys, "algorithms")
    assert (status, errors) == (0, "")
    assert [line.split()[0] for line in listed.splitlines()[2:]] == [
        *(known.name for known in REGISTRY),
    ]


def test_what_needs_no_compiler_does_not_load_one() -> None:
    """`tvmc --help` answers at once: TVM and numpy take a second to import."""
    code = "import sys, tvmc.cli; print({'tvm', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr


@pytest.mark.parametrize(
    "module",
    ["tvmc.running.tflite_run", "tvmc.running.memory", "scripts.benchmarks.harness.held.memory"],
)
def test_what_runs_a_model_does_not_load_tvm(module: str) -> None:
    """Its import would be most of such a process's time, and of the memory that it measures."""
    code = f"import sys, {module}; print({{'tvm', 'tensorflow'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr


def test_torch_is_left_out(tmp_path: Path) -> None:
    """TVM imports it wherever it is installed: a second, for nothing."""
    module = tmp_path / "torch.py"
    module.write_text("raise SystemExit('torch is imported')")
    paths = f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"
    command = [sys.executable, "-m", "tvmc", "algorithms"]
    subprocess.run(command, env={**os.environ, "PYTHONPATH": paths}, check=True)


def test_a_reader_that_stops_early_is_no_error() -> None:
    command = f"{sys.executable} -m tvmc targets | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.stderr == ""


# What it refuses


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["frobnicate"], "invalid choice: 'frobnicate'"),
        (["compile", "{graph}"], "the following arguments are required: -o/--output"),
        (["compile", "{graph}", "-o", "a.so", "--frob"], "unrecognized arguments: --frob"),
        (["compile", "{graph}", "-o", "a.so", "-f", "mlf"], "invalid choice: 'mlf'"),
        (["compile", "{graph}", "-o", "a.so", "--jobs", "0"], "'0' is not a number above 0"),
        (["compile", "{graph}", "-o", "a.so", "--jobs", "x"], "'x' is not a number above 0"),
        (["compile", "{graph}", "-o", "a.so", "--algorithm", ","], "is not NAME or NAME,NAME"),
        (["compile", "{graph}", "-o", "a.so", "--algorithm", "gemm"], "unknown algorithm 'gemm'"),
        (["compile", "{graph}", "-o", "a.so", "--algorithm", "winograd"], "needs stride 1"),
        (["compile", "{graph}", "-o", "a.so", "--target", "z80"], "unknown target 'z80'"),
        (["compile", "{graph}", "-o", "a.so", "--target", "{{"], "is not valid JSON"),
        (["compile", "{graph}", "-o", "a.so", "--target", "llvm -mcpu"], "not of the form"),
        (["compile", "{graph}", "-o", "a.so", "--cc", ""], "the compiler's command is empty"),
        (["compile", "{graph}", "-o", "a.so", "--cc", "no-such-cc"], "was not found"),
        (["compile", "{graph}", "-o", "a.so", "--cc", "false"], "false failed"),
        (["compile", "{graph}", "-o", "no/a.so"], "there is no folder no"),
        (["compile", "{graph}", "-o", "{graph}/a.so"], "there is no folder"),
        (["compile", "{graph}", "-o", "."], "not a regular file"),
        (["compile", "{graph}", "-o", "/dev/full"], "not a regular file"),
        (["compile", "{graph}", "-o", "{graph}"], "it is the model"),
        (["compile", "{graph}", "-o", "a.so", "--report", "no/r"], "there is no folder no"),
        (["compile", "{graph}", "-o", "a.so", "--report", "/dev/full"], "not a regular file"),
        (["compile", "{graph}", "-o", "a.so", "--report", "a.so"], "both the output and the"),
        (["compile", "{graph}", "-o", "a.so", "--report", "{graph}"], "it is the model"),
        (["compile", "{graph}", "-o", "full", "-f", "delegate-source"], "did not write"),
        (["compile", "{graph}", "-o", "no/a", "-f", "delegate-source"], "no folder"),
        (["compile", "no.tflite", "-o", "a.so"], "no.tflite does not exist"),
        (["compile", ".", "-o", "a.so"], "is a directory"),
        (["compile", "empty.tflite", "-o", "a.so"], "empty.tflite is empty"),
        (["compile", "text.tflite", "-o", "a.so"], "is not a .tflite model"),
        (["compile", "cut.tflite", "-o", "a.so"], "cut.tflite is damaged"),
    ],
)
def test_every_error_is_one_line_and_leaves_nothing(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    graph: Path,
    arguments: list[str],
    message: str,
) -> None:
    model = tmp_path / "model.tflite"
    model.write_bytes(graph.read_bytes())
    (tmp_path / "empty.tflite").touch()
    (tmp_path / "text.tflite").write_text("this is no model")
    (tmp_path / "cut.tflite").write_bytes(graph.read_bytes()[:100])
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious.txt").touch()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    monkeypatch.chdir(tmp_path)
    filled = [argument.format(graph=model) for argument in arguments]

    status, _, errors = call(capsys, *filled)

    assert status == 2
    assert errors.startswith("tvmc: error: ")
    assert errors.count("\n") == 1, errors
    assert message in errors
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    assert model.read_bytes() == graph.read_bytes()


def test_a_full_disk_is_one_line(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    graph: Path,
) -> None:
    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    status, _, errors = call(
        capsys, "compile", graph, "-o", tmp_path / "a.so", "--report", tmp_path / "r.json"
    )
    assert status == 2
    assert errors.count("\n") == 1
    assert "No space left on device" in errors
    assert not list(tmp_path.glob("*.json"))


def test_a_folder_without_permission_is_one_line(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    graph: Path,
) -> None:
    def refused(*_arguments: Any, **_options: Any) -> None:
        raise PermissionError(13, "Permission denied")

    # Not by chmod: nothing is forbidden to root, as whom containers run tests.
    monkeypatch.setattr("schedules.files.tempfile.NamedTemporaryFile", refused)
    status, _, errors = call(capsys, "compile", graph, "-o", tmp_path / "a.so")
    assert (status, errors) == (
        2,
        f"tvmc: error: cannot write {tmp_path / 'a.so'}: Permission denied\n",
    )


def test_the_library_function_names_a_wrong_format(graph: Path, tmp_path: Path) -> None:
    with pytest.raises(LeanconvError, match="unknown output format 'mlf'"):
        tvmc.compile(graph, output=tmp_path / "a", output_format="mlf")


def test_ctrl_c_ends_it_at_once_and_cleanly(graph: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tvmc", "compile", str(graph), "-v"]
    process = subprocess.Popen(
        [*command, "-o", str(tmp_path / "a.so"), "--jobs", "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # What is started in a shell's background inherits that the signal is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stderr is not None
    first = process.stderr.readline()
    assert first.startswith("[0/"), first
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to every process of the command
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "tvmc: interrupted"
    assert "Traceback" not in errors
    assert os.listdir(tmp_path) == []


def test_damaged_models_never_end_in_a_traceback(
    capsys: pytest.CaptureFixture[str], graph: Path, tmp_path: Path
) -> None:
    """Few here; the tests of the reader go through thousands."""
    rng = random.Random(0)
    original = graph.read_bytes()
    damaged = tmp_path / "damaged.tflite"
    for _ in range(40):
        data = bytearray(original[: rng.choice([len(original), rng.randrange(len(original))])])
        for _ in range(rng.randrange(1, 30)):
            data[rng.randrange(min(len(data), 4000))] = rng.randrange(256)
        damaged.write_bytes(data)
        # Where the damage is harmless, the compiler fails.
        arguments = ("compile", damaged, "-o", tmp_path / "a.so", "--cc", "false", "--jobs", 1)
        status, _, errors = call(capsys, *arguments)
        assert status == 2
        assert errors.startswith("tvmc: error: ")
        assert errors.count("\n") == 1, errors
