"""Boards behind a tracker, on loopback, and everything that happens to them."""

from __future__ import annotations

import contextlib
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from schedules.errors import LeanconvError
from schedules.layer.workload import Conv2dWorkload
from schedules.plan.choice import Choice
from schedules.plan.plan import Plan
from schedules.target.simd import Simd
from schedules.tuning.boards.base import PROGRAM, Batch, BoardLost
from schedules.tuning.boards.rpc import RpcRunner
from schedules.tuning.boards.rpc_tracker import Tracker
from schedules.tuning.measure.measure import Measurer
from schedules.tuning.measure.settings import Settings
from scripts.board import rpc as board_rpc
from tests.support.rpc import (
    KEY,
    PATIENCE_S,
    TVMC_SERVER,
    Board,
    TrackerProcess,
    free_port,
    is_running,
    wait_until,
)
from tvmc.cli import main
from tvmc.command import address

HOST = Simd.named("host")


@pytest.fixture(scope="module")
def tracker() -> Iterator[TrackerProcess]:
    tracker = TrackerProcess()
    yield tracker
    tracker.kill()


StartBoards = Callable[[int], list[Board]]


@pytest.fixture(scope="module", params=["with Python", "without Python"])
def start_boards(
    request: pytest.FixtureRequest,
    tracker: TrackerProcess,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[StartBoards]:
    """Have so many boards of one kind; they live on until a test ends them."""
    folder = tmp_path_factory.mktemp("boards")
    command: Sequence[str] = TVMC_SERVER
    if request.param == "without Python":
        command = [str(board_rpc.build(HOST, tmp_path_factory.mktemp("server")))]
    both = [Board(tracker.address, name, folder, command) for name in "ab"]

    def start(count: int) -> list[Board]:
        boards = sorted(both, key=lambda board: not board.is_alive())
        for board in boards[:count]:
            if not board.is_alive():
                board.start()
        for board in boards[count:]:
            if board.is_alive():
                board.end()
        for board in boards[:count]:
            wait_until(board.is_registered)
        return boards[:count]

    yield start
    for board in both:
        if board.is_alive():
            board.end()


Connect = Callable[..., RpcRunner]


@pytest.fixture
def connect(tracker: TrackerProcess) -> Iterator[Connect]:
    """A runner for the boards of the test."""
    runners: list[RpcRunner] = []

    def make(**options: Any) -> RpcRunner:
        options = {"tracker": tracker.address, "key": KEY, "wait_s": PATIENCE_S, **options}
        runners.append(RpcRunner(simd=HOST, **options))
        return runners[-1]

    yield make
    for runner in runners:
        runner.close()


@pytest.fixture
def batch(tmp_path: Path) -> Callable[..., Batch]:
    """A folder with a program of the shell; ``$SCRATCH`` is a folder that stays."""

    def write(script: str, timeout_s: float = PATIENCE_S) -> Batch:
        folder = tmp_path / "batch"
        folder.mkdir(exist_ok=True)
        (folder / PROGRAM).write_text(f"#!/bin/sh\nSCRATCH={tmp_path}\n{script}\n")
        return Batch(folder, timeout_s)

    return write


DONE = """echo '{"board": "'$BOARD'"}'; echo '{"done": true}'"""
RPC_MAGIC, RPC_MISMATCH = 0xFF271, 0xFF273
#: The first time, tell which board and process it was.
FIRST = "[ -e $SCRATCH/board ] || { echo $$ > $SCRATCH/pid; echo $BOARD > $SCRATCH/board;"
SLEEP = "exec sleep 1000; }"


def done_on(name: str) -> list[dict[str, Any]]:
    return [{"board": name}, {"done": True}]


def is_over(scratch: Path) -> bool:
    """Whether the program that slept was ended."""
    return not is_running(int((scratch / "pid").read_text()))


def other(scratch: Path) -> str:
    """The board that was not the first."""
    return {"a": "b", "b": "a"}[(scratch / "board").read_text().strip()]


def test_boards_work_side_by_side(start_boards: StartBoards, connect: Connect, batch: Any) -> None:
    boards = start_boards(2)
    runner = connect()
    wait_until(lambda: runner.boards() == 2)
    meet = "until [ -e $SCRATCH/a -a -e $SCRATCH/b ]; do sleep .05; done"
    both = batch(f"touch $SCRATCH/$BOARD; {meet}; echo 'a complaint' >&2; {DONE}; exit 3")
    with ThreadPoolExecutor(2) as threads:
        results = sorted(threads.map(runner.run, [both, both]), key=str)
    assert results == [done_on("a"), done_on("b")]
    wait_until(lambda: all(board.is_clean() for board in boards))


def test_programs_that_crash_are_no_loss(
    start_boards: StartBoards, connect: Connect, batch: Any
) -> None:
    start_boards(2)
    runner = connect()
    crashing = batch("""echo '{"board": "a"}'; kill -SEGV $$""")
    assert runner.run(crashing) == [{"board": "a"}]
    with pytest.raises(LeanconvError, match="failed with status 139: no loader"):
        runner.run(batch("echo 'no loader' >&2; kill -SEGV $$"))


def test_a_batch_that_ends_sessions_is_given_up(
    start_boards: StartBoards, connect: Connect, batch: Any, tmp_path: Path
) -> None:
    start_boards(2)
    told: list[str] = []
    runner = connect(notify=told.append)
    with pytest.raises(BoardLost, match=r"lost twice .*127.0.0.1:\d+.*127.0.0.1:\d+"):
        runner.run(batch("echo $BOARD >> $SCRATCH/boards; kill -SEGV $PPID"))
    assert len((tmp_path / "boards").read_text().split()) == len(told) == 2
    # No server ended with its session.
    wait_until(lambda: runner.boards() == 2)
    assert runner.run(batch(DONE))[1] == {"done": True}


def test_another_board_takes_over_from_one_that_hangs(
    start_boards: StartBoards, connect: Connect, batch: Any
) -> None:
    hanging, good = start_boards(2)
    told: list[str] = []
    runner = connect(answer_s=1.0, notify=told.append)
    hanging.process.send_signal(signal.SIGSTOP)
    try:
        # The tracker asks them in turn.
        assert runner.run(batch(DONE)) == done_on(good.name)
        assert runner.run(batch(DONE)) == done_on(good.name)
        assert [f"127.0.0.1:{hanging.port}: it did not answer" in line for line in told] == [True]
        wait_until(lambda: runner.boards() == 1)
    finally:
        hanging.process.send_signal(signal.SIGCONT)
    wait_until(lambda: runner.boards() == 2)


def test_another_board_takes_over_from_one_that_freezes(
    start_boards: StartBoards, connect: Connect, batch: Any, tmp_path: Path
) -> None:
    boards = start_boards(2)
    runner = connect()
    freezing = batch(f"{FIRST} kill -STOP $PPID; {SLEEP}\n{DONE}", timeout_s=2.0)
    assert runner.run(freezing) == done_on(other(tmp_path))
    # The board notices that nobody waits any more.
    wait_until(lambda: is_over(tmp_path))
    wait_until(lambda: runner.boards() == 2)
    wait_until(lambda: all(board.is_clean() for board in boards))


def test_closing_ends_what_runs(
    start_boards: StartBoards, connect: Connect, batch: Any, tmp_path: Path
) -> None:
    start_boards(2)
    told: list[str] = []
    runner = connect(notify=told.append)
    with ThreadPoolExecutor(1) as thread:
        lines = thread.submit(runner.run, batch(f"{FIRST} {SLEEP}"))
        wait_until((tmp_path / "board").exists)
        runner.close()
        with pytest.raises(BoardLost, match="closed"):
            lines.result(PATIENCE_S)
    assert not told
    wait_until(lambda: is_over(tmp_path))


def test_end_to_end(start_boards: StartBoards, connect: Connect) -> None:
    start_boards(2)
    layer = Conv2dWorkload(6, 5, 8, 12, 3, 3, activation="relu6")
    plan = Plan.of(Choice("direct"), layer, HOST)
    candidate = plan.choice
    settings = Settings(repeat=2, min_repeat_ms=0.1)
    with Measurer(HOST, connect(), settings, jobs=1) as measurer:
        assert measurer.probe()["arch"] == HOST.arch
        (outcome,) = measurer.measure(layer, [candidate])
    assert outcome.error is None
    assert len(outcome.samples_s) == 2


def say_hello(client: socket.socket, name: str) -> None:
    client.settimeout(PATIENCE_S)
    client.sendall(struct.pack("<ii", RPC_MAGIC, len(name)) + name.encode())


def until_closed(client: socket.socket) -> bytes:
    received = b""
    while more := client.recv(1000):
        received += more
    return received


def test_sessions_have_a_time_limit(tracker: TrackerProcess, start_boards: StartBoards) -> None:
    boards = {board.port: board for board in start_boards(2)}
    with Tracker(tracker.address) as queue:
        queue.request(KEY)
        granted = queue.granted(PATIENCE_S)
    assert granted
    address, match_key = granted
    with socket.create_connection(address) as client:
        say_hello(client, f"client:{match_key} -timeout=0.3")
        assert until_closed(client).startswith(struct.pack("<i", RPC_MAGIC))
    wait_until(boards[address[1]].is_clean)
    assert boards[address[1]].is_alive()


def test_strangers_are_turned_away(start_boards: StartBoards, connect: Connect, batch: Any) -> None:
    boards = start_boards(2)
    for board in boards:
        with socket.create_connection(("127.0.0.1", board.port), PATIENCE_S) as client:
            client.sendall(b"GET / HTTP/1.1\r\n\r\n")
            with contextlib.suppress(ConnectionResetError):
                assert not until_closed(client)
        with socket.create_connection(("127.0.0.1", board.port)) as client:
            say_hello(client, f"client:{KEY}:0.5")
            assert until_closed(client) == struct.pack("<i", RPC_MISMATCH)
    assert connect().run(batch(DONE))[1] == {"done": True}
    # Without -v there is nothing to say of all that.
    for board in boards:
        assert not {"session", "turned"} & set(board.log.read_text().split())


def test_wrong_key(start_boards: StartBoards, connect: Connect) -> None:
    start_boards(2)
    start = time.monotonic()
    with pytest.raises(LeanconvError, match=f"no board with the key 'rasp'; keys there: {KEY}"):
        connect(key="rasp")
    assert time.monotonic() - start < 10


def test_another_board_takes_over_from_one_that_dies(
    start_boards: StartBoards, connect: Connect, batch: Any, tmp_path: Path
) -> None:
    start_boards(2)
    runner = connect()
    # The session's parent is the server.
    die = "kill -KILL $(cut -d' ' -f4 /proc/$PPID/stat)"
    assert runner.run(batch(f"{FIRST} {die}; {SLEEP}\n{DONE}")) == done_on(other(tmp_path))
    wait_until(lambda: is_over(tmp_path))
    wait_until(lambda: runner.boards() == 1)


def test_a_board_that_comes_back_goes_on(
    start_boards: StartBoards, connect: Connect, batch: Any, tmp_path: Path
) -> None:
    (board,) = start_boards(1)
    runner = connect()
    with ThreadPoolExecutor(1) as thread:
        lines = thread.submit(runner.run, batch(f"{FIRST} {SLEEP}\n{DONE}"))
        wait_until((tmp_path / "board").exists)
        board.kill()
        wait_until(lambda: runner.boards() == 0)
        board.start()
        assert lines.result(PATIENCE_S) == done_on(board.name)


def test_a_tracker_that_is_restarted(
    tracker: TrackerProcess, start_boards: StartBoards, connect: Connect, batch: Any
) -> None:
    (board,) = start_boards(1)
    runner = connect()
    # It may have been there before its tracker.
    before = len(board.log.read_text())

    def told() -> str:
        return board.log.read_text()[before:]

    tracker.kill()
    assert runner.boards() == 0
    with ThreadPoolExecutor(1) as thread:
        lines = thread.submit(runner.run, batch(DONE))
        wait_until(lambda: "does not answer" in told())
        tracker.start()
        assert lines.result(PATIENCE_S) == done_on(board.name)
    assert (told().count("does not answer"), told().count("registered")) == (1, 1)


def test_a_server_that_is_ended_takes_its_session_along(
    start_boards: StartBoards, connect: Connect, batch: Any, tmp_path: Path
) -> None:
    (board,) = start_boards(1)
    runner = connect(wait_s=1.0)
    with ThreadPoolExecutor(1) as thread:
        lines = thread.submit(runner.run, batch(f"{FIRST} {SLEEP}"))
        wait_until((tmp_path / "board").exists)
        board.process.terminate()
        assert board.process.wait(PATIENCE_S) == 128 + signal.SIGTERM
        wait_until(lambda: is_over(tmp_path))
        assert board.is_clean()
        # And nobody comes back.
        expected = rf"no board with the key '{KEY}' at RPC tracker 127.* within 1 s: all are busy"
        with pytest.raises(BoardLost, match=expected):
            lines.result(PATIENCE_S)


def test_unreachable_tracker(connect: Connect) -> None:
    with pytest.raises(LeanconvError, match=r"tracker 127.0.0.1:\d+ does not answer .*refused"):
        connect(tracker=("127.0.0.1", free_port()))
    with socket.create_server(("127.0.0.1", 0)) as server:
        start = time.monotonic()
        with pytest.raises(LeanconvError, match=r"does not answer \(timed out"):
            connect(tracker=server.getsockname())
        assert time.monotonic() - start < 10


def test_something_else_than_a_tracker(connect: Connect) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as thread:
        answered = thread.submit(lambda: server.accept()[0].sendall(b"HTTP/1.1 400"))
        with pytest.raises(LeanconvError, match=r"127.0.0.1:\d+ is no TVM RPC tracker"):
            connect(tracker=server.getsockname())
        answered.result()


# The command


def call_server(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What it complains of."""
    with pytest.raises(SystemExit) as stop:
        main(["rpc-server", *arguments])
    assert stop.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("text", ["9190", "host", "host:", ":9190", "host:0", "host:99999"])
def test_bad_addresses(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    complaint = call_server(capsys, "--key", "rasp", "--tracker", text)
    assert complaint == (
        f"tvmc: error: argument --tracker: {text!r} is not HOST:PORT, like 192.168.0.10:9190\n"
    )


def test_bad_keys(capsys: pytest.CaptureFixture[str]) -> None:
    complaint = call_server(capsys, "--key", "two words", "--tracker", "host:9190")
    assert "'two words' is not a name without spaces" in complaint


def test_addresses() -> None:
    assert address("board.local:9190") == ("board.local", 9190)
    assert address("[::1]:9190") == ("::1", 9190)
