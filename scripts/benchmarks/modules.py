"""Whole networks as modules for TVM's runtime: leanconv's, TVM's own, and XNNPACK beside them.

    python -m scripts.benchmarks.modules
    python -m scripts.benchmarks.modules mobilenet_v2 --seconds 60 --rounds 200 --json rows.json

Batch 1, float32, one thread. All are timed in one process in turns. What TVM compiles by itself
takes seconds for an inference, so all three first take a few turns (--slow-rounds), for how much
faster leanconv is than that; then leanconv and XNNPACK take many, for the ratio of these two.

leanconv: what `tvmc compile -f tar` makes, in TVM's virtual machine
TVM: the same imported model, by `tvm.compile` with its default pipeline
compile: seconds until the library is written; library: its bytes, constants included
min, median: of one inference, and their ratios to LiteRT + XNNPACK (below 1 is faster)
speed-up: over TVM's own, of minima and of medians
max diff: largest difference of an output to the built-in kernels'
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import tvmc
from schedules.errors import LeanconvError
from scripts.benchmarks.harness.benchmark import (
    Benchmark,
    Row,
    Rows,
    cell,
    difference,
    factor,
    ratio,
    say,
    table,
)
from scripts.benchmarks.harness.comparison import SAME_MODEL, built_in_outputs, ratios
from scripts.benchmarks.harness.inference import LEANCONV, max_difference
from scripts.benchmarks.harness.interleaving import interleave, milliseconds
from scripts.benchmarks.harness.runners import BUILT_IN, XNNPACK
from scripts.models.architectures import ARCHITECTURES
from scripts.models.make import RECIPES, ensure
from tvmc.command import LineParser, at_least_one
from tvmc.running.interpreter import Arrays, Session, runtime
from tvmc.running.vm_process import THREADS_VARIABLE
from tvmc.tables import format_bytes

#: The networks that a module's speed is quoted for.
NETWORKS = ("mobilenet_v2", "resnet50", "vgg16")
#: What TVM makes of a network without us.
PLAIN = "TVM"
COLUMNS = {
    "network": cell("network"),
    "runtime": cell("runtime"),
    "compile s": cell("compile_seconds", form=lambda seconds: f"{seconds:.1f}"),
    "library": cell("library_bytes", form=format_bytes),
    "min ms": cell("times", "min_s", form=milliseconds),
    "median ms": cell("times", "median_s", form=milliseconds),
    "min ratio": cell("ratios", "min", form=ratio),
    "median ratio": cell("ratios", "median", form=ratio),
    "speed-up": cell("speed_up", "min", form=factor),
    "median": cell("speed_up", "median", form=factor),
    "max diff": cell("max_difference", form=difference),
}


def _options(parser: LineParser) -> None:
    add = parser.add_argument
    add("networks", nargs="*", metavar="NETWORK",
        help=f"[{' '.join(NETWORKS)}], or any of {' '.join(ARCHITECTURES)}")  # fmt: skip
    add("--slow-rounds", type=at_least_one, default=3, metavar="N",
        help="samples of TVM's own modules [%(default)s]")  # fmt: skip


def measure(options: argparse.Namespace) -> Iterator[Row]:
    """Three runtimes on every network."""
    names = options.networks or NETWORKS
    for name in names:
        if name not in RECIPES:
            raise LeanconvError(f"unknown network {name!r}: one of {', '.join(ARCHITECTURES)}")
    os.environ[THREADS_VARIABLE] = "1"
    for name, graph in zip(names, ensure(names), strict=True):
        with tempfile.TemporaryDirectory(prefix="leanconv-") as folder:
            yield from bench(name, graph, Path(folder), options)


def bench(name: str, graph: Path, folder: Path, options: argparse.Namespace) -> Iterator[Row]:
    """The rows of one network.

    Speed-ups are over TVM's own module, in the turns that it took part in.
    """
    values, expected = built_in_outputs(graph)
    say(f"{name}: compiling …")
    modules = {LEANCONV: _compile(graph, folder), PLAIN: _compile_plain(graph, folder)}
    xnnpack = Session(graph, runtime("litert"))
    differences = {XNNPACK: max_difference(xnnpack.run(values), expected)}
    calls: dict[str, Callable[[], Any]] = {XNNPACK: xnnpack.invoke}
    for kind, (path, _) in modules.items():
        calls[kind], outputs = _opened(path, values)
        differences[kind] = max_difference(outputs, expected)
        if differences[kind] > SAME_MODEL * max(abs(want).max() for want in expected):
            off = f"{differences[kind]:.2g} off {BUILT_IN}'s output"
            raise LeanconvError(f"{kind}'s module of {name} is {off}")
    say(f"{name}: timing …")
    slow = interleave(calls, rounds=options.slow_rounds, warmup=1, calls=1)
    often = {kind: calls[kind] for kind in (XNNPACK, LEANCONV)}
    fast = interleave(often, rounds=options.rounds, seconds=options.seconds)
    for kind in calls:
        turns = fast if kind in fast else slow
        library, seconds = modules.get(kind, (None, None))
        yield {
            "network": name,
            "runtime": kind,
            "compile_seconds": seconds,
            "library_bytes": library and library.stat().st_size,
            "times": turns[kind].to_dict(),
            "ratios": ratios(turns[kind], turns[XNNPACK]),
            "speed_up": ratios(slow[PLAIN], slow[kind]),
            "max_difference": differences[kind],
        }


def report(rows: Rows) -> Iterator[str]:
    """A line for each runtime on each network."""
    yield table(COLUMNS, rows)


# Modules: what follows imports TVM


def _compile(graph: Path, folder: Path) -> tuple[Path, float]:
    """leanconv's library, and the seconds until it was in a tar."""
    from tvmc.compiling.package import load

    library, packed = folder / "leanconv.so", folder / "leanconv.tar"
    start = time.perf_counter()
    tvmc.compile(graph, output=packed, output_format="tar")
    seconds = time.perf_counter() - start
    with load(packed) as package:
        package.library.rename(library)
    packed.unlink()
    return library, seconds


