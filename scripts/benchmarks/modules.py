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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tvmc
from schedules.errors import LeanconvError
from schedules.files import check_writable, write_json
from scripts.benchmarks.harness.inference import LEANCONV, max_difference, random_inputs
from scripts.benchmarks.harness.interleaving import Timing, interleave, milliseconds
from scripts.benchmarks.harness.runners import BUILT_IN, XNNPACK
from scripts.models.architectures import ARCHITECTURES
from scripts.models.make import RECIPES, ensure
from tvmc.command import LineParser, at_least_one, exit_status
from tvmc.running.interpreter import Arrays, Session, runtime
from tvmc.running.vm_process import THREADS_VARIABLE
from tvmc.tables import format_bytes, format_table

#: The networks that a module's speed is quoted for.
NETWORKS = ("mobilenet_v2", "resnet50", "vgg16")
#: What TVM makes of a network without us.
PLAIN = "TVM"
#: A module whose output is further off, relative to the largest, computes something else.
SAME_NETWORK = 1e-2
HEADER = ("network", "runtime", "compile s", "library", "min ms", "median ms", "min ratio",
          "median ratio", "speed-up", "median", "max diff")  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One runtime's part of one network.

    ``base`` is XNNPACK's timing in the same turns, ``plain`` TVM's own and ``beside_plain`` this
    runtime's in those that TVM's took part in; ``None`` is what makes no sense.
    """

    network: str
    runtime: str
    compile_seconds: float | None
    library_bytes: int | None
    timing: Timing
    base: Timing
    plain: Timing
    beside_plain: Timing
    difference: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; bytes and seconds."""
        minima, medians = self.timing.ratio(self.base)
        return {
            "network": self.network,
            "runtime": self.runtime,
            "compile_seconds": self.compile_seconds,
            "library_bytes": self.library_bytes,
            **self.timing.to_dict(),
            "ratio_of_minima": minima,
            "ratio_of_medians": medians,
            "speed_up_of_minima": self.speed_up[0],
            "speed_up_of_medians": self.speed_up[1],
            "max_difference": self.difference,
        }

    @property
    def speed_up(self) -> tuple[float, float]:
        """Over TVM's own module, of minima and of medians."""
        return self.plain.ratio(self.beside_plain)

    def columns(self) -> list[str]:
        """Text for the columns of ``HEADER``."""
        compiled = ["-", "-"]
        if self.compile_seconds is not None and self.library_bytes is not None:
            compiled = [f"{self.compile_seconds:.1f}", format_bytes(self.library_bytes)]
        return [
            self.network,
            self.runtime,
            *compiled,
            milliseconds(self.timing.minimum),
            milliseconds(self.timing.median),
            *(f"{ratio:.3f}" for ratio in self.timing.ratio(self.base)),
            *(f"{ratio:.2f}x" for ratio in self.speed_up),
            f"{self.difference:.2g}",
        ]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command: see the top of this file."""
    parser = LineParser(prog="benchmarks.modules", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("networks", nargs="*", metavar="NETWORK",
        help=f"[{' '.join(NETWORKS)}], or any of {' '.join(ARCHITECTURES)}")  # fmt: skip
    add("--rounds", type=at_least_one, default=50, help="samples of each time [%(default)s]")
    add("--seconds", type=float, default=20.0,
        help="of timing a network at most, unless 3 rounds take longer [%(default)g]")  # fmt: skip
    add("--slow-rounds", type=at_least_one, default=3, metavar="N",
        help="samples of TVM's own modules [%(default)s]")  # fmt: skip
    add("--json", type=Path, metavar="FILE", help="write the rows as JSON")
    options = parser.parse_args(arguments)
    return exit_status("benchmarks.modules", lambda: bench_all(options))


def bench_all(options: argparse.Namespace) -> None:
    """Measure every network, print the table, write the file."""
    names = options.networks or NETWORKS
    for name in names:
        if name not in RECIPES:
            raise LeanconvError(f"unknown network {name!r}: one of {', '.join(ARCHITECTURES)}")
    if options.json:
        check_writable(options.json)
    os.environ[THREADS_VARIABLE] = "1"
    rows: list[Row] = []
    for name, graph in zip(names, ensure(names), strict=True):
        with tempfile.TemporaryDirectory(prefix="leanconv-") as folder:
            rows += bench(name, graph, Path(folder), options)
    print(format_table(HEADER, [row.columns() for row in rows]))
    if options.json:
        write_json(options.json, [row.to_dict() for row in rows])


def bench(name: str, graph: Path, folder: Path, options: argparse.Namespace) -> list[Row]:
    """The rows of one network."""
    built_in = Session(graph, runtime("litert"), xnnpack=False)
    values = random_inputs(built_in)
    expected = built_in.run(values)
    del built_in
    _say(f"{name}: compiling …")
    modules = {LEANCONV: _compile(graph, folder), PLAIN: _compile_plain(graph, folder)}
    xnnpack = Session(graph, runtime("litert"))
    differences = {XNNPACK: max_difference(xnnpack.run(values), expected)}
    calls: dict[str, Callable[[], Any]] = {XNNPACK: xnnpack.invoke}
    for kind, (library, _) in modules.items():
        calls[kind], outputs = _opened(library, values)
        differences[kind] = max_difference(outputs, expected)
        if differences[kind] > SAME_NETWORK * max(abs(want).max() for want in expected):
            raise LeanconvError(
                f"{kind}'s module of {name} is {differences[kind]:.2g} off {BUILT_IN}'s output"
            )
    _say(f"{name}: timing …")
    slow = interleave(calls, rounds=options.slow_rounds, warmup=1, calls=1)
    often = {kind: calls[kind] for kind in (XNNPACK, LEANCONV)}
    fast = interleave(often, rounds=options.rounds, seconds=options.seconds)
    rows = []
    for kind in calls:
        turns = fast if kind in fast else slow
        rows.append(
            Row(
                network=name,
                runtime=kind,
                compile_seconds=modules[kind][1] if kind in modules else None,
                library_bytes=modules[kind][0].stat().st_size if kind in modules else None,
                timing=turns[kind],
                base=turns[XNNPACK],
                plain=slow[PLAIN],
                beside_plain=slow[kind],
                difference=differences[kind],
            )
        )
    return rows


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


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


if __name__ == "__main__":
    sys.exit(main())
