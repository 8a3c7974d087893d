"""tvmc run: what it computes, times, prints and refuses, here, in LiteRT and on boards."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import tvmc
from schedules.errors import LeanconvError
from schedules.target.simd import PRESETS
from schedules.tuning.boards.rpc_tracker import Tracker
from scripts.models.layers import LAYERS
from tests.conftest import Compiled
from tests.support.modules import (
    CALLING_METADATA,
    FOREIGN,
    FOREIGN_METADATA,
    METADATA,
    calling,
    compiled,
    mixed,
    mixed_in_numpy,
)
from tests.support.rpc import KEY, PATIENCE_S, Board, TrackerProcess, free_port, wait_until
from tvmc.cli import main
from tvmc.compiling.package import TensorInfo, write_tar
from tvmc.jobs import FunctionTime, Job, Outcome
from tvmc.running.profiler import build_profiler
from tvmc.running.run_result import RunResult
from tvmc.running.tensors import input_values, read_npz, write_npz

IMAGE = np.array([[-1.5, 0.25, 3], [0, 1e-3, -7]], np.float32)
CODES = np.array([-128, -4, 0, 127], np.int8)
INPUTS: dict[str, NDArray[Any]] = {"image": IMAGE, "codes:0": CODES}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("modules") / "mixed.so", mixed(), METADATA)


@pytest.fixture(scope="module")
def graph(trained_models: Path) -> Path:
    return trained_models / "resnet8_float.tflite"


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit status, standard output and standard error, in this process."""
    try:
        status = main(["run", *map(str, arguments)])
    except SystemExit as stop:
        status = int(stop.code or 0)
    output = capsys.readouterr()
    return status, output.out, output.err


