"""What a process that runs a model holds of the machine's memory, as the kernel accounts for it.

The account is Linux' /proc/self/smaps_rollup, in a process of its own, less what the process held
before it opened the model. Anonymous memory is the process's own: heap, arena, packed weights.
File-backed memory is what it read of mapped files, libraries included: the kernel may drop it and
read it again, and processes share it. A second process that opens the model while the first one
still has it shows what is shared: its private memory is all that the machine holds more.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from schedules.errors import LeanconvError, complaint
from scripts.benchmarks.harness.runners import import_package, inputs_path, open_runner
from scripts.processes import module_command, module_environment

#: When accounts are made: the model is open, has run once, and has run several times more.
STAGES = ("loaded", "first", "later")
_LATER_RUNS = 5
_ROLLUP = Path("/proc/self/smaps_rollup")


def residency(kind: str, graph: Path, threads: int, folder: Path) -> dict[str, Any]:
    """Run a model in a new process, and in a second one beside it.

    Parameters
    ----------
    kind, graph, threads, folder
        As for :func:`scripts.benchmarks.harness.runners.open_runner`; inputs are in the folder.

    Returns
    -------
    mapping
        For each of :data:`STAGES` its account: ``rss``, ``pss``, ``anonymous``, ``private_dirty``,
        ``file_backed``, in bytes; ``load_s`` and ``load_cpu_s`` to open the model;
        ``second_bytes``: the private memory of the second process.

    Raises
    ------
    LeanconvError
        If the model does not run.
    """
    command = module_command(
        "scripts.benchmarks.harness.held.residency", kind, graph, threads, folder
    )
    with _Held(command) as first:
        found = first.account()
        with _Held(command) as second:
            found["second_bytes"] = second.account()["private_bytes"]
    del found["private_bytes"]
    return found


class _Held:
    """A process that keeps its model open until it is told to end."""

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(
            command,
            text=True,
            env=module_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def __enter__(self) -> _Held:
        return self

    def account(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = next((line for line in self._process.stdout if line.startswith("{")), "")
        if not line:  # what is no account, a runtime says of itself
            _, errors = self._process.communicate()
            raise LeanconvError(f"it does not run in its own process: {complaint(errors)}")
        account: dict[str, Any] = json.loads(line)
        return account

    def __exit__(self, *_: object) -> None:
        self._process.communicate()  # closes its input, at which it ends


# In the new process


def rollup() -> dict[str, int]:
    """This process's account, in bytes, by the kernel's names."""
    lines = (line.split() for line in _ROLLUP.read_text().splitlines()[1:])
    return {words[0].rstrip(":"): int(words[1]) * 1024 for words in lines}


def _growth(before: dict[str, int]) -> dict[str, int]:
    now = rollup()
    grown = {key: now[key] - before[key] for key in now}
    return {
        "rss": grown["Rss"],
        "pss": grown["Pss"],
        "anonymous": grown["Anonymous"],
        "private_dirty": grown["Private_Dirty"],
        "file_backed": grown["Rss"] - grown["Anonymous"],
    }


def main() -> int:
    """The process that :func:`residency` starts: one line of JSON, then it waits."""
    kind, graph, threads, folder = sys.argv[1:]
    with np.load(inputs_path(Path(folder))) as files:
        inputs = list(files.values())
    import_package(kind)
    gc.collect()
    before = rollup()
    wall, cpu = time.perf_counter(), time.process_time()
    runner = open_runner(kind, Path(graph), int(threads), Path(folder))
    load = {"load_s": time.perf_counter() - wall, "load_cpu_s": time.process_time() - cpu}
    accounts = {"loaded": _growth(before)}
    runner.set_inputs(inputs)
    runner.invoke()
    accounts["first"] = _growth(before)
    for _ in range(_LATER_RUNS):
        runner.invoke()
    accounts["later"] = _growth(before)
    now = rollup()
    private = sum(now[key] - before[key] for key in ("Private_Clean", "Private_Dirty"))
    print(json.dumps({**accounts, **load, "private_bytes": private}), flush=True)
    sys.stdin.read()
    return 0


if __name__ == "__main__":
    sys.exit(main())
