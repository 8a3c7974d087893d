"""Whole networks: the delegate beside XNNPACK, TFLite's built-in kernels, ncnn and ONNX Runtime.

    python -m scripts.benchmarks.networks
    python -m scripts.benchmarks.networks mobilenet_v2 resnet50 --threads 1 --json rows.json
    python -m scripts.benchmarks.networks squeezenet --workspace-limit 0 --svg docs
    python -m scripts.benchmarks.networks --tuning-records tuning_logs/host

Batch 1. Networks are those of models/make.py, such as mobilenet_v2_int8, or .tflite files. All
runtimes of a network are timed in one process in turns, each number of threads in a run of its own,
as idle threads of one library slow down another's.

min, p25, median: of one inference, and their ratios to LiteRT + XNNPACK (below 1 is faster)
leanconv, tuned: compiled with tuning records, besides without; tuned/untuned are ratios of the two
speed-up: 1 thread against so many, in turns, of leanconv and of XNNPACK
arena: memory that TFLite's tensors share, leanconv's workspace included
packed: weights in leanconv's layout
heap, RSS: the most that the heap and the resident set grow by until the end of the first run, in a
    process of its own (benchmarks/harness/held/memory.py)
max diff: largest difference of an output to the built-in kernels', and how far it may be
    (benchmarks/harness/bound.py, for leanconv)
mismatches: outputs other than XNNPACK's, of networks whose weights have 8 bits

For AlexNet, another table breaks the time down by operator.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from schedules.errors import LeanconvError
from schedules.plan.objectives import OBJECTIVES
from scripts.benchmarks.harness.benchmark import (
    Benchmark,
    Row,
    Rows,
    cell,
    chosen,
    difference,
    factor,
    ratio,
    say,
    table,
)
from scripts.benchmarks.harness.bound import network_bound
from scripts.benchmarks.harness.charts import dot_chart
from scripts.benchmarks.harness.comparison import (
    beside,
    compare,
    compile_delegate,
    expected_outputs,
    runtimes,
    speed_up,
)
from scripts.benchmarks.harness.held import memory
from scripts.benchmarks.harness.inference import LEANCONV
from scripts.benchmarks.harness.interleaving import milliseconds
from scripts.benchmarks.harness.node_times import describe, seconds_by_operator
from scripts.benchmarks.harness.runners import (
    BUILT_IN,
    ONE_DNN,
    RUNNERS,
    TENSORFLOW,
    TUNED,
    XNNPACK,
    inputs_path,
    prepare_all,
)
from scripts.models.architectures import ARCHITECTURES
from scripts.models.finding import SUFFIX, found
from scripts.models.make import RECIPES
from tvmc.command import LineParser, at_least_one, byte_count
from tvmc.compiling.compiler import known_algorithms
from tvmc.running.interpreter import Arrays, Session, runtime
from tvmc.tables import format_bytes

#: The network whose time is broken down.
BROKEN_DOWN = "alexnet"
FIGURES = ("min", "p25", "median")
COLUMNS = {
    "network": cell("network"),
    "threads": cell("threads"),
    "runtime": cell("runtime"),
    **{f"{name} ms": cell("times", f"{name}_s", form=milliseconds) for name in FIGURES},
    **{f"{name} ratio": cell("ratios", name, form=ratio) for name in FIGURES},
    "speed-up": cell("speed_up", form=factor),
    "arena": cell("memory", "arena_bytes", form=format_bytes),
    "workspace": cell("memory", "workspace_bytes", form=format_bytes),
    "packed": cell("memory", "packed_bytes", form=format_bytes),
    "heap": cell("memory", "peak_heap_bytes", form=format_bytes),
    "RSS": cell("memory", "peak_rss_bytes", form=format_bytes),
    "max diff": cell("max_difference", form=difference),
    "bound": cell("bound", form=difference),
    "mismatches": cell("mismatches"),
}


def _options(parser: LineParser) -> None:
    add = parser.add_argument
    add("networks", nargs="*", metavar="NETWORK", help=f"[{' '.join(ARCHITECTURES)}]")
    add("--threads", type=thread_counts, default=[1, 2], metavar="N,N", help="[1,2]")
    add("--workspace-limit", type=byte_count, metavar="BYTES", help="as for tvmc compile")
    add("--objective", choices=OBJECTIVES, default="time", help="as for tvmc compile [%(default)s]")
    add("--tuning-records", metavar="PATH", type=Path, action="append", default=[],
        help="compile with them as well, and compare")  # fmt: skip


def thread_counts(text: str) -> list[int]:
    """Numbers of threads, as they stand on a command line."""
    return [at_least_one(part) for part in text.split(",")]


def measure(options: argparse.Namespace) -> Iterator[Row]:
    """Every runtime on every network."""
    known = ["auto", *(name for name, *_ in known_algorithms())]
    chosen("algorithm", options.algorithm.partition(":")[0], known)
    for graph, folder in graphs_of(options.networks or list(ARCHITECTURES)):
        yield from bench(graph.stem, graph, folder, options)


def graphs_of(names: Sequence[str]) -> Iterator[tuple[Path, Path]]:
    """Each network's file, with an empty folder for as long as it is in hand.

    Raises
    ------
    LeanconvError
        Before the first, if one cannot be made.
    """
    for name in names:
        if name not in RECIPES and not name.endswith(SUFFIX):
            raise LeanconvError(f"unknown network {name!r}: one of {', '.join(ARCHITECTURES)}")
    for name in names:
        (graph,) = found([name])
        with tempfile.TemporaryDirectory(prefix="leanconv-") as folder:
            yield graph, Path(folder)


# One network


def bench(name: str, graph: Path, folder: Path, options: argparse.Namespace) -> Iterator[Row]:
    """The rows of one network, thread count by thread count."""
    inputs, expected = expected_outputs(graph)
    np.savez(inputs_path(folder), *inputs)
    left_out = {ONE_DNN, TENSORFLOW} | ({TUNED} if not options.tuning_records else set())
    kinds = [kind for kind in RUNNERS if kind not in left_out]
    reasons, bounds = _prepare(name, graph, folder, kinds, expected, options)
    bases = {"ratios": XNNPACK} | ({"tuned_ratios": LEANCONV} if TUNED in kinds else {})
    operators = {}
    if name == BROKEN_DOWN and LEANCONV not in reasons:
        say(f"{name}: timing every node …")
        operators = seconds_by_operator(
            graph, folder, (BUILT_IN, XNNPACK, LEANCONV), options.rounds
        )
    for threads in options.threads:
        say(f"{name}, {threads} threads: measuring memory …")
        held = {kind: _memory(kind, graph, threads, folder, reasons) for kind in kinds}
        say(f"{name}, {threads} threads: timing …")
        turns = {"rounds": options.rounds, "seconds": options.seconds}
        chosen = {"reasons": reasons, "bases": bases, "threads": threads}
        for row in compare(graph, kinds, folder, inputs, expected, **chosen, **turns):
            kind = row["runtime"]
            if kind in (LEANCONV, TUNED, XNNPACK) and row["times"] and threads > 1:
                turns["seconds"] = options.seconds / 2
                row["speed_up"] = speed_up(kind, graph, folder, inputs, threads=threads, **turns)
            row["operators"] = operators.pop(kind, None)
            yield {"network": name, **row, "memory": held[kind], "bound": bounds.get(kind)}


def _prepare(
    name: str,
    graph: Path,
    folder: Path,
    kinds: Sequence[str],
    expected: Arrays | None,
    options: argparse.Namespace,
) -> tuple[dict[str, str], dict[str, float]]:
    """Compile and convert: a reason for each runtime that cannot be, and our outputs' bounds."""
    say(f"{name}: compiling …")
    reasons: dict[str, str] = {}
    bounds: dict[str, float] = {}
    for kind in {LEANCONV, TUNED}.intersection(kinds):
        try:
            compiled = compile_delegate(
                graph,
                folder,
                kind,
                algorithms=[options.algorithm],
                workspace_limit=options.workspace_limit,
                objective=options.objective,
                tuning_records=options.tuning_records if kind == TUNED else (),
            )
        except LeanconvError as error:
            reasons[kind] = str(error)
            continue
        built_in = Session(graph, runtime("litert"), xnnpack=False)
        if expected is not None:
            bounds[kind] = network_bound(graph, compiled, built_in, expected)
    say(f"{name}: converting for the other runtimes …")
    return reasons | prepare_all(kinds, graph, folder), bounds


