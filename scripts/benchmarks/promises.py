"""Whether networks hold what was promised, to the byte, and plans are the fastest there are.

    python -m scripts.benchmarks.promises
    python -m scripts.benchmarks.promises squeezenet --threads 1,4 --json rows.json

Limits lie at equal factors between the least bytes that a plan needs and those of the fastest
one. For each, the delegate's arena and packed weights in LiteRT are compared with the promise.
Kernels take long to compile and tell nothing of that: the libraries have their table, workspace and
weights, and kernels that do nothing (tests compile some, whose workspace is what plans say).

limit: as of `python -m scripts.benchmarks.memory`; promised: arena and packed weights
arena, packed: as LiteRT and the delegate have them; off: their sum less the promise
own: the delegate's other bytes on the heap; own off: less what the limit counts, never more
solver: whether a mixed-integer program (HiGHS) finds the same time within this limit
below: whether one byte less than the least is refused
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from schedules.budget.milp import cheapest
from schedules.budget.problem import Solution
from schedules.errors import OverLimit
from schedules.lower.kernel import CKernel, PlannedBuffer, Stage
from schedules.plan.planner import Limits
from schedules.select.compile import compile_kernels
from schedules.select.selection import Kernel, Selection
from schedules.select.within import select_within, selection_of
from schedules.target.simd import Simd
from schedules.target.toolchain import Toolchain
from scripts.benchmarks.harness.benchmark import Benchmark, Row, Rows, cell, say, table
from scripts.benchmarks.networks import graphs_of
from tflite_delegate.sources import TARGET, copy_sources, target_header
from tflite_delegate.table import kernel_table
from tflite_delegate.targeted import read_for
from tvmc.command import LineParser, at_least_one
from tvmc.planning.plan_command import Curve, plan
from tvmc.running.interpreter import Session, runtime
from tvmc.running.probe import Probe
from tvmc.tables import format_bytes

if TYPE_CHECKING:
    from schedules.plan.plan import Plan

NETWORKS = (
    "mobilenet_v2", "resnet50", "resnet18", "vgg16", "inception_v3", "efficientnet_b0",
    "squeezenet",
)  # fmt: skip
#: The function of a kernel that does nothing.
HOLLOW = "lc_hollow"
COLUMNS = {
    "network": cell("network"),
    "threads": cell("threads"),
    "limit": cell("limit", form=format_bytes),
    "promised": cell("promised_bytes", form=str),
    "arena": cell("arena_bytes", form=str),
    "packed": cell("packed_bytes", form=str),
    "off": cell("off", form=str),
    "own": cell("own_bytes", form=str),
    "own off": cell("own_off", form=str),
    "solver": cell("agrees", form=str),
    "below": cell("refuses", form=str),
}


def _options(parser: LineParser) -> None:
    add = parser.add_argument
    add("networks", nargs="*", metavar="NETWORK", help=f"[{' '.join(NETWORKS)}]")
    add("--limits", type=at_least_one, default=5, metavar="N", help="[%(default)s]")
    add("--solved", type=at_least_one, default=10, metavar="N",
        help="limits that the solver is compared for [%(default)s]")  # fmt: skip
    add("--threads", metavar="N,N", default="1,4", help="[%(default)s]")


def measure(options: argparse.Namespace) -> Iterator[Row]:
    """A row for each network, number of threads and limit."""
    counts = [int(count) for count in options.threads.split(",")]
    for graph, folder in graphs_of(options.networks or list(NETWORKS)):
        for threads in counts:
            say(f"{graph.stem}, {threads} threads …")
            curve = plan(graph, threads=threads)
            whole = {"agrees": _agreed(curve, options.solved), "refuses": _refuses(graph, curve)}
            for number, limit in enumerate(_limits(curve, options.limits)):
                solution = curve.within(limit)
                assert solution is not None, "it is no less than the least"
                library = folder / f"{threads}_{number}" / "lib.so"
                build_hollow(graph, library, curve, solution)
                arena, packed, own = held(graph, library, threads)
                exact = solution.arena + solution.weights
                yield {
                    "network": graph.stem,
                    "threads": threads,
                    "limit": limit,
                    "promised_bytes": exact,
                    "arena_bytes": arena,
                    "packed_bytes": packed,
                    "off": arena + packed - exact,
                    "own_bytes": own,
                    "own_off": own - solution.own,
                    **whole,
                }


def _limits(curve: Curve, count: int) -> list[int]:
    least, most = curve.solutions[0].bytes, curve.solutions[-1].bytes
    return [round(least * (most / least) ** (step / max(count - 1, 1))) for step in range(count)]


def _agreed(curve: Curve, count: int) -> str:
    """Of so many limits, within how many a mixed-integer program finds the same time."""
    same = 0
    limits = _limits(curve, count)
    for limit in limits:
        solution = curve.solver.solve(limit)
        cost = cheapest(curve.problem, limit)
        same += (solution and solution.cost) == cost
    return f"{same} of {len(limits)}"


def _refuses(graph: Path, curve: Curve) -> bool:
    simd = Simd.named(curve.target)
    limits = Limits(held_bytes=curve.least_bytes - 1, threads=curve.threads)
    try:
        select_within(read_for(graph, simd), simd, limits)
    except OverLimit:
        return True
    return False


def build_hollow(graph: Path, library: Path, curve: Curve, solution: Solution) -> None:
    """Link a delegate of kernels that do nothing."""
    simd, folder = Simd.named(curve.target), library.parent
    folder.mkdir()
    selection = selection_of(curve.network, simd, solution, curve.threads)
    kernels = _hollow(selection, simd)
    sources = copy_sources(folder)
    (folder / TARGET).write_text(target_header(simd), encoding="utf-8")
    table_text = kernel_table(kernels, graph.name, simd, [selection])
    (folder / "kernel_table.c").write_text(table_text, encoding="utf-8")
    arguments = "const void *x, const void *r, const void *w, const void *b, void *y, "
    arguments += "unsigned char *workspace, int thread, int begin, int end"
    hollow = f"int {HOLLOW}({arguments});\nint {HOLLOW}({arguments}) {{ return !x + !r + !w + !b + "
    hollow += "!y + !workspace + thread + begin + end; }\n"
    (folder / "hollow.c").write_text(hollow, encoding="utf-8")
    names = [f"{kernel.name}.o" for kernel in kernels if kernel.data]
    for kernel in kernels:
        if kernel.data:
            (folder / f"{kernel.name}.o").write_bytes(kernel.data)
    linked = [*sources, "kernel_table.c", "hollow.c"]
    Toolchain.default().link_library(folder, linked, names, library, simd)


def _hollow(selection: Selection, simd: Simd) -> Sequence[Kernel]:
    """The kernels with nothing in them, but for those that walk rows: these are of many parts."""
    walks = [kernel for kernel in selection.kernels if kernel.plan.algorithm == "row_chain"]
    compiled = {kernel.name: kernel for kernel in compile_kernels(walks, simd)} if walks else {}
    return [
        compiled.get(kernel.name) or replace(kernel, compiled=_empty(kernel.name, kernel.plan))
        for kernel in selection.kernels
    ]


def _empty(name: str, plan: Plan) -> CKernel:
    shared = plan.workspace_bytes - plan.thread_bytes
    buffers = (
        PlannedBuffer("shared", 0, shared, per_thread=False),
        PlannedBuffer("own", 0, plan.thread_bytes, per_thread=True),
    )
    return CKernel(name, (Stage(HOLLOW, 1),), buffers)


def held(graph: Path, library: Path, threads: int) -> tuple[int, int, int]:
    """Bytes of the arena, to whole cache lines, of packed weights, likewise, and the own ones."""
    session = Session(graph, runtime("litert"), delegate=library, xnnpack=False, threads=threads)
    arena = Probe(session.interpreter).arena_bytes()
    told = session.report()
    assert told is not None, "the delegate tells of itself"
    return -(-arena // 64) * 64, int(told["live_bytes"]), int(told["memory"]["own_bytes"])


def report(rows: Rows) -> Iterator[str]:
    """All figures, a network after the other."""
    yield table(COLUMNS, rows)


BENCHMARK = Benchmark("promises", __doc__, measure, report, _options)
main = BENCHMARK.main

if __name__ == "__main__":
    sys.exit(main())