def complaint(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line in which it ends."""
    status, _, errors = call(capsys, *arguments)
    assert status == 2
    assert re.fullmatch(r"tvmc: error: .*\n", errors), errors
    return errors


def check_mixed(outputs: dict[str, NDArray[Any]], image: NDArray[Any], codes: NDArray[Any]) -> None:
    expected = mixed_in_numpy(image, codes)
    assert list(outputs) == ["output_0", "output_1"]
    for got, want in zip(outputs.values(), expected, strict=True):
        assert got.dtype == want.dtype
        # Both round the same two operations.
        np.testing.assert_allclose(got, want, rtol=2 * np.finfo(np.float32).eps)


# Modules on this machine


def test_a_library(library: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inputs, outputs, report = (tmp_path / name for name in ("in.npz", "out.npz", "report.json"))
    write_npz(inputs, INPUTS)
    files = ("--inputs", inputs, "--outputs", outputs, "--report", report)
    figures = ("--print-top", 2, "--print-time", "--repeat", 4, "--number", 2, "--profile")
    status, text, errors = call(capsys, library, *files, *figures, "-v")
    assert status == 0, errors
    check_mixed(read_npz(outputs), IMAGE, CODES)
    # (-7 + 0.5)^2 and (3 + 0.5)^2; the largest codes.
    for row in ("output_0 +5 +42.25", "output_0 +2 +12.25", "output_1 +3 +127", "output_1 +2 +0"):
        assert re.search(f"^{row}$", text, re.MULTILINE), text
    header = r" +".join(rf"{n} \(ms\)" for n in ("mean", "median", "max", "min", "std", "25p"))
    assert re.search(header, text)
    assert re.search(r"^multiply +1 +[\d.]+ +[\d.]+%( +-){3}$", text, re.MULTILINE)
    known = r" +indirect +1.5 KiB +conv1x1 1x2x3->3"
    assert re.search(rf"^add +1 +[\d.]+ +[\d.]+%{known}$", text, re.MULTILINE)
    assert re.search(r"^leanconv's +1 ", text, re.MULTILINE)
    assert re.search(r"^all +\d+ +[\d.]+ +100.0%", text, re.MULTILINE)
    last = rf"mixed.tflite, TVM on this machine: [\d.]+ ms; wrote {outputs} and {report}"
    assert re.fullmatch(last, text.splitlines()[-1])
    assert "input codes:0: int8 4, given" in errors
    written = json.loads(report.read_text())
    assert (written["model"], len(written["times_s"])) == ("mixed.tflite", 4)
    assert min(written["times_s"]) == written["summary_s"]["min"] > 0
    kernels = [row["kernel"] for row in written["profile"] if row["name"] == "add"]
    assert kernels[0]["workspace_bytes"] == 1536


def test_a_tar_in_python(library: Path, tmp_path: Path) -> None:
    path = tmp_path / "mixed.tar"
    write_tar(path, library, METADATA)
    # Types that the inputs' can represent will do.
    given: dict[str, NDArray[Any]] = {"image": IMAGE.astype(np.float16), "codes:0": CODES}
    threads = len(os.sched_getaffinity(0))
    result = tvmc.run(path, inputs=given, end_to_end=True, repeat=3, num_threads=threads)
    check_mixed(dict(result.outputs), IMAGE.astype(np.float16).astype(np.float32), CODES)
    assert len(result.times) == 3
    assert not result.profile


def test_a_module_that_crashes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = compiled(tmp_path / "abort.so", calling("abort"), CALLING_METADATA)
    assert "a module for host was ended by SIGABRT" in complaint(capsys, path)


def test_time_is_counted_where_it_is_spent(tmp_path: Path) -> None:
    path = compiled(tmp_path / "sleep.so", calling("usleep", 300_000), CALLING_METADATA)
    result = tvmc.run(path, inputs={"image": np.ones(1, np.float32)}, profile=True)
    np.testing.assert_array_equal(result.outputs["output_0"], [1])
    seconds = {row.name: row.seconds for row in result.profile}
    assert min(*result.times, seconds["compute"]) >= 0.3
    # It called what slept.
    assert seconds["inner"] < 0.3


def test_profilers_link_for_android(tmp_path: Path) -> None:
    assert build_profiler(tmp_path, PRESETS["cortex-a76-android"]).is_file()


def test_metadata_that_does_not_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = replace(METADATA, inputs=METADATA.inputs[:1])
    path = compiled(tmp_path / "other.so", mixed(), other)
    assert "this machine cannot run a module for host: " in complaint(capsys, path)


def test_interrupts(tmp_path: Path) -> None:
    path = compiled(tmp_path / "sleep.so", calling("sleep", 1000), CALLING_METADATA)
    command = [sys.executable, "-m", "tvmc", "run", str(path)]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=environment, text=True) as process:
        # The module was stored in its session.
        wait_until(lambda: list(tmp_path.glob("leanconv-*/*/sleep.so")))
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        assert process.stderr.read() == "tvmc: interrupted\n"
    assert process.returncode == 130
    assert not list(tmp_path.glob("leanconv-*"))


# Models


def test_a_delegate(
    made_model: Callable[[str], Path],
    compile_model: Callable[..., Compiled],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    graph = made_model(LAYERS[-1].name)
    delegate = compile_model(graph)
    (layer,) = delegate.report["layers"]
    alone, with_delegate, report = (tmp_path / name for name in ("a.npz", "d.npz", "d.json"))
    assert call(capsys, graph, "-o", alone, "--seed", 3)[0] == 0
    options = ("--delegate", delegate.library, "--delegate-options", "num_threads:2;verbose:0")
    files = ("-o", with_delegate, "--report", report)
    status, text, _ = call(capsys, graph, *options, *files, "--seed", 3, "--profile", "--repeat", 3)
    assert status == 0
    got, want = (read_npz(path)["output_0"] for path in (with_delegate, alone))
    # Some rounding of sums of many products of numbers below 1.
    np.testing.assert_allclose(got, want, atol=1e-4)
    (row,) = (row for row in json.loads(report.read_text())["profile"] if row["kernel"])
    assert row["calls"] == 1
    assert row["seconds"] > 0
    assert row["kernel"]["algorithm"] == layer["algorithm"]
    assert row["kernel"]["layers"] == layer["geometry"]
    assert row["kernel"]["packed_bytes"] == layer["packed_bytes"]
    assert f"LiteRT with {delegate.library.name}: " in text
    assert "is a delegate: tvmc run MODEL --delegate" in complaint(capsys, delegate.library)


def test_a_model_end_to_end(trained_models: Path) -> None:
    result = tvmc.run(
        trained_models / "dscnn_int8.tflite", fill_mode="ones", end_to_end=True, repeat=2
    )
    assert result.outputs["output_0"].dtype == np.int8
    assert result.runtime == "LiteRT"
    assert len(result.times) == 2


def test_litert_is_missing(graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    with pytest.raises(LeanconvError, match=re.escape("pip install 'leanconv[runtime]'")):
        tvmc.run(graph)


# Wrong input


def test_wrong_options(
    library: Path, graph: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torn = tmp_path / "torn.tflite"
    torn.write_bytes(graph.read_bytes()[:1000])
    tracker = ("--rpc-tracker", "127.0.0.1:1")
    for arguments, expected in (
        ((tmp_path / "missing.so",), f"there is no file {tmp_path / 'missing.so'}"),
        ((tmp_path / "missing.tflite",), f"there is no file {tmp_path / 'missing.tflite'}"),
        ((torn,), "LiteRT cannot run"),
        ((library, "--delegate", library), "a delegate is for .tflite models"),
        ((graph, "--delegate", tmp_path / "missing.so"), "there is no file"),
        ((graph, "--delegate", library), "it has no tflite_plugin_create_delegate"),
        ((graph, "--delegate", graph), "it is no shared library"),
        ((graph, "--delegate-options", "verbose:1"), "but there is no delegate"),
        ((graph, *tracker, "--rpc-key", KEY), "boards run compiled modules"),
        ((library, *tracker), "a tracker needs the key of its boards"),
        ((library, "--rpc-key", KEY), "a tracker needs the key of its boards"),
        ((library, "--outputs", library), f"cannot write {library}: it is read as well"),
        ((library, "--outputs", tmp_path / "no" / "o.npz"), "there is no folder"),
        ((library, "-o", tmp_path / "o", "--report", tmp_path / "o"), "cannot be both"),
        ((library, "--inputs", tmp_path / "no.npz"), "there is no file"),
        ((library, "--inputs", graph), "is no .npz file of numbers"),
        ((library, "--num-threads", 100000), "100000 threads are more than the 1024 possible"),
        ((library, "--device", "cuda"), "--device: invalid choice: 'cuda'"),
        ((library, "--repeat", "0"), "--repeat: '0' is not a number above 0"),
        ((graph, "--delegate-options", "verbose"), "'verbose' is not key:value"),
    ):
        assert expected in complaint(capsys, *arguments)
    with pytest.raises(LeanconvError, match="at least 1"):
        tvmc.run(library, repeat=0)


def test_wrong_inputs(library: Path) -> None:
    for given, expected in (
        ({"picture": IMAGE}, r"there is no input 'picture': .* 'image' \(float32 2x3\), 'codes:0'"),
        ({"image": IMAGE.T}, "'image' is float32 2x3, and the value given for it float32 3x2"),
        ({"image": IMAGE.astype(np.float64)}, "is float32 2x3, and .* float64 2x3"),
        ({"codes:0": CODES.astype(np.int16)}, "is int8 4, and .* int16 4"),
        ({"codes:0": np.int8(1)}, "is int8 4, and .* int8 scalar"),
    ):
        with pytest.raises(LeanconvError, match=expected):
            tvmc.run(library, inputs=given)
    with pytest.raises(LeanconvError, match="unknown fill mode 'twos': one of random, zeros, ones"):
        tvmc.run(library, fill_mode="twos")


# Parts


def test_files_that_are_no_npz(tmp_path: Path) -> None:
    path = tmp_path / "in.npz"
    write_npz(path, INPUTS)
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[whole.index(IMAGE.tobytes())] ^= 1
    for content in (b"", b"text", whole[:-30], bytes(damaged)):
        path.write_bytes(content)
        with pytest.raises(LeanconvError, match=re.escape("is no .npz file of numbers: numpy.")):
            read_npz(path)
    np.save(path.with_suffix(".npy"), IMAGE)
    np.savez(path, names=np.array([{}]))
    for other in (path, path.with_suffix(".npy")):
        with pytest.raises(LeanconvError, match=re.escape("is no .npz file of numbers")):
            read_npz(other)


@pytest.mark.parametrize("dtype", ["float16", "float32", "int8", "uint8", "int32", "int64", "bool"])
def test_values_that_nobody_gives(dtype: str) -> None:
    info = TensorInfo("x", (40, 50), dtype)
    (random,) = input_values([info], {}, "random", seed=1)
    (same,) = input_values([info], {}, "random", seed=1)
    (other,) = input_values([info], {}, "random", seed=2)
    assert random.dtype == dtype
    np.testing.assert_array_equal(random, same)
    assert (random != other).any()
    low, high = {"f": (-1, 1), "b": (0, 1)}.get(random.dtype.kind, (-128, 255))
    assert low <= random.min() < random.max() <= high
    (zeros,), (ones,) = (input_values([info], {}, mode, 0) for mode in ("zeros", "ones"))
    assert zeros.dtype == ones.dtype == dtype
    assert not zeros.any()
    assert (ones == 1).all()


def test_a_value_does_not_change_the_others() -> None:
    first, second = (TensorInfo(name, (3,), "float32") for name in "ab")
    _, alone = input_values([first, second], {}, "random", 0)
    _, beside = input_values([first, second], {"a": np.ones(3, np.float32)}, "random", 0)
    np.testing.assert_array_equal(alone, beside)


def test_what_has_no_random_value() -> None:
    with pytest.raises(LeanconvError, match="input 'x' is of type complex64: give it a value"):
        input_values([TensorInfo("x", (1,), "complex64")], {}, "random", 0)


def result_of(outputs: list[NDArray[Any]], times: list[float]) -> RunResult:
    job = Job([], len(times), 2, False, None, True)
    functions = [FunctionTime("a", 4, 0.5), FunctionTime("b", 16, 1.5)]
    return RunResult.of("m", "here", job, Outcome(outputs, times, functions), METADATA.kernels)


def test_figures() -> None:
    result = result_of([], [0.004, 0.001, 0.002, 0.003])
    text = result.format_times()
    assert text.splitlines()[0] == "Execution time summary:"
    # The deviation is sqrt(5) / 2 ms; percentiles lie between samples.
    figures = "2.5000 2.5000 4.0000 1.0000 1.1180 1.7500 3.2500 3.8500"
    assert text.splitlines()[-1].split() == figures.split()
    assert [(row.name, row.calls, row.seconds) for row in result.profile] == [
        ("b", 2, 1.5 / 8),
        ("a", 0.5, 0.5 / 8),
    ]


def test_top_values() -> None:
    codes, single = np.array([[3, 1], [7, 3]], np.uint8), np.array([-2.0], np.float32)
    top = result_of([codes, single], [1.0]).top(3)
    assert top == {"output_0": [(2, 7), (0, 3), (3, 3)], "output_1": [(0, -2.0)]}


# Boards


@pytest.fixture(scope="module")
def tracker() -> Iterator[TrackerProcess]:
    tracker = TrackerProcess()
    yield tracker
    tracker.kill()


@pytest.fixture(scope="module")
def board(tracker: TrackerProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    board = Board(tracker.address, "a", tmp_path_factory.mktemp("boards"))
    board.start()
    wait_until(board.is_registered)
    yield board
    board.end()


def test_a_board(
    library: Path,
    tracker: TrackerProcess,
    board: Board,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    inputs, outputs = tmp_path / "in.npz", tmp_path / "out.npz"
    write_npz(inputs, INPUTS)
    where = ("--rpc-tracker", "{}:{}".format(*tracker.address), "--rpc-key", KEY)
    figures = ("--profile", "--num-threads", 1, "--repeat", 3)
    status, text, errors = call(capsys, library, *where, *figures, "-i", inputs, "-o", outputs)
    assert status == 0, errors
    check_mixed(read_npz(outputs), IMAGE, CODES)
    assert re.search(r"^add +1 +[\d.]+ +[\d.]+% +indirect ", text, re.MULTILINE)
    assert f"TVM on board 127.0.0.1:{board.port}: " in text
    wait_until(board.is_clean)


def test_a_board_end_to_end(library: Path, tracker: TrackerProcess, board: Board) -> None:
    result = tvmc.run(
        library,
        inputs=INPUTS,
        rpc_tracker=tracker.address,
        rpc_key=KEY,
        end_to_end=True,
        repeat=2,
    )
    check_mixed(dict(result.outputs), IMAGE, CODES)
    assert len(result.times) == 2


@pytest.mark.usefixtures("board")
def test_what_boards_cannot_do(library: Path, tracker: TrackerProcess, tmp_path: Path) -> None:
    where: dict[str, Any] = {"rpc_tracker": tracker.address, "rpc_key": KEY}
    many = 1 + len(os.sched_getaffinity(0))
    with pytest.raises(LeanconvError, match=f"start its server with TVM_NUM_THREADS={many}"):
        tvmc.run(library, num_threads=many, **where)
    with pytest.raises(LeanconvError, match=f"no board with the key 'rasp'; keys there: {KEY}"):
        tvmc.run(library, rpc_tracker=tracker.address, rpc_key="rasp")
    foreign = compiled(tmp_path / "foreign.so", mixed(), FOREIGN_METADATA, FOREIGN)
    with pytest.raises(
        LeanconvError, match=f"board .* cannot run a module for {FOREIGN.name}: it does not load"
    ):
        tvmc.run(foreign, **where)


def test_boards_that_are_lost(tracker: TrackerProcess, board: Board, tmp_path: Path) -> None:
    where: dict[str, Any] = {"rpc_tracker": tracker.address, "rpc_key": KEY}
    aborting = compiled(tmp_path / "abort.so", calling("abort"), CALLING_METADATA)
    with pytest.raises(LeanconvError, match=rf"board 127.0.0.1:{board.port} was lost: "):
        tvmc.run(aborting, **where)
    sleeping = compiled(tmp_path / "sleep.so", calling("sleep", 1000), CALLING_METADATA)
    expected = rf"board 127.0.0.1:{board.port} did not answer within 1 s: .*--rpc-timeout"
    with pytest.raises(LeanconvError, match=expected):
        tvmc.run(sleeping, rpc_timeout=1.0, **where)
    # It was told when to give up, and offers itself again.
    wait_until(board.is_clean)
    with Tracker(tracker.address) as connection:
        wait_until(lambda: connection.free_boards(KEY))
    board.process.send_signal(signal.SIGSTOP)
    try:
        with pytest.raises(LeanconvError, match="accepts no session: it hangs or is out of reach"):
            tvmc.run(aborting, rpc_timeout=PATIENCE_S, **where)
        with pytest.raises(LeanconvError, match=f"'{KEY}' is busy for more than 0.1 s"):
            tvmc.run(aborting, rpc_timeout=0.1, **where)
    finally:
        board.process.send_signal(signal.SIGCONT)


def test_unreachable_trackers(library: Path) -> None:
    start = time.monotonic()
    for tracker, expected in (
        (("127.0.0.1", free_port()), r"tracker 127.0.0.1:\d+ does not answer \(.*refused"),
        (("tracker.invalid", 9190), r"tracker tracker.invalid:9190 does not answer"),
    ):
        with pytest.raises(LeanconvError, match=expected):
            tvmc.run(library, rpc_tracker=tracker, rpc_key=KEY)
    # Each of them is a new process, on a machine that may be busy.
    assert time.monotonic() - start < PATIENCE_S
