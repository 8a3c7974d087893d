"""What networks gain by threads: the delegate beside XNNPACK, each in processes of its own.

    python -m scripts.benchmarks.scaling
    python -m scripts.benchmarks.scaling mobilenet_v2 squeezenet --threads 1,2 --json rows.json
    python -m scripts.benchmarks.scaling --records scaling --json rows.json  # may be interrupted

Batch 1. Networks are those of models/make.py, or .tflite files. Every runtime with every number of
threads is a process; these take turns of a tenth of a second, in an order that reverses, and the
threads of the others sleep meanwhile (benchmarks/harness/apart). How far apart the cores are is
measured before every round, and each distance has rows of its own, as a virtual machine may move.

cores: near if they share a cache, else far (benchmarks/harness/apart/round_trip.py)
min ms: of one inference, of leanconv and of XNNPACK
speed-up: of so many threads over the first number of them, of minima and of medians
ratio: of leanconv to XNNPACK with as many threads (below 1 is faster)
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from schedules.files import write_json
from scripts.benchmarks.harness.apart.processes import interleave_apart, opened_apart
from scripts.benchmarks.harness.apart.round_trip import RoundTrip, distance
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
from scripts.benchmarks.harness.comparison import built_in_outputs, compile_delegate, ratios
from scripts.benchmarks.harness.inference import LEANCONV
from scripts.benchmarks.harness.interleaving import Timing, milliseconds
from scripts.benchmarks.harness.runners import XNNPACK, inputs_path
from scripts.benchmarks.networks import graphs_of, thread_counts
from scripts.models.architectures import ARCHITECTURES
from tvmc.command import LineParser

COLUMNS = {
    "network": cell("network"),
    "cores": cell("cores"),
    "threads": cell("threads"),
    "leanconv min ms": cell(LEANCONV, "times", "min_s", form=milliseconds),
    "XNNPACK": cell(XNNPACK, "times", "min_s", form=milliseconds),
    "speed-up": cell(LEANCONV, "speed_up", "min", form=factor),
    "of medians": cell(LEANCONV, "speed_up", "median", form=factor),
    "XNNPACK's": cell(XNNPACK, "speed_up", "min", form=factor),
    "XNNPACK's of medians": cell(XNNPACK, "speed_up", "median", form=factor),
    "ratio": cell("ratios", "min", form=ratio),
    "of medians ": cell("ratios", "median", form=ratio),
}


def _options(parser: LineParser) -> None:
    add = parser.add_argument
    add("networks", nargs="*", metavar="NETWORK", help=f"[{' '.join(ARCHITECTURES)}]")
    add("--threads", type=thread_counts, default=[1, 2], metavar="N,N", help="[1,2]")
    add("--records", type=Path, metavar="DIR",
        help="folder of each network's rows: those in it are not measured again")  # fmt: skip


def measure(options: argparse.Namespace) -> Iterator[Row]:
    """Rows of each network, by distance of the cores and number of threads."""
    names = options.networks or list(ARCHITECTURES)
    kept = {name: rows for name in names if (rows := _kept(name, options.records)) is not None}
    graphs = graphs_of([name for name in names if name not in kept])
    for name in names:
        if name not in kept:
            kept[name] = list(bench(*next(graphs), options))
            if options.records is not None:
                options.records.mkdir(parents=True, exist_ok=True)
                write_json(_records(name, options.records), kept[name])
        yield from kept[name]


def _records(name: str, folder: Path) -> Path:
    return folder / f"{Path(name).stem}.json"


def _kept(name: str, folder: Path | None) -> list[Row] | None:
    """A network's rows in a folder, if they are there."""
    if folder is None or not _records(name, folder).exists():
        return None
    rows: list[Row] = json.loads(_records(name, folder).read_text())
    return rows


def bench(graph: Path, folder: Path, options: argparse.Namespace) -> Iterator[Row]:
    """The rows of one network."""
    say(f"{graph.stem}: compiling …")
    np.savez(inputs_path(folder), *built_in_outputs(graph)[0])
    compile_delegate(graph, folder, LEANCONV)
    trip = RoundTrip(folder)
    subjects = [(kind, count) for count in options.threads for kind in (LEANCONV, XNNPACK)]
    say(f"{graph.stem}: timing …")
    with opened_apart(subjects, graph, folder) as apart:
        timings = interleave_apart(
            apart,
            lambda: distance(trip.seconds()),
            rounds=options.rounds,
            seconds=options.seconds,
        )
    for cores, times in timings.items():
        for count in options.threads:
            yield _row(times, count, options.threads[0]) | {"network": graph.stem, "cores": cores}


def _row(times: Mapping[tuple[str, int], Timing], threads: int, base: int) -> Row:
    row: Row = {"threads": threads}
    for kind in (LEANCONV, XNNPACK):
        timing = times[kind, threads]
        gained = None if threads == base else ratios(times[kind, base], timing)
        row[kind] = {"times": timing.to_dict(), "speed_up": gained}
    return row | {"ratios": ratios(times[LEANCONV, threads], times[XNNPACK, threads])}


def report(rows: Rows) -> Iterator[str]:
    """All figures."""
    yield table(COLUMNS, rows)


BENCHMARK = Benchmark(
    "scaling", __doc__, measure, report, _options, {"rounds": 100, "seconds": 12.0}
)
main = BENCHMARK.main

if __name__ == "__main__":
    sys.exit(main())
