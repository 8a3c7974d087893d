"""What a network takes of memory in one runtime, in a process of its own.

From after the import of the runtime's package to the end of the first run, heap_peak.c counts the
heap: interpreter, arena, packed weights, and those weights that a runtime reads into memory
instead of mapping its file. The kernel counts the resident set, mapped files included.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from schedules.errors import LeanconvError
from scripts.benchmarks.harness.heap_peak import HeapMeter
from scripts.benchmarks.harness.inference import delegate_memory
from scripts.benchmarks.harness.runners import NCNN, ONNX_RUNTIME, RUNNERS, image_path
from scripts.processes import module_command, module_environment

_MODULES = {NCNN: "ncnn", ONNX_RUNTIME: "onnxruntime"}


@dataclass(frozen=True)
class NetworkMemory:
    """Bytes of one network in one runtime.

    Parameters
    ----------
    peak_heap_bytes, peak_rss_bytes : int
        The most on the heap and in memory until the end of the first run.
    kept_heap_bytes, kept_rss_bytes : int
        What is left of it then.
    arena_bytes : int or None
        TFLite's arena, a delegate's workspace included.
    workspace_bytes, packed_bytes : int or None
        What a leanconv delegate reports.
    """

    peak_heap_bytes: int
    kept_heap_bytes: int
    peak_rss_bytes: int
    kept_rss_bytes: int
    arena_bytes: int | None
    workspace_bytes: int | None
    packed_bytes: int | None


def measure(meter: HeapMeter, name: str, graph: Path, threads: int, folder: Path) -> NetworkMemory:
    """Open ``graph`` in the runtime ``name`` and run it once, in a new process.

    Raises
    ------
    LeanconvError
        If it does not run.
    """
    module = "scripts.benchmarks.harness.memory"
    command = module_command(module, name, graph, threads, folder)
    environment = module_environment(meter.environment())
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        raise LeanconvError(f"it does not run in a process of its own: {last}")
    return NetworkMemory(**json.loads(done.stdout.splitlines()[-1]))


# In the new process


def _run_once(name: str, graph: Path, threads: int, folder: Path) -> NetworkMemory:
    importlib.import_module(_MODULES.get(name, "ai_edge_litert.interpreter"))
    image = np.load(image_path(folder))
    counter = ctypes.CDLL(None)
    for function in ("heap_live", "heap_peak"):
        getattr(counter, function).restype = ctypes.c_size_t
    gc.collect()
    gc.disable()
    heap, (resident, _) = counter.heap_live(), _resident_bytes()
    counter.heap_peak_reset()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    runner = RUNNERS[name](graph, threads, folder)
    runner.set_input(image)
    runner.invoke()
    peak_heap, kept_heap = counter.heap_peak() - heap, counter.heap_live() - heap
    kept_rss, peak_rss = (size - resident for size in _resident_bytes())
    session = runner.session
    reported = delegate_memory(session.report()) if session else None
    return NetworkMemory(
        peak_heap_bytes=peak_heap,
        kept_heap_bytes=kept_heap,
        peak_rss_bytes=peak_rss,
        kept_rss_bytes=kept_rss,
        arena_bytes=session.probe().arena_bytes() if session else None,
        workspace_bytes=reported and reported.workspace_bytes,
        packed_bytes=reported and reported.packed_bytes,
    )


def _resident_bytes() -> tuple[int, int]:
    """Now, and at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    sizes = {key: value.split() for key, _, value in (line.partition(":") for line in lines)}
    return int(sizes["VmRSS"][0]) * 1024, int(sizes["VmHWM"][0]) * 1024


if __name__ == "__main__":
    _name, _graph, _threads, _folder = sys.argv[1:]
    print(json.dumps(asdict(_run_once(_name, Path(_graph), int(_threads), Path(_folder)))))
