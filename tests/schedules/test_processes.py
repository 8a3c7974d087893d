"""Tasks that succeed, fail, crash and hang, and processes that go on, or end when they should."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from schedules.errors import LeanconvError
from schedules.processes import Processes, ProcessLost


@pytest.fixture(scope="module")
def processes() -> Iterator[Processes]:
    with Processes("testing", 1, timeout_s=2.0) as processes:
        yield processes


def task(what: str) -> str:
    """Do ``what``; other processes run it."""
    if what == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if what == "hang":
        signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))
        time.sleep(1000)
    if what == "fail":
        raise LeanconvError("it cannot be done")
    if what == "mistake":
        raise ValueError
    return f"{what} {os.getpid()}"


def pids(processes: Processes) -> list[int | None]:
    return [worker.process.pid for worker in processes._workers]


def test_the_others_go_on(processes: Processes) -> None:
    names = ("good", "fail", "crash", "better", "hang", "mistake", "best")
    results = dict(processes.run(task, {name: (name,) for name in names}))
    assert list(results) == list(names)
    done = [str(results.pop(name)).split() for name in ("good", "better", "best")]
    assert [words[0] for words in done] == ["good", "better", "best"]
    assert len({words[1] for words in done}) == 3  # each after another's end
    assert {name: str(result) for name, result in results.items()} == {
        "fail": "it cannot be done",
        "crash": "crashed while testing",
        "hang": "testing took longer than 2 s",
        "mistake": "crashed while testing",
    }
    assert [isinstance(result, ProcessLost) for result in results.values()] == [False] + 3 * [True]


def test_they_stay_between_calls(processes: Processes) -> None:
    dict(processes.run(task, {"a": ("good",)}))
    before = pids(processes)
    results = dict(processes.run(task, {"a": ("good",), "b": ("good",)}))
    assert results == dict.fromkeys("ab", f"good {before[0]}")
    assert pids(processes) == before


def test_one_that_died_while_idle(processes: Processes) -> None:
    dict(processes.run(task, {"a": ("good",)}))
    processes._workers[0].process.kill()
    processes._workers[0].process.join()
    first, second = dict(processes.run(task, {"a": ("good",), "b": ("good",)})).values()
    assert isinstance(first, ProcessLost)
    assert isinstance(second, str)


def test_an_interrupt_ends_them() -> None:
    main = threading.get_ident()
    # Started in the background, this process may ignore interrupts.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    others = set(multiprocessing.active_children())
    threading.Timer(0.5, signal.pthread_kill, [main, signal.SIGINT]).start()
    try:
        with Processes("testing", 2, 100.0) as processes, pytest.raises(KeyboardInterrupt):
            dict(processes.run(task, {"a": ("hang",), "b": ("hang",)}))
    finally:
        signal.signal(signal.SIGINT, before)
    assert not processes._workers
    assert set(multiprocessing.active_children()) <= others


ORPHAN = """
import os, time
from schedules.processes import Processes

processes = Processes("testing", 1, 100.0)
dict(processes.run(abs, {"a": (1,)}))
print(processes._workers[0].process.pid, flush=True)
dict(processes.run(time.sleep, {"a": (1000,)}))
"""


def test_none_outlives_this_process() -> None:
    command = [sys.executable, "-c", ORPHAN]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        parent.kill()
    end = time.monotonic() + 20
    while _is_alive(pid):
        assert time.monotonic() < end
        time.sleep(0.01)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_what_they_print_is_logged(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level("INFO"), Processes("testing", 1, 100.0) as processes:
        dict(processes.run(os.write, {"a": (1, b"one\n"), "b": (2, b"two\n")}))
    assert caplog.messages == ["a testing process: one", "a testing process: two"]
    assert capfd.readouterr() == ("", "")


def test_one_that_cannot_start() -> None:
    processes = Processes("testing", 1, 100.0, ["no_such_module"])
    with processes, pytest.raises(LeanconvError, match="a testing process did not start"):
        dict(processes.run(abs, {"a": (1,)}))