def _compile_plain(graph: Path, folder: Path) -> tuple[Path, float]:
    """The library that TVM makes by itself, and the seconds until it was written."""
    import tvm

    from schedules.target.simd import Simd
    from schedules.target.toolchain import Toolchain
    from tflite_delegate.importer.relax import import_model

    library, simd = folder / "plain.so", Simd.named("host")

    def link(path: str, objects: Sequence[str], **_: Any) -> None:
        Toolchain.default().link_module(objects, Path(path), simd)

    start = time.perf_counter()
    executable = tvm.compile(import_model(graph), tvm.target.Target(simd.target))
    executable.export_library(str(library), fcompile=link, workspace_dir=str(folder))
    return library, time.perf_counter() - start


def _opened(library: Path, values: Arrays) -> tuple[Callable[[], Any], Arrays]:
    """What runs a module once, its inputs being set, and its outputs."""
    import tvm
    from tvm import relax

    from tvmc.running.vm_session import MAIN

    device = tvm.cpu()
    machine = relax.VirtualMachine(tvm.runtime.load_module(str(library)), device)
    machine.set_input(MAIN, *[tvm.runtime.tensor(value, device) for value in values])
    machine.invoke_stateful(MAIN)
    found = machine.get_outputs(MAIN)
    outputs = [tensor.numpy() for tensor in (found if isinstance(found, tuple) else (found,))]
    return lambda: machine.invoke_stateful(MAIN), outputs


BENCHMARK = Benchmark(
    "modules", __doc__, measure, report, _options, {"rounds": 50, "seconds": 20.0}
)
main = BENCHMARK.main

if __name__ == "__main__":
    sys.exit(main())
