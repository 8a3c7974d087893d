"""Work in processes that may crash, hang or run out of memory, and that end with this one.

The processes stay between calls, as importing TVM takes a second; one that crashes or has to be
ended takes only its own task along, and the next task gets a new one. Each has a pipe of its own:
in :mod:`concurrent.futures` the death of one is the end of all and nothing has a time limit, and
pebble's share a pipe behind a lock, which one that is ended can take along for a minute.
"""

from __future__ import annotations

import ctypes
import importlib
import logging
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from schedules.errors import LeanconvError
from schedules.interrupts import interrupts_blocked
from schedules.torch_left_out import leave_torch_out

#: A process that does not come to work within so long never will.
START_SECONDS = 120.0

_PR_SET_PDEATHSIG = 1

T = TypeVar("T")
P = TypeVar("P", bound="Processes")

_LOG = logging.getLogger(__name__)


class ProcessLost(LeanconvError):
    """A task's process crashed, or had to be ended because it took too long."""


class Processes:
    """Processes that wait for tasks; a context manager.

    Parameters
    ----------
    work : str
        What they do, for messages: "compiling".
    jobs : int
        Of them.
    timeout_s : float
        One that takes longer for one task is ended.
    modules : sequence of str
        That they import first. The user's script is among them only if it is named here, as
        ``__main__``: it may have no guard against being run again.
    memory_bytes : int, optional
        Address space that one may take.
    """

    def __init__(
        self,
        work: str,
        jobs: int,
        timeout_s: float,
        modules: Sequence[str] = (),
        memory_bytes: int | None = None,
    ) -> None:
        self.work = work
        self.jobs = jobs
        self.timeout_s = timeout_s
        self.modules = modules
        self.memory_bytes = memory_bytes
        self._workers: list[_Worker] = []
        # Holds their temporary files, which they may not come to remove, and what they print.
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self: P) -> P:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all processes, whatever they do, and log what they printed."""
        for worker in self._workers:
            worker.kill()
        self._workers.clear()
        if self._folder is not None:
            for path in sorted(Path(self._folder.name).glob("*.output")):
                for line in path.read_text(errors="replace").splitlines():
                    _LOG.info("a %s process: %s", self.work, line)
            self._folder.cleanup()
            self._folder = None

    def run(
        self, function: Callable[..., T], tasks: Mapping[str, tuple[Any, ...]]
    ) -> Iterator[tuple[str, T | LeanconvError]]:
        """Call ``function`` with each tuple of arguments: names and results, as they come.

        The result of a task that cannot be done is the error that ``function`` raised, or a
        :class:`ProcessLost`. Errors that are no LeanconvErrors, which may not survive the way here,
        end the process.

        Raises
        ------
        LeanconvError
            If processes cannot be started.
        """
        pending = deque(tasks.items())
        missing = len(tasks)
        try:
            while missing:
                self._start(min(self.jobs, missing))
                for worker in self._workers:
                    if pending and worker.is_idle:
                        name, arguments = pending.popleft()
                        worker.begin(name, function, arguments, self.timeout_s)
                for worker in self._next_events():
                    done, result = worker.result()
                    if done is not None:
                        missing -= 1
                        yield done, result
                self._workers = [worker for worker in self._workers if worker.is_alive]
        except BaseException:
            self.close()  # what still works would answer the next call
            raise

    def _start(self, count: int) -> None:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="leanconv-")
        arguments = (self._folder.name, self.modules, self.memory_bytes)
        while len(self._workers) < count:
            # Interrupts are for this process alone, and it forgets none that it started.
            with interrupts_blocked(), _main_hidden("__main__" not in self.modules):
                self._workers.append(_Worker(self.work, arguments))

    def _next_events(self) -> list[_Worker]:
        """Workers that have something to say, or no time left."""
        busy = [worker for worker in self._workers if not worker.is_idle]
        first = min(worker.deadline for worker in busy)
        ready = wait([w.connection for w in busy], max(0.0, first - time.monotonic()))
        now = time.monotonic()
        return [w for w in busy if w.connection in ready or w.deadline <= now]


class _Worker:
    """One process: it starts, then it is idle or does the task ``name``."""

    def __init__(self, work: str, arguments: tuple[Any, ...]) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(
            target=_serve, args=(theirs, *arguments), daemon=True
        )
        self.process.start()
        theirs.close()  # so that its death can be read
        self.work = work
        self.name: str | None = None
        self.timeout_s = START_SECONDS
        self.deadline = time.monotonic() + START_SECONDS
        self.is_idle, self.is_alive = False, True

    def begin(
        self, name: str, function: Callable[..., Any], arguments: tuple[Any, ...], timeout_s: float
    ) -> None:
        """Give it a task."""
        self.name, self.is_idle, self.timeout_s = name, False, timeout_s
        self.deadline = time.monotonic() + timeout_s
        with suppress(ConnectionError):  # it died while it was idle, which its pipe tells
            self.connection.send((function, arguments))

    def result(self) -> tuple[str | None, Any]:
        """The task, ``None`` if it has only come to work now, and what became of it."""
        result: Any
        if not self.connection.poll():
            result = ProcessLost(f"{self.work} took longer than {self.timeout_s:g} s")
            self.kill()
        else:
            try:
                result = self.connection.recv()
            except (EOFError, ConnectionError):
                result = ProcessLost(f"crashed while {self.work}")
                self.kill()
        if self.name is None and not self.is_alive:
            raise ProcessLost(
                f"a {self.work} process did not start: is there too little memory, or no "
                '`if __name__ == "__main__":` in a script with an algorithm of its own?'
            )
        name, self.name, self.is_idle = self.name, None, True
        return name, result

    def kill(self) -> None:
        """End it at once, and not with SIGTERM: LLVM's handler of that can wait for ever."""
        self.process.kill()
        self.process.join()
        self.connection.close()
        self.is_alive = False


def end_with_parent() -> None:
    """Let the kernel end this process when the thread that started it comes to its end."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@contextmanager
def _main_hidden(when: bool) -> Iterator[None]:
    """New processes do not run the user's script again."""
    main = sys.modules["__main__"]
    if when:
        sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _serve(
    connection: Connection, folder: str, modules: Sequence[str], memory_bytes: int | None
) -> None:
    """What a process does: answer tasks, until nobody is there to give any."""
    end_with_parent()  # also of one that hangs
    tempfile.tempdir = folder
    # What LLVM says when it gives up is not for the terminal, which may show a display.
    with Path(folder, f"{os.getpid()}.output").open("wb") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if memory_bytes is not None:
        _, most = resource.getrlimit(resource.RLIMIT_AS)
        limit = memory_bytes if most == resource.RLIM_INFINITY else min(most, memory_bytes)
        resource.setrlimit(resource.RLIMIT_AS, (limit, most))
    leave_torch_out()
    for name in modules:
        importlib.import_module(name)
    with suppress(EOFError, ConnectionError):
        connection.send(None)
        while True:
            function, arguments = connection.recv()
            try:
                answer = function(*arguments)
            except LeanconvError as error:
                answer = error
            connection.send(answer)
