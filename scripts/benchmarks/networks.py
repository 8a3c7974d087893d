"""Whole networks: the delegate beside XNNPACK, TFLite's built-in kernels, ncnn and ONNX Runtime.

    python -m scripts.benchmarks.networks
    python -m scripts.benchmarks.networks mobilenet_v2 resnet50 --threads 1 --json rows.json
    python -m scripts.benchmarks.networks squeezenet --workspace-limit 0 --svg docs
    python -m scripts.benchmarks.networks --tuning-records tuning_logs/host

Batch 1, float32. All runtimes of a network are timed in one process in turns, each number of
threads in a run of its own, as idle threads of one library slow down another's.

min, p25, median: of one inference, and their ratios to LiteRT + XNNPACK (below 1 is faster)
leanconv, tuned: compiled with tuning records, besides without; tuned/untuned are ratios of the two
speed-up: 1 thread against so many, in turns
arena: memory that TFLite's tensors share, leanconv's workspace included
packed: weights in leanconv's layout
heap, RSS: the most that the heap and the resident set grow by until the end of the first run, in a
    process of its own (benchmarks/harness/memory.py)
max diff: largest difference of an output to the built-in kernels', and how far it may be
    (benchmarks/harness/bound.py, for leanconv)

For AlexNet, a second table breaks the time down by operator.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import tvmc
from schedules.errors import LeanconvError
from schedules.files import check_writable, replace_atomically, write_json
from schedules.plan.objectives import OBJECTIVES
from scripts.benchmarks.harness.bound import network_bound
from scripts.benchmarks.harness.heap_peak import HeapMeter
from scripts.benchmarks.harness.inference import LEANCONV, max_difference, random_inputs
from scripts.benchmarks.harness.interleaving import interleave
from scripts.benchmarks.harness.machine import Machine
from scripts.benchmarks.harness.memory import measure
from scripts.benchmarks.harness.node_times import describe, seconds_by_operator
from scripts.benchmarks.harness.rows import (
    HEADER,
    NOT_INSTALLED,
    Row,
    picture,
    picture_names,
    thread_count,
)
from scripts.benchmarks.harness.runners import (
    BUILT_IN,
    RUNNERS,
    TUNED,
    XNNPACK,
    Runner,
    image_path,
    library_path,
    prepare,
)
from scripts.benchmarks.harness.summary import summary
from scripts.models.architectures import ARCHITECTURES
from scripts.models.make import RECIPES, ensure
from tvmc.command import LineParser, at_least_one, byte_count, exit_status
from tvmc.compiling.compiler import known_algorithms
from tvmc.running.interpreter import Arrays, Session, runtime
from tvmc.tables import format_table

#: The network whose time is broken down.
BROKEN_DOWN = "alexnet"
#: A runtime that is further off, relative to the largest output, computes something else.
SAME_NETWORK = 1e-2


def main(arguments: Sequence[str] | None = None) -> int:
    """The command: see the top of this file."""
    parser = LineParser(prog="benchmarks.networks", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("networks", nargs="*", metavar="NETWORK", help=f"[{' '.join(ARCHITECTURES)}]")
    add("--threads", type=_thread_counts, default=[1, 2], metavar="N,N", help="[1,2]")
    add("--rounds", type=at_least_one, default=50, help="samples of each time [%(default)s]")
    add("--seconds", type=float, default=20.0,
        help="of timing a network at most, unless 3 rounds take longer [%(default)g]")  # fmt: skip
    add("--algorithm", default="auto", help="as for tvmc compile, one of them [%(default)s]")
    add("--workspace-limit", type=byte_count, metavar="BYTES", help="as for tvmc compile")
    add("--objective", choices=OBJECTIVES, default="time", help="as for tvmc compile [%(default)s]")
    add("--tuning-records", metavar="PATH", type=Path, action="append", default=[],
        help="compile with them as well, and compare")  # fmt: skip
    add("--json", type=Path, metavar="FILE", help="write the rows as JSON")
    add("--svg", type=Path, metavar="FOLDER", help="write pictures of times and memory there")
    options = parser.parse_args(arguments)
    return exit_status("benchmarks.networks", lambda: bench_all(options))


def bench_all(options: argparse.Namespace) -> None:
    """Measure every network, print the tables, write the files."""
    names = options.networks or list(ARCHITECTURES)
    _check_names(names, options.algorithm)
    pictures = []
    if options.svg:
        pictures = [options.svg / name for name in picture_names(options.threads)]
    for path in [*pictures, *([options.json] if options.json else [])]:
        check_writable(path)
    rows: list[Row] = []
    breakdown = None
    with HeapMeter.compiled() as meter:
        for name in names:
            (graph,) = ensure([name])
            with tempfile.TemporaryDirectory(prefix="leanconv-") as folder:
                rows += bench(name, graph, Path(folder), meter, options)
                if name == BROKEN_DOWN:
                    breakdown = _break_down(graph, Path(folder), options.rounds)
    machine = Machine.this()
    print(format_table(HEADER, [row.columns() for row in rows]))
    print(f"\non {machine.describe()}")
    print("\nin short, ratios of minima to LiteRT + XNNPACK:")
    print(format_table(*summary(rows)))
    for row in rows:
        if row.reason:
            print(f"{row.network}, {row.runtime}, {thread_count(row.threads)}: {row.reason}")
    if breakdown:
        print(f"\n{BROKEN_DOWN}, every node alone, one thread:")
        print(describe(breakdown))
    if options.json:
        result = {
            "machine": machine.to_dict(),
            "rows": [row.to_dict() for row in rows],
            "breakdown": breakdown,
        }
        write_json(options.json, result)
    for path in pictures:
        replace_atomically(path, picture(path.name, rows).encode())


def _thread_counts(text: str) -> list[int]:
    return [at_least_one(part) for part in text.split(",")]


def _check_names(networks: Sequence[str], algorithm: str) -> None:
    for name in networks:
        if name not in RECIPES:
            raise LeanconvError(f"unknown network {name!r}: one of {', '.join(ARCHITECTURES)}")
    known = ["auto", *(name for name, _ in known_algorithms())]
    if algorithm.partition(":")[0] not in known:
        raise LeanconvError(f"unknown algorithm {algorithm!r}: one of {', '.join(known)}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# One network


def bench(
    name: str, graph: Path, folder: Path, meter: HeapMeter, options: argparse.Namespace
) -> list[Row]:
    """The rows of one network, thread count by thread count."""
    built_in = Session(graph, runtime("litert"), xnnpack=False)
    (image,) = random_inputs(built_in)
    expected = built_in.run([image])
    np.save(image_path(folder), image)
    kinds = [kind for kind in RUNNERS if kind != TUNED or options.tuning_records]
    reasons, reports = _prepare(name, graph, folder, kinds, options)
    bounds = {k: network_bound(graph, report, built_in, expected) for k, report in reports.items()}
    del built_in
    rows = []
    for threads in options.threads:
        batch = [Row(name, threads, kind, reason=reasons.get(kind)) for kind in kinds]
        _say(f"{name}, {thread_count(threads)}: measuring memory …")
        for row in batch:
            if row.reason is None:
                _measure_memory(row, graph, folder, meter)
        _say(f"{name}, {thread_count(threads)}: timing …")
        runners = _open(batch, graph, folder, image, expected)
        calls = {kind: runner.invoke for kind, runner in runners.items()}
        timings = interleave(calls, rounds=options.rounds, seconds=options.seconds)
        del runners, calls
        for row in batch:
            row.timing, row.base = timings.get(row.runtime), timings.get(XNNPACK)
            if row.runtime in bounds and row.timing:
                row.bound = bounds[row.runtime]
                row.speed_up = _speed_up(row.runtime, graph, folder, image, threads, options)
            if row.runtime == TUNED:
                row.untuned = timings.get(LEANCONV)
        rows += batch
    return rows


def _prepare(
    name: str, graph: Path, folder: Path, kinds: Sequence[str], options: argparse.Namespace
) -> tuple[dict[str, str], dict[str, dict[str, Any]]]:
    """Compile and convert: a reason for each runtime that cannot be, and the compiler's reports."""
    _say(f"{name}: compiling …")
    reasons: dict[str, str] = {}
    reports: dict[str, dict[str, Any]] = {}
    for kind in kinds:
        if kind not in (LEANCONV, TUNED):
            continue
        try:
            reports[kind] = tvmc.compile(
                graph,
                output=library_path(folder, kind),
                algorithms=[options.algorithm],
                workspace_limit=options.workspace_limit,
                objective=options.objective,
                tuning_records=options.tuning_records if kind == TUNED else (),
            ).to_dict()
        except LeanconvError as error:
            reasons[kind] = str(error)
    _say(f"{name}: converting for the other runtimes …")
    for kind in kinds:
        try:
            prepare(kind, graph, folder)
        except ImportError:
            reasons[kind] = NOT_INSTALLED
        except Exception as error:  # each library has its own
            reasons[kind] = _one_line(error)
    return reasons, reports