def _memory(
    kind: str, graph: Path, threads: int, folder: Path, reasons: dict[str, str]
) -> dict[str, int | None] | None:
    """What a runtime takes; what cannot be measured gets a reason."""
    if kind in reasons:
        return None
    try:
        return memory.measure(kind, graph, threads, folder)
    except LeanconvError as error:
        reasons[kind] = str(error)
    return None


# Tables


def report(rows: Rows) -> Iterator[str]:
    """All figures, then a line for each network, then the time by operator."""
    yield table(COLUMNS, rows)
    yield "\nin short, ratios of minima to LiteRT + XNNPACK:"
    yield summary(rows)
    broken_down = {row["runtime"]: row["operators"] for row in rows if row.get("operators")}
    if broken_down:
        yield f"\n{BROKEN_DOWN}, every node alone, one thread:\n{describe(broken_down)}"


def summary(rows: Rows) -> str:
    """One line a network, leanconv beside all others; the last of each number of threads is a mean.

    Other runtimes are their ratios of minima to XNNPACK.
    """
    others = runtimes(rows, but=(LEANCONV, XNNPACK))
    columns = {
        "network": cell("network"),
        "threads": cell("threads"),
        "leanconv ms": cell(LEANCONV, "times", "min_s", form=milliseconds),
        "XNNPACK ms": cell(XNNPACK, "times", "min_s", form=milliseconds),
        "min ratio": cell(LEANCONV, "ratios", "min", form=ratio),
        "median ratio": cell(LEANCONV, "ratios", "median", form=ratio),
        "speed-up": cell(LEANCONV, "speed_up", form=factor),
        "XNNPACK's": cell(XNNPACK, "speed_up", form=factor),
        **{kind: cell(kind, "ratios", "min", form=ratio) for kind in others},
        "arena": cell(LEANCONV, "memory", "arena_bytes", form=format_bytes),
        "packed": cell(LEANCONV, "memory", "packed_bytes", form=format_bytes),
        "heap": cell(LEANCONV, "memory", "peak_heap_bytes", form=format_bytes),
        "XNNPACK heap": cell(XNNPACK, "memory", "peak_heap_bytes", form=format_bytes),
    }
    if TUNED in others:
        for figure in ("min", "median"):
            columns[f"tuned/untuned {figure}"] = cell(TUNED, "tuned_ratios", figure, form=ratio)
    networks = beside(rows, "threads", "network")
    lines = []
    for threads in dict.fromkeys(row["threads"] for row in networks):
        shown = [row for row in networks if row["threads"] == threads]
        lines += shown + ([_means(shown, threads)] if len(shown) > 1 else [])
    return table(columns, lines)


