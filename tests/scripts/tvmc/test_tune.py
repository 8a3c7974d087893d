"""``tvmc tune`` as a user runs it: on this machine, on the emulated board, killed and resumed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import tvmc
from schedules.algorithms import Unsupported
from schedules.layer.block import workload_from_text
from schedules.plan.choice import Choice
from schedules.plan.plan import Plan
from schedules.target.simd import Simd
from schedules.tuning import tuner as tuner_module
from schedules.tuning.records.records import Record, load
from schedules.tuning.tuner import FINAL_SAMPLES, Status
from tests.support.records import record
from tests.support.tflite_writer import Conv, chain, single_conv
from tvmc.cli import main
from tvmc.tuning.tune_command import lines

RunTvmc = Callable[..., subprocess.CompletedProcess[str]]
#: Samples as short as they can be: what is tested is not the time. And nothing of Winograd's, whose
#: kernels take longest to compile.
QUICK = ("--repeat", 2, "--min-repeat-ms", 0.5, "--parallel", 1, "--max-error", 1e-9)


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """A 3x3 convolution and a pointwise one."""
    path = tmp_path / "two.tflite"
    convs = [Conv(16, activation="relu"), Conv(24, kernel=(1, 1), seed=1)]
    path.write_bytes(chain((1, 12, 12, 8), convs))
    return path


def trials(records: list[Record]) -> Counter[Any]:
    """How often each candidate was tried, play-offs and marks apart."""
    tried = [r for r in records if r.samples < FINAL_SAMPLES and not r.is_lost]
    return Counter((r.workload, r.candidate) for r in tried)


def test_tunes_compiles_and_tells(run_tvmc: RunTvmc, graph: Path, tmp_path: Path) -> None:
    logs, report_file = tmp_path / "tuning_logs" / "here", tmp_path / "tune.json"
    done = run_tvmc(
        "tune", graph, "-o", logs, "--trials", 12, "--report", report_file, "-v", *QUICK
    )
    assert done.returncode == 0, done.stderr
    assert "[12/12]" in done.stderr
    assert "12 trials" in done.stdout
    report = json.loads(report_file.read_text())
    assert (report["board"], report["cost_kind"], report["trials"]) == ("here", "measured", 12)
    assert len(report["tasks"]) == 2
    assert json.loads((logs / "board.json").read_text())["board"] == "here"
    records = load(logs)
    assert sum(trials(records).values()) == 12 and max(trials(records).values()) == 1
    assert not [r.error for r in records if r.error and not r.is_lost]
    # What it has found for so small a network may be slower as a whole.
    (network,) = report["networks"]
    assert network["model"] == "two.tflite" and "two.tflite" in done.stdout
    pairs = list(zip(network["tuned_s"], network["untuned_s"], strict=True))
    is_slower = any(tuned > untuned for tuned, untuned in pairs)
    assert is_slower == any(record.is_lost for record in records)

    library, compiled = tmp_path / "lib.so", tmp_path / "compiled.json"
    done = run_tvmc(
        *("compile", graph, "-o", library, "--tuning-records", logs, "--report", compiled)
    )
    assert done.returncode == 0, done.stderr
    tried = [(record.candidate.algorithm, record.candidate.knobs) for record in records]
    for layer in json.loads(compiled.read_text())["layers"]:
        assert layer["tuning"] in ("tuned", *(["default"] if is_slower else []))
        assert (layer["algorithm"], layer["knobs"]) in tried


def test_killed_and_started_again(graph: Path, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    log = logs / "float32.jsonl"
    command = [sys.executable, "-m", "tvmc", "tune", str(graph), "-o", str(logs)]
    command += ["--trials", "16", *map(str, QUICK)]
    process = subprocess.Popen(command, start_new_session=True)
    try:
        wait_until(lambda: log.exists() and log.read_bytes().count(b"\n") >= 8, process)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    before = load(log)
    assert 8 <= len(before) < 16
    assert subprocess.run(command, check=True, capture_output=True).returncode == 0
    after = load(log)
    assert after[: len(before)] == before
    assert sum(trials(after).values()) == 16 and max(trials(after).values()) == 1


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_interrupted(graph: Path, tmp_path: Path, number: signal.Signals) -> None:
    logs = tmp_path / "logs"
    command = [sys.executable, "-m", "tvmc", "tune", str(graph), "-o", str(logs)]
    command += ["--trials", "500", *map(str, QUICK)]
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    environment = {**os.environ, "TMPDIR": str(scratch)}
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # not ignored by a child
    process = subprocess.Popen(
        command, start_new_session=True, stderr=subprocess.PIPE, text=True, env=environment
    )
    signal.signal(signal.SIGINT, before)
    try:
        log = logs / "float32.jsonl"
        wait_until(lambda: log.exists() and log.read_bytes().count(b"\n") >= 8, process)
        if number == signal.SIGINT:
            os.killpg(process.pid, number)  # as a terminal does
        else:
            process.terminate()
        _, errors = process.communicate(timeout=60)
    finally:
        end_all(process)
    assert process.returncode == 130
    assert errors.splitlines()[-2:] == [
        f"every finished trial is kept in {logs}",
        "tvmc: interrupted",
    ]
    assert len(load(logs)) >= 8
    assert not os.listdir(scratch)
    # Those of multiprocessing and zig end when they notice that this one has.
    until = time.monotonic() + 10
    while forgotten := processes_of(scratch):
        assert time.monotonic() < until, forgotten


def test_tunes_on_the_emulated_board(run_tvmc: RunTvmc, tmp_path: Path, repo_root: Path) -> None:
    graph, logs = tmp_path / "conv.tflite", tmp_path / "emulated"
    graph.write_bytes(single_conv((1, 6, 6, 8), Conv(12, activation="relu6")))
    run = f"{sys.executable} -m scripts.board run --cpu cortex-a76"
    board = f"env PYTHONPATH={repo_root} {run} {{program}}"
    done = run_tvmc(
        *("tune", graph, "--target", "cortex-a76", "--board-command", board),
        *("-o", logs, "--trials", 4, "--timeout", 60, *QUICK),
    )
    assert done.returncode == 0, done.stderr
    records = load(logs)
    assert len(trials(records)) == 4
    assert {(r.target, r.error) for r in records} == {("cortex-a76", None)}
    described = json.loads((logs / "board.json").read_text())
    assert described["arch"] == "aarch64"


def test_from_python(graph: Path, tmp_path: Path) -> None:
    statuses: list[Any] = []
    report = tvmc.tune(
        graph,
        output=tmp_path / "logs",
        trials=3,
        tuner="random",
        repeat=1,
        min_repeat_ms=0.5,
        parallel=1,
        workspace_limit=0,
        notify=statuses.append,
    )
    assert report.trials == 3 and statuses[0].boards == 1
    for trial in load(tmp_path / "logs"):
        assert Plan.of(trial.candidate, trial.workload, Simd.named("host")).workspace_bytes == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.tflite"], "model missing.tflite does not exist"),
        (["{graph}", "--rpc-tracker", "somewhere:9190"], "a tracker needs the key of its boards"),
        (["{graph}", "--rpc-tracker", "x", "--rpc-key", "k"], "'x' is not HOST:PORT"),
        (["{graph}", "--board-command", "no-such-program {program}"], "no-such-program"),
        (["{graph}", "--target", "cortex-a76"], "cannot run what was compiled for it"),
        (["{graph}", "--target", "z80"], "unknown target 'z80'"),
        (["{graph}", "--tuning-records", "missing"], "missing"),
        (["{graph}", "--trials", "0"], "not a number above 0"),
        (["{graph}", "--tuner", "magic"], "invalid choice: 'magic'"),
        (["{graph}", "--cc", "no-such-compiler"], "no-such-compiler"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str],
    message: str,
    graph: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    filled = [argument.replace("{graph}", str(graph)) for argument in arguments]
    try:
        status = main(["tune", *filled, "-o", str(tmp_path / "logs")])
    except SystemExit as stop:
        status = int(stop.code or 0)
    errors = capsys.readouterr().err
    assert status == 2
    assert len(errors.splitlines()) == 1 and message in errors
    assert not (tmp_path / "logs" / "float32.jsonl").exists()


def test_a_folder_of_another_board_is_refused(
    graph: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logs = tmp_path / "logs"
    tvmc.tune(graph, output=logs, trials=1, repeat=1, min_repeat_ms=0.5, parallel=1)
    described = json.loads((logs / "board.json").read_text())
    (logs / "board.json").write_text(json.dumps({**described, "cpu": "another processor"}))
    assert main(["tune", str(graph), "-o", str(logs), "--trials", "2"]) == 2
    assert "another processor" in capsys.readouterr().err
    assert len(load(logs)) == 1


def test_limits_that_leave_nothing(
    graph: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def nothing(*_: Any) -> Any:
        raise Unsupported("its workspace is over the limit")

    monkeypatch.setattr(tuner_module, "Space", nothing)
    logs = tmp_path / "logs"
    assert main(["tune", str(graph), "-o", str(logs), "--workspace-limit", "0"]) == 2
    assert capsys.readouterr().err == (
        "tvmc: error: no layer has a kernel within --workspace-limit and --max-error: allow more\n"
    )
    assert not logs.exists()


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[Any]) -> None:
    """Until it holds, as long as the process lives."""
    end = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, "the process ended"
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.05)


def end_all(process: subprocess.Popen[Any]) -> None:
    """End whatever is left of the process and its children."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def processes_of(scratch: Path) -> list[int]:
    """Processes with that ``TMPDIR``, whatever group or session they moved to."""
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if f"TMPDIR={scratch}".encode() in environment.read_bytes().split(b"\0"):
                found.append(int(environment.parent.name))
    return found


def test_display() -> None:
    """What a terminal shows: task, algorithm, gain, errors, boards, time left."""
    workload = workload_from_text("28x28x64->64 k3x3 p1,1,1,1 relu")
    winograd, indirect = Choice("winograd", ()), Choice("indirect", ())
    best = record(0.8e-3, workload=workload, candidate=winograd)
    untuned = record(1e-3, workload=workload, candidate=indirect)
    status = Status("trials", workload, best, untuned, 64, 100, 3, 4e-3, 5e-3, 2, 30.0, 17.0)
    assert lines(status) == [
        "trials: 64 of 100, 3 failed; boards: 2; 30 s, about 17 s left",
        "layers tried so far: 4 ms, 0.800 of untuned",
        "now: conv3x3 28x28x64->64 relu: winograd 0.8 ms, 0.800 of untuned",
    ]
    lost = replace(status, boards=0, best=None, seconds_left=float("nan"), seconds=600.0)
    assert lines(lost)[0].endswith("boards: 0 (waiting for one to come back); 10 min")
    assert lines(lost)[2] == "now: conv3x3 28x28x64->64 relu: nothing works yet"
