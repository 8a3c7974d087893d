"""What a model takes of memory in one runtime, in a process of its own.

Counted is from after the import of the runtime's package to the end of the first run. On the heap
is what was taken with malloc and its kin and mapped without a file, which memray records call by
call, in every runtime alike: interpreter, arena, delegate, packed weights, temporaries, and those
weights that a runtime reads into memory. A model's file that is mapped is not on the heap; memray
does not tell mappings of files apart, so the one as large as the file is left out. The kernel
counts the resident set, mapped files included, in another process without memray.
"""

from __future__ import annotations

import gc
import importlib
import json
import resource
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from schedules.errors import LeanconvError, complaint, reason
from schedules.target import elf
from scripts.benchmarks.harness.inference import described
from scripts.benchmarks.harness.runners import (
    Runner,
    import_package,
    inputs_path,
    library_path,
    open_runner,
)
from scripts.processes import module_command, module_environment
from tvmc.running.interpreter import Arrays
from tvmc.tables import format_bytes


def measure(
    kind: str, graph: Path, threads: int, folder: Path, limit_bytes: int = 0
) -> dict[str, int | None]:
    """Open ``graph`` in a runtime and run it once, in new processes.

    Parameters
    ----------
    kind, graph, threads, folder
        As for :func:`scripts.benchmarks.harness.runners.open_runner`; inputs are in the folder.
    limit_bytes : int
        A process may take so much memory and no more, unless it is 0.

    Returns
    -------
    mapping of str to int or None
        ``peak_heap_bytes``, ``peak_rss_bytes``: the most on the heap and in memory;
        ``kept_heap_bytes``, ``kept_rss_bytes``: what is left of it after the run;
        ``tensor_bytes``: input and output tensors; ``arena_bytes``: TFLite's arena, a delegate's
        workspace included; ``workspace_bytes``, ``packed_bytes``, ``own_bytes``: what our
        delegate reports.

    Raises
    ------
    LeanconvError
        If it does not run.
    """
    found: dict[str, int | None] = {}
    # memray itself would not find room within the limit.
    for counted, limit in (("rss", limit_bytes), ("heap", 0)):
        module = "scripts.benchmarks.harness.held.memory"
        command = module_command(module, counted, kind, graph, threads, folder, limit)
        environment = {**module_environment(), "PYTHONMALLOC": "malloc"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if done.returncode:
            cause = complaint(done.stderr)
            if done.returncode < 0:
                cause = signal.Signals(-done.returncode).name
            place = f"within {format_bytes(limit_bytes)}" if limit_bytes else "in its own process"
            raise LeanconvError(f"it does not run {place}: {cause}")
        found |= json.loads(done.stdout.splitlines()[-1])
    return found


# In the new process


def _run_once(kind: str, graph: Path, threads: int, folder: Path, inputs: Arrays) -> Runner:
    runner = open_runner(kind, graph, threads, folder)
    runner.set_inputs(inputs)
    runner.invoke()
    return runner


def _heap(kind: str, graph: Path, threads: int, folder: Path, inputs: Arrays) -> dict[str, Any]:
    import memray

    with tempfile.TemporaryDirectory(prefix="leanconv-") as name:
        trace = Path(name) / "trace"
        with memray.Tracker(trace):
            runner = _run_once(kind, graph, threads, folder, inputs)
        peak, kept = peak_bytes(trace, graph.stat().st_size)
    tensors = sum(array.nbytes for array in [*inputs, *runner.outputs()])
    more = described(runner.session) if runner.session else {}
    return {
        "peak_heap_bytes": peak,
        "kept_heap_bytes": kept,
        "tensor_bytes": tensors,
        **{
            f"{key}_bytes": more.get(f"{key}_bytes")
            for key in ("arena", "workspace", "packed", "own")
        },
    }


def peak_bytes(trace: Path, file_bytes: int) -> tuple[int, int]:
    """The most that was on the heap, and what was left, of what memray recorded.

    A mapping of ``file_bytes`` is the model's file.
    """
    import memray

    kinds = memray.AllocatorType
    live: dict[int, int] = {}
    held = peak = 0
    with memray.FileReader(trace) as reader:
        for record in reader.get_allocation_records():
            # A block that moved was freed where it was; a second mapping replaces the first.
            held -= live.pop(record.address, 0)
            is_file = record.allocator == kinds.MMAP and record.size == file_bytes
            if record.allocator not in (kinds.FREE, kinds.MUNMAP) and not is_file:
                live[record.address] = record.size
                held += record.size
                peak = max(peak, held)
    return peak, held


def _resident(kind: str, graph: Path, threads: int, folder: Path, inputs: Arrays) -> dict[str, Any]:
    before = _resident_bytes()[0]
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    runner = _run_once(kind, graph, threads, folder, inputs)
    kept, peak = (size - before for size in _resident_bytes())
    del runner
    return {"peak_rss_bytes": peak, "kept_rss_bytes": kept}


def _status() -> dict[str, int]:
    """Of this process, what the kernel tells in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    words = [line.split() for line in lines if line.endswith(" kB")]
    return {key.rstrip(":"): int(count) * 1024 for key, count, _ in words}


def _resident_bytes() -> tuple[int, int]:
    """Now, and at most."""
    return _status()["VmRSS"], _status()["VmHWM"]


def main() -> int:
    """The process that :func:`measure` starts."""
    counted, kind, graph, threads, folder, limit = sys.argv[1:]
    import_package(kind)
    importlib.import_module("memray")
    with np.load(inputs_path(Path(folder))) as files:
        inputs = list(files.values())
    if library_path(Path(folder)).exists():
        # What Python keeps of checking a library before it is loaded is no part of the runtime.
        elf.refusal(library_path(Path(folder)), "tflite_plugin_create_delegate")
    gc.collect()
    gc.disable()
    if int(limit):
        most = _status()["VmData"] + int(limit)
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    function = {"heap": _heap, "rss": _resident}[counted]
    try:
        print(json.dumps(function(kind, Path(graph), int(threads), Path(folder), inputs)))
    except (LeanconvError, MemoryError) as error:
        print(reason(error).replace(graph, Path(graph).name), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
