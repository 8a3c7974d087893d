"""What a network holds of memory: leanconv within eleven limits, beside other runtimes.

    python -m scripts.benchmarks.memory
    python -m scripts.benchmarks.memory mobilenet_v2 --limits 4 --json rows.json

Limits lie at equal factors between the least bytes that a plan needs and those of the fastest one
(`tvmc plan`), with packed weights on the heap; the eleventh row is the fastest plan with embedded
ones. Every runtime opens the model in a process of its own; a second process opens it too while the
first one has it. XNNPACK's file of packed weights is not measured: LiteRT's Python package has no
way to name one.

limit: what `tvmc compile --memory-limit` is given, and arena, packed weights and the delegate's own
bytes must keep (in rows of before, without the last)
promised: these of the plan; measured: what LiteRT and the delegate report
heap: the most that is allocated until the end of the first run (benchmarks/harness/held/memory.py)
load: processor time until the model can run
loaded, first, later: resident memory when the model is open, has run once, and several times
Pss, anonymous, dirty, files: parts of it at the end (benchmarks/harness/held/residency.py)
second: what the machine holds more because of the second process
footprint: resident memory at the end, of the bytes of the model's file
min, median: time, of LiteRT's with XNNPACK in turns in one process
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from schedules.errors import LeanconvError
from scripts.benchmarks.harness.benchmark import (
    Benchmark,
    Row,
    Rows,
    cell,
    factor,
    ratio,
    say,
    table,
)
from scripts.benchmarks.harness.comparison import compare, compile_delegate, expected_outputs
from scripts.benchmarks.harness.held import memory
from scripts.benchmarks.harness.held.residency import residency
from scripts.benchmarks.harness.inference import LEANCONV
from scripts.benchmarks.harness.runners import (
    BUILT_IN,
    MNN,
    NCNN,
    ONNX_RUNTIME,
    XNNPACK,
    inputs_path,
    prepare_all,
)
from scripts.benchmarks.networks import graphs_of
from tvmc.command import LineParser, at_least_one
from tvmc.planning.plan_command import Curve, plan
from tvmc.running.interpreter import Arrays
from tvmc.tables import format_bytes
from tvmc.tuning.host_figures import host_figures

#: Small ones, and those of large tensors or of large weights.
NETWORKS = ("mobilenet_v2", "efficientnet_lite0", "squeezenet", "resnet18", "resnet50")
OTHERS = (XNNPACK, BUILT_IN, NCNN, MNN, ONNX_RUNTIME)
COLUMNS = {
    "network": cell("network"),
    "runtime": cell("runtime"),
    "weights": cell("weights"),
    "limit": cell("limit", form=format_bytes),
    "promised": cell("promised_bytes", form=format_bytes),
    "measured": cell("measured_bytes", form=format_bytes),
    "heap": cell("memory", "peak_heap_bytes", form=format_bytes),
    "load ms": cell("residency", "load_cpu_s", form=lambda seconds: f"{1e3 * seconds:.1f}"),
    **{
        stage: cell("residency", stage, "rss", form=format_bytes)
        for stage in ("loaded", "first", "later")
    },
    "Pss": cell("residency", "later", "pss", form=format_bytes),
    "anonymous": cell("residency", "later", "anonymous", form=format_bytes),
    "dirty": cell("residency", "later", "private_dirty", form=format_bytes),
    "files": cell("residency", "later", "file_backed", form=format_bytes),
    "second": cell("residency", "second_bytes", form=format_bytes),
    "footprint": cell("footprint", form=factor),
    "min": cell("ratios", "min", form=ratio),
    "median": cell("ratios", "median", form=ratio),
}


def _options(parser: LineParser) -> None:
    add = parser.add_argument
    add("networks", nargs="*", metavar="NETWORK", help=f"[{' '.join(NETWORKS)}]")
    add(
        "--limits",
        type=at_least_one,
        default=10,
        metavar="N",
        help="of leanconv, on the heap [%(default)s]",
    )


def measure(options: argparse.Namespace) -> Iterator[Row]:
    """A row for each network and limit, and one for each other runtime."""
    for graph, folder in graphs_of(options.networks or list(NETWORKS)):
        yield from _of_network(graph, folder, options)


def _of_network(graph: Path, folder: Path, options: argparse.Namespace) -> Iterator[Row]:
    inputs, expected = expected_outputs(graph)
    np.savez(inputs_path(folder), *inputs)
    say(f"{graph.stem}: converting for the other runtimes …")
    reasons = prepare_all(OTHERS, graph, folder)
    say(f"{graph.stem}: other runtimes …")
    timing = (inputs, expected, options)
    yield from _rows(graph, folder, OTHERS, reasons, timing)
    on_heap = limits(plan(graph, figures=host_figures()), options.limits)
    most = plan(graph, embeds=True, figures=host_figures()).solutions[-1].bytes
    for weights, limit, promised in (
        *(("heap", limit, promised) for limit, promised in on_heap.items()),
        ("embedded", most, most),
    ):
        say(f"{graph.stem}: within {format_bytes(limit)} …")
        place = folder / f"{weights}.{limit}"
        place.mkdir()
        np.savez(inputs_path(place), *inputs)
        compile_delegate(graph, place, LEANCONV, memory_limit=limit, weights=weights)
        for row in _rows(graph, place, (XNNPACK, LEANCONV), {}, timing):
            if row["runtime"] == LEANCONV:
                yield {**row, "weights": weights, "limit": limit, "promised_bytes": promised}


def limits(curve: Curve, count: int) -> dict[int, int]:
    """What plans promise to hold, by the limit that each is the fastest within.

    The limits lie at equal factors; those within which there is no plan are left out.
    """
    least, most = curve.solutions[0].bytes, curve.solutions[-1].bytes
    found = {}
    for step in range(count):
        limit = round(least * (most / least) ** (step / max(count - 1, 1)))
        solution = curve.within(limit)
        if solution is not None:
            found[limit] = solution.bytes
    return found


def _rows(
    graph: Path,
    folder: Path,
    kinds: tuple[str, ...],
    reasons: dict[str, str],
    timing: tuple[Arrays, Arrays | None, argparse.Namespace],
) -> Iterator[Row]:
    inputs, expected, options = timing
    turns = {"rounds": options.rounds, "seconds": options.seconds, "threads": options.threads}
    for row in compare(graph, kinds, folder, inputs, expected, reasons=reasons, **turns):
        if row["reason"] is None:
            try:
                row |= _held(row, graph, options.threads, folder)
            except LeanconvError as error:
                row["reason"] = str(error)
        yield {"network": graph.stem, **row}


def _held(row: Mapping[str, Any], graph: Path, threads: int, folder: Path) -> Row:
    held = {
        "memory": memory.measure(row["runtime"], graph, threads, folder),
        "residency": residency(row["runtime"], graph, threads, folder),
    }
    held["footprint"] = held["residency"]["later"]["rss"] / graph.stat().st_size
    if row.get("packed_bytes") is not None:
        own = held["memory"]["own_bytes"]
        held["measured_bytes"] = row["arena_bytes"] + row["packed_bytes"] + own
    return held


def report(rows: Rows) -> Iterator[str]:
    """All figures, a network after the other."""
    yield table(COLUMNS, rows)


BENCHMARK = Benchmark(
    "memory",
    __doc__,
    measure,
    report,
    _options,
    {"threads": 1, "rounds": 20, "seconds": 3.0},
)
main = BENCHMARK.main

if __name__ == "__main__":
    sys.exit(main())