def _measure_memory(row: Row, graph: Path, folder: Path, meter: HeapMeter) -> None:
    try:
        row.memory = measure(meter, row.runtime, graph, row.threads, folder)
    except LeanconvError as error:
        row.reason = str(error)


def _open(
    batch: Sequence[Row], graph: Path, folder: Path, image: Any, expected: Arrays
) -> dict[str, Runner]:
    """What can be timed; its differences are filled in."""
    runners = {}
    for row in batch:
        if row.reason is not None:
            continue
        try:
            runner = RUNNERS[row.runtime](graph, row.threads, folder)
            runner.set_input(image)
            runner.invoke()
            pairs = zip(runner.outputs(), expected, strict=True)
            difference = max_difference([got.reshape(want.shape) for got, want in pairs], expected)
        except Exception as error:  # each library has its own
            row.reason = _one_line(error)
            continue
        if difference > SAME_NETWORK * max(np.abs(want).max() for want in expected):
            row.reason = f"it computes something else: {difference:.2g} off"
            continue
        row.difference = difference
        runners[row.runtime] = runner
    return runners


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _speed_up(
    kind: str, graph: Path, folder: Path, image: Any, threads: int, options: argparse.Namespace
) -> float | None:
    """Of a delegate over its single thread, in a run of their own."""
    if threads == 1:
        return None
    runners = {str(count): RUNNERS[kind](graph, count, folder) for count in (1, threads)}
    for runner in runners.values():
        runner.set_input(image)
    calls = {count: runner.invoke for count, runner in runners.items()}
    timings = interleave(calls, rounds=options.rounds, seconds=options.seconds / 2)
    return timings["1"].minimum / timings[str(threads)].minimum


# Time by operator


def _break_down(graph: Path, folder: Path, rounds: int) -> dict[str, dict[str, float]]:
    """Seconds by operator in each runtime that is TFLite's, one thread."""
    _say(f"{graph.stem}: timing every node …")
    litert = runtime("litert")
    sessions = {
        BUILT_IN: lambda path: Session(path, litert, xnnpack=False),
        XNNPACK: lambda path: Session(path, litert),
    }
    if library_path(folder).exists():
        sessions[LEANCONV] = lambda path: Session(path, litert, delegate=library_path(folder))
    return seconds_by_operator(graph, folder, sessions, rounds)


if __name__ == "__main__":
    sys.exit(main())
