"""The peak heap of one TFLite run, in a process of its own.

`mallinfo` after a run misses what was freed before its end. So a small library (heap_peak.c) is
preloaded, which counts every block of malloc and every anonymous mapping of the process. Counted is
from after the import of the runtime's package to the end of the first run: the interpreter, its
arena, the delegate, packed weights and temporaries, in every runtime alike.

Input and output tensors are in TFLite's arena and are subtracted. The model's weights are not on
the heap: the file is mapped into memory. What remains includes the interpreter itself, 0.1 MiB.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import math
import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from schedules.errors import LeanconvError
from schedules.target.toolchain import GLIBC
from scripts.benchmarks.harness.inference import delegate_memory
from scripts.processes import module_command, module_environment
from tvmc.running.interpreter import Runtime, Session, runtime
from tvmc.tables import format_bytes

SOURCE = Path(__file__).with_name("heap_peak.c")


@dataclass(frozen=True)
class HeapUse:
    """Bytes of one interpreter.

    Parameters
    ----------
    peak_bytes : int
        The most that the heap held beside the input and output tensors.
    kept_bytes : int
        What it holds of that when the first run has ended.
    tensor_bytes : int
        Input and output tensors.
    arena_bytes : int
        TFLite's arena, with these tensors and with a delegate's workspace.
    workspace_bytes, packed_bytes : int or None
        What a leanconv delegate reports.
    """

    peak_bytes: int
    kept_bytes: int
    tensor_bytes: int
    arena_bytes: int
    workspace_bytes: int | None
    packed_bytes: int | None


class HeapMeter:
    """Measures in processes under the counting library, which it compiles."""

    def __init__(self, library: Path) -> None:
        self._library = library

    @classmethod
    @contextlib.contextmanager
    def compiled(cls) -> Iterator[HeapMeter]:
        """A meter, whose library is removed at the end.

        Raises
        ------
        LeanconvError
            If the library cannot be compiled.
        """
        with tempfile.TemporaryDirectory(prefix="leanconv-") as folder:
            library = Path(folder) / "heap_peak.so"
            target = f"{os.uname().machine}-linux-gnu.{GLIBC}"
            options = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-shared", "-fPIC"]
            command = [sys.executable, "-m", "ziglang", "cc", "-target", target, *options]
            done = subprocess.run(
                [*command, str(SOURCE), "-o", str(library)], capture_output=True, text=True
            )
            if done.returncode:
                raise LeanconvError(f"cannot compile {SOURCE.name}: {_last_line(done.stderr)}")
            yield cls(library)

    def environment(self) -> dict[str, str]:
        """For a process under the library; Python's own small blocks then come from malloc too."""
        return {**os.environ, "LD_PRELOAD": str(self._library), "PYTHONMALLOC": "malloc"}

    def measure(self, graph: Path, limit_bytes: int, **session: Any) -> HeapUse:
        """Open ``graph`` with LiteRT, run it once, and tell what that took.

        Parameters
        ----------
        limit_bytes : int
            The process may take so much memory and no more.
        session : keyword arguments
            Of :class:`scripts.benchmarks.harness.inference.Session`.

        Raises
        ------
        LeanconvError
            If it does not run, for example within the limit.
        """
        arguments = json.dumps({"graph": graph, **session}, default=str)
        done = subprocess.run(
            module_command("scripts.benchmarks.harness.heap_peak", limit_bytes, arguments),
            capture_output=True,
            text=True,
            env=module_environment(self.environment()),
        )
        if done.returncode:
            cause = _last_line(done.stderr)
            if done.returncode < 0:
                cause = signal.Signals(-done.returncode).name
            raise LeanconvError(f"it does not run within {format_bytes(limit_bytes)}: {cause}")
        return HeapUse(**json.loads(done.stdout.splitlines()[-1]))


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no message"])[-1]


# In the process under the library


def run_once(graph: Path, litert: Runtime, session: Mapping[str, Any]) -> HeapUse:
    """Measure in this process, which has the library preloaded."""
    counter = ctypes.CDLL(None)
    for name in ("heap_live", "heap_peak"):
        getattr(counter, name).restype = ctypes.c_size_t
    gc.collect()
    gc.disable()
    before = counter.heap_live()
    counter.heap_peak_reset()
    # What a convolution allocates does not depend on what is in its input.
    opened = Session(graph, litert, **session)
    opened.invoke()
    peak, kept = counter.heap_peak() - before, counter.heap_live() - before
    details = opened.inputs() + opened.interpreter.get_output_details()
    tensors = sum(math.prod(d["shape"].tolist()) * np.dtype(d["dtype"]).itemsize for d in details)
    reported = delegate_memory(opened.report())
    return HeapUse(
        peak_bytes=peak - tensors,
        kept_bytes=kept - tensors,
        tensor_bytes=tensors,
        arena_bytes=opened.probe().arena_bytes(),
        workspace_bytes=reported and reported.workspace_bytes,
        packed_bytes=reported and reported.packed_bytes,
    )


def _limit_memory(more_bytes: int) -> None:
    """Let this process take ``more_bytes`` of memory beside what it has."""
    lines = Path("/proc/self/status").read_text().splitlines()
    data = next(line for line in lines if line.startswith("VmData:"))
    limit = int(data.split()[1]) * 1024 + more_bytes
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def main() -> int:
    """The process that :meth:`HeapMeter.measure` starts: a limit, then a session as JSON."""
    limit, arguments = int(sys.argv[1]), json.loads(sys.argv[2])
    graph = Path(arguments.pop("graph"))
    if "delegate" in arguments:
        arguments["delegate"] = Path(arguments["delegate"])
    try:
        litert = runtime("litert")
        _limit_memory(limit)
        print(json.dumps(asdict(run_once(graph, litert, arguments))))
    except (LeanconvError, MemoryError) as error:
        print(str(error).replace(str(graph), graph.name) or "MemoryError", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
