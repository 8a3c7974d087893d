"""Compile candidates in processes that may crash, hang or run out of memory.

The processes stay between batches, as importing TVM takes a second. A compiler that crashes or has
to be ended takes its own process along, and the next candidate gets a new one.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import TracebackType

from schedules.errors import LeanconvError, reason
from schedules.interrupts import interrupts_blocked
from schedules.lower.c_abi import KernelObject
from schedules.plan.planner import Plan, compile_plans
from schedules.target.simd import Simd

#: Address space of one compiling process, of which TVM's libraries take one GB.
MEMORY_BYTES = 6 * 2**30
#: A process that does not come to work within so long never will.
START_SECONDS = 120.0


class Builder:
    """Processes that compile; a context manager.

    Parameters
    ----------
    simd : Simd
        What to compile for.
    jobs : int
        Processes.
    timeout_s : float
        One that takes longer for one candidate is ended.
    """

    def __init__(self, simd: Simd, jobs: int, timeout_s: float) -> None:
        self.simd = simd
        self.jobs = jobs
        self.timeout_s = timeout_s
        self._workers: list[_Worker] = []

    def __enter__(self) -> Builder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all processes, whatever they do."""
        for worker in self._workers:
            worker.kill()
        self._workers.clear()

    def build(self, plans: Mapping[str, Plan]) -> dict[str, KernelObject | str]:
        """Compile each plan by itself: its kernel, or in one line why there is none, by name.

        Raises
        ------
        LeanconvError
            If processes cannot be started.
        """
        pending = deque(plans.items())
        results: dict[str, KernelObject | str] = {}
        try:
            while len(results) < len(plans):
                self._start(min(self.jobs, len(plans) - len(results)))
                for worker in self._workers:
                    if pending and worker.is_idle:
                        worker.begin(*pending.popleft(), self.timeout_s)
                for worker in self._next_events():
                    name = worker.name
                    result = worker.result(self.timeout_s)
                    if name is not None and result is not None:
                        results[name] = result
                self._workers = [worker for worker in self._workers if worker.is_alive]
        except BaseException:
            self.close()  # what still compiles would answer the next call
            raise
        return {name: results[name] for name in plans}

    def _start(self, count: int) -> None:
        while len(self._workers) < count:
            with interrupts_blocked():  # for the process too, and none is forgotten
                self._workers.append(_Worker.start(self.simd))

    def _next_events(self) -> list[_Worker]:
        """Workers that have something to say, or no time left."""
        busy = [worker for worker in self._workers if not worker.is_idle]
        first = min(worker.deadline for worker in busy)
        ready = wait([w.connection for w in busy], max(0.0, first - time.monotonic()))
        now = time.monotonic()
        return [w for w in busy if w.connection in ready or w.deadline <= now]


@dataclass(eq=False)
class _Worker:
    """One process: it starts, then it is idle or compiles the candidate ``name``."""

    process: BaseProcess
    connection: Connection
    deadline: float
    is_idle: bool = False
    is_alive: bool = True
    name: str | None = None

    @classmethod
    def start(cls, simd: Simd) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_compile_all, args=(theirs, simd), daemon=True)
        process.start()
        theirs.close()  # so that its death can be read
        return cls(process, ours, time.monotonic() + START_SECONDS)

    def begin(self, name: str, plan: Plan, timeout_s: float) -> None:
        """Give it a candidate to compile."""
        self.name, self.is_idle = name, False
        self.deadline = time.monotonic() + timeout_s
        self.connection.send((name, plan))

    def result(self, timeout_s: float) -> KernelObject | str | None:
        """What became of the candidate; ``None`` if it has only come to work now."""
        answer: KernelObject | str | None
        if not self.connection.poll():
            answer = f"compiling took longer than {timeout_s:g} s"
            self.kill()
        else:
            try:
                answer = self.connection.recv()
            except (EOFError, ConnectionError):
                answer = "crashed while compiling"
                self.kill()
        if self.name is None and not self.is_alive:
            raise LeanconvError("a compiling process did not start: is there too little memory?")
        self.name, self.is_idle = None, True
        return answer

    def kill(self) -> None:
        """End it at once, and not with SIGTERM: LLVM's handler of that can wait for ever."""
        self.process.kill()
        self.process.join()
        self.connection.close()
        self.is_alive = False


def _compile_all(connection: Connection, simd: Simd) -> None:
    """What a process does: answer candidates, until nobody is there to ask."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    limit = MEMORY_BYTES if most == resource.RLIM_INFINITY else min(most, MEMORY_BYTES)
    resource.setrlimit(resource.RLIMIT_AS, (limit, most))
    try:
        connection.send(None)
        # What LLVM says when it gives up is not for the terminal, which may show a display.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        while True:
            name, plan = connection.recv()
            connection.send(_compile(name, plan, simd))
    except (EOFError, ConnectionError):
        return


def _compile(name: str, plan: Plan, simd: Simd) -> KernelObject | str:
    try:
        return compile_plans({name: plan}, simd)
    except Exception as error:  # of whatever kind TVM raises, which not every process could unpack
        return f"cannot be compiled: {reason(error)}"
