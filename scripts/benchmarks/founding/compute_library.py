"""A product, a convolution and a small network: heap in Arm Compute Library and in ours, emulated.

    python -m scripts.benchmarks.founding.compute_library
    python -m scripts.benchmarks.founding.compute_library --jobs product --json rows.json

All run on the emulated board; no figure is of Arm hardware. Arm Compute Library is Debian's,
downloaded for arm64 into the cache folder and called by compute_library.cc; ours are a LiteRT
interpreter with the delegate, Python's own memory not counted. Every block of the heap is counted
(account.c). The publication measured an Android phone, and states no shape but that of the product,
640x48 by 480x480, which cannot be multiplied: here it is 640x480 by 480x480. The convolution is
56x56x64 under 3x3 kernels to 64 channels, the network LeNet-5 with maxima.

allocated, after, most: bytes on the heap beyond those before: with all tensors, after the first
    run, and the most until then
tensors: all of the model's, weights, biases and what lies between layers included
published: KiB before allocation, after it, and after execution
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tflite

import tvmc
from schedules.cache import cache_folder
from schedules.errors import LeanconvError
from schedules.target.toolchain import Toolchain
from scripts.benchmarks.harness.benchmark import Benchmark, Row, Rows, cell, chosen, say, table
from scripts.board import packages
from scripts.board.board import Board, ending
from scripts.models.layers import LAYERS, PRODUCT
from scripts.models.make import ensure
from tvmc.command import LineParser
from tvmc.tables import format_bytes

CPU = "cortex-a72"
OURS, THEIRS = "leanconv in LiteRT", "Arm Compute Library 20.08"
#: Debian 12's packages of the library, and of what its headers include.
_PACKAGES = ("libarm-compute-dev", "libstdc++-12-dev", "libc6-dev")
#: C++'s library and the compiler's, of Debian: the library was built with them.
_LIBRARIES = (
    "usr/lib/aarch64-linux-gnu/libarm_compute.so.20",
    "usr/lib/aarch64-linux-gnu/libarm_compute_core.so.20",
    "usr/lib/aarch64-linux-gnu/libstdc++.so.6",
    "lib/aarch64-linux-gnu/libgcc_s.so.1",
)
_HEADERS = (
    "usr/include/c++/12",
    "usr/include/aarch64-linux-gnu/c++/12",
    "usr/include/aarch64-linux-gnu",
)
_SOURCES = Path(__file__).parent


@dataclass(frozen=True)
class Job:
    """What is run: its name in compute_library.cc, our model, the published KiB."""

    name: str
    model: str
    published: tuple[int, int, int]


JOBS = {
    job.name: job
    for job in (
        Job("product", PRODUCT.name, (80, 6472, 6472)),
        Job("convolution", LAYERS[0].name, (70, 1632, 1692)),
        Job("network", "lenet", (80, 1392, 1636)),
    )
}
COLUMNS = {
    "job": cell("job"),
    "runtime": cell("runtime"),
    "tensors": cell("tensor_bytes", form=format_bytes),
    "allocated": cell("allocated", form=format_bytes),
    "after": cell("after", form=format_bytes),
    "most": cell("most", form=format_bytes),
    "published": cell("published", form=lambda kib: " -> ".join(map(str, kib)) + " KiB"),
}


def _options(parser: LineParser) -> None:
    parser.add_argument("--jobs", metavar="A,B", help=f"of {', '.join(JOBS)} [all]")


def measure(options: argparse.Namespace) -> Iterator[Row]:
    """Two rows for each job."""
    jobs = [JOBS[name] for name in chosen("job", options.jobs, JOBS)]
    board = Board.default()
    board.require_ready()
    with tempfile.TemporaryDirectory(prefix="leanconv-") as name:
        folder = Path(name)
        say("Arm Compute Library …")
        system = fetched(cache_folder("compute_library"))
        program, account = build(system, folder)
        for job in jobs:
            say(f"{job.name} …")
            (graph,) = ensure([job.model])
            ours = of_ours(board, graph, account, folder)
            row = {"job": job.name, "tensor_bytes": tensor_bytes(graph)}
            theirs = of_library(board, job, program, system)
            yield {**row, "runtime": THEIRS, **growth(theirs), "published": job.published}
            yield {**row, "runtime": OURS, **growth(ours), "published": None}


def growth(heap: dict[str, int]) -> dict[str, int]:
    """Bytes beyond those before."""
    return {key: heap[key] - heap["before"] for key in ("allocated", "after", "most")}


def fetched(folder: Path) -> Path:
    """The library's files for arm64, downloaded where they are not there yet."""
    system = folder / "system"
    if not system.exists():
        host = packages.this_host()
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix="partial-") as name:
            partial = Path(name)
            wanted = [f"{package}:arm64" for package in _PACKAGES]
            unpacked = partial / "system"
            unpacked.mkdir()
            for deb in packages.download_debian(wanted, partial / "apt", host):
                packages.unpack_debian(deb, unpacked)
            unpacked.rename(system)
    return system


def build(system: Path, folder: Path) -> tuple[Path, Path]:
    """The program that calls the library, and the counting library for others."""
    target = ("-target", "aarch64-linux-gnu.2.36", "-O1")
    headers = [word for path in _HEADERS for word in ("-isystem", str(system / path))]
    headers += ["-idirafter", str(system / "usr/include")]
    program, account = folder / "compute_library", folder / "account.so"
    counting = _SOURCES / "account.c"
    Toolchain.default().run([*target, "-shared", "-fPIC", counting, "-o", account])
    language = ("-std=c++14", "-w", "-nostdinc++", *headers)
    source, compiled = _SOURCES / "compute_library.cc", folder / "compute_library.o"
    Toolchain.default("c++").run([*target, *language, "-c", source, "-o", compiled])
    libraries = [system / path for path in _LIBRARIES]
    Toolchain.default().run([*target, compiled, counting, *libraries, "-o", program])
    return program, account


def of_library(board: Board, job: Job, program: Path, system: Path) -> dict[str, int]:
    """What the library takes of the heap for a job."""
    folders = dict.fromkeys(str(system / Path(path).parent) for path in _LIBRARIES)
    variables = {"LD_LIBRARY_PATH": ":".join(folders)}
    return _counted(board.run([program, job.name], CPU, variables=variables, capture_output=True))


def of_ours(board: Board, graph: Path, account: Path, folder: Path) -> dict[str, int]:
    """What LiteRT and the delegate take for a model."""
    library = folder / f"{graph.stem}.so"
    tvmc.compile(graph, output=library, target=CPU)
    script = _SOURCES / "on_board.py"
    variables = {"LD_PRELOAD": str(account)}
    return _counted(
        board.python([script, graph, library], CPU, variables=variables, capture_output=True)
    )


def tensor_bytes(graph: Path) -> int:
    """What all tensors of a model take, of float32."""
    found = tflite.Model.GetRootAsModel(graph.read_bytes(), 0).Subgraphs(0)
    shapes = (found.Tensors(i).ShapeAsNumpy() for i in range(found.TensorsLength()))
    return sum(4 * int(np.prod(shape)) for shape in shapes)


def _counted(done: subprocess.CompletedProcess[str]) -> dict[str, int]:
    if done.returncode:
        raise LeanconvError(f"the program on the board {ending(done)}")
    heap: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return heap


def report(rows: Rows) -> Iterator[str]:
    """All figures, a job after the other."""
    yield table(COLUMNS, rows)


BENCHMARK = Benchmark("founding.compute_library", __doc__, measure, report, _options)
main = BENCHMARK.main

if __name__ == "__main__":
    sys.exit(main())