def _means(networks: Rows, threads: int) -> Row:
    """Geometric, of those that were measured."""
    line: Row = {"network": "geometric mean", "threads": threads}
    for kind in RUNNERS:
        of_kind: dict[str, Any] = {}
        for key in ("ratios", "tuned_ratios"):
            found = [row[kind][key] for row in networks if row.get(kind, {}).get(key)]
            means = {f: statistics.geometric_mean(r[f] for r in found) for f in FIGURES if found}
            of_kind[key] = means
        line[kind] = of_kind
    return line


# Pictures


def time_picture(rows: Rows) -> str:
    """Bars that stand on XNNPACK's least time."""
    networks, threads = _of_first_threads(rows)
    series = {
        kind: [(row.get(kind, {}).get("ratios") or {}).get("min") for row in networks]
        for kind in runtimes(rows)
    }
    title, axis = f"Time of a network, {threads}", f"relative to {XNNPACK}"
    return dot_chart(title, axis, _names(networks), series, baseline=1.0)


def memory_picture(rows: Rows) -> str:
    """Peak heap of every runtime."""
    networks, threads = _of_first_threads(rows)
    series = {
        kind: [
            None
            if (row.get(kind, {}).get("memory")) is None
            else row[kind]["memory"]["peak_heap_bytes"] / 2**20
            for row in networks
        ]
        for kind in runtimes(rows)
    }
    title = f"Bytes held on the heap by a network, {threads}"
    return dot_chart(title, "MiB, at most, to the end of the first run", _names(networks), series)


def _of_first_threads(rows: Rows) -> tuple[list[Row], str]:
    """What was measured with the first number of threads, a row a network; and that number."""
    threads = rows[0]["threads"]
    networks = beside([row for row in rows if row["threads"] == threads], "network")
    return networks, f"{threads} thread{'s' if threads > 1 else ''}"


def _names(networks: Rows) -> list[str]:
    return [row["network"] for row in networks]


BENCHMARK = Benchmark(
    "networks",
    __doc__,
    measure,
    report,
    _options,
    {"algorithm": "auto", "rounds": 50, "seconds": 20.0},
    {"networks_time.svg": time_picture, "networks_memory.svg": memory_picture},
)
main = BENCHMARK.main

if __name__ == "__main__":
    sys.exit(main())
