"""Timing of runtimes that use several threads: in turns, each in a process of its own.

Threads of a pool that wait for the next layer poll for a while before they sleep. In one process
with another runtime's they would take its cores, most of all where they have priority: two pools of
two threads on two cores disturb each other by a tenth and more. So each subject is a process that
sleeps in a read of its input between its turns, and before the next one's turn the last one's
threads get the time to fall asleep (:data:`PARKED_SECONDS`). A turn begins with a call that is not
counted, which wakes them and brings back what the caches have lost.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from schedules.errors import LeanconvError
from scripts.benchmarks.harness.interleaving import SAMPLE_SECONDS, Timing
from scripts.benchmarks.harness.runners import inputs_path, open_runner
from scripts.processes import module_command, module_environment

#: XNNPACK's threads poll a million times, some 15 to 40 ms, before they sleep; ours 0.1 ms.
PARKED_SECONDS = 0.06
#: A turn lasts about so long.
TURN_SECONDS = 0.1


class Apart:
    """One runtime with a network and a number of threads, in its own process.

    Raises
    ------
    LeanconvError
        If it cannot run the network.
    """

    def __init__(self, kind: str, graph: Path, threads: int, folder: Path) -> None:
        module = "scripts.benchmarks.harness.apart.processes"
        self.name = f"{kind}, {threads} threads"
        self.process = subprocess.Popen(
            module_command(module, kind, graph, threads, folder),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=module_environment(),
            text=True,
        )
        (self.fastest,) = self._answer()

    def turn(self) -> list[float]:
        """Seconds of a call, several figures."""
        calls = max(1, round(SAMPLE_SECONDS / self.fastest))
        samples = max(1, round(TURN_SECONDS / (self.fastest * calls)))
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # which the answer tells
            print(samples, calls, file=self.process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> list[float]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise LeanconvError(f"{self.name}: its process ended with {self.process.wait()}")
        values: list[float] = json.loads(line)
        return values

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()


@contextlib.contextmanager
def opened_apart(
    subjects: Sequence[tuple[str, int]], graph: Path, folder: Path
) -> Iterator[Mapping[tuple[str, int], Apart]]:
    """Processes by kind of runtime and number of threads; inputs are in ``folder``."""
    apart: dict[tuple[str, int], Apart] = {}
    try:
        for kind, threads in subjects:
            apart[kind, threads] = Apart(kind, graph, threads, folder)
        yield apart
    finally:
        for process in apart.values():
            process.close()


def interleave_apart(
    subjects: Mapping[tuple[str, int], Apart],
    state: Callable[[], str],
    *,
    rounds: int,
    seconds: float,
) -> dict[str, dict[tuple[str, int], Timing]]:
    """Time processes in turns, in an order that reverses every round.

    At most ``rounds`` turns of each; fewer, but three at least, when ``seconds`` have passed. Those
    of each ``state`` of the machine are kept apart; rounds in which it changes do not count.
    """
    found: dict[str, dict[tuple[str, int], list[float]]] = {}
    order, end = list(subjects), time.perf_counter() + seconds
    before = state()
    for done in range(rounds):
        if done >= 3 and time.perf_counter() > end:
            break
        turns = {}
        for key in order:
            turns[key] = subjects[key].turn()
            time.sleep(PARKED_SECONDS)
        order.reverse()
        after = state()
        if before == after:
            samples = found.setdefault(after, {key: [] for key in subjects})
            for key, values in turns.items():
                samples[key] += values
        before = after
    return {
        name: {key: Timing(tuple(values)) for key, values in samples.items()}
        for name, samples in found.items()
    }


def main() -> int:
    """The process of one runtime: answers each line of samples and calls with seconds a call."""
    kind, graph, threads, folder = sys.argv[1:]
    runner = open_runner(kind, Path(graph), int(threads), Path(folder))
    with np.load(inputs_path(Path(folder))) as files:
        runner.set_inputs(list(files.values()))

    def timed(calls: int) -> float:
        start = time.perf_counter()
        for _ in range(calls):
            runner.invoke()
        return (time.perf_counter() - start) / calls

    print(json.dumps([min(timed(1) for _ in range(3))]), flush=True)
    for line in sys.stdin:
        samples, calls = map(int, line.split())
        runner.invoke()
        print(json.dumps([timed(calls) for _ in range(samples)]), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
