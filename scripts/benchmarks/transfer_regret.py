"""How much is lost on layers that were never tuned, by what the records of others advise.

    python -m scripts.benchmarks.transfer_regret tuning_logs/host
    python -m scripts.benchmarks.transfer_regret tuning_logs/host --layers 10 --seed 1

For one layer after another, as if it were not on record: a model learns from all other records,
and what it advises is measured on this machine in turns with the best on record and with the
untuned default. Times are medians, relative to that of the best on record: 1 loses nothing.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

import numpy as np

from schedules.errors import LeanconvError
from schedules.layer.workload import Conv2dWorkload
from schedules.plan.planner import NO_LIMITS, plan_kernel
from schedules.target.simd import Simd
from schedules.tuning.advice import TRANSFERRED, Advisor, for_target
from schedules.tuning.boards.local import LocalRunner
from schedules.tuning.measure.measure import Measurer
from schedules.tuning.measure.settings import Settings
from schedules.tuning.records.records import Record, best, load
from scripts.benchmarks.harness.benchmark import Benchmark, Row, Rows, cell, ratio, say, table
from tvmc.command import LineParser, at_least_one

SETTINGS = Settings(repeat=30)
RECORDS = Path("tuning_logs/x86-64-v4")
COLUMNS = {
    "layer": cell("layer"),
    "advice": cell("source"),
    "algorithm": cell("algorithm"),
    "advised / tuned": lambda row: ratio(row["advised_s"] / row["tuned_s"]),
    "untuned / tuned": lambda row: ratio(row["untuned_s"] / row["tuned_s"]),
}


def _options(parser: LineParser) -> None:
    add = parser.add_argument
    add("records", metavar="PATH", type=Path, nargs="?", default=RECORDS,
        help="a file or folder of tuning records [%(default)s]")  # fmt: skip
    add("--layers", type=at_least_one, metavar="N", help="so many of the layers, by chance")
    add("--seed", type=int, default=0, help="of that chance [%(default)s]")


def measure(options: argparse.Namespace) -> Iterator[Row]:
    """A row for each layer."""
    simd = Simd.named("host")
    records = for_target(load(options.records), simd, str(options.records))
    layers = [w for w in best(records) if isinstance(w, Conv2dWorkload)]
    if options.layers is not None:
        layers = Random(options.seed).sample(layers, min(options.layers, len(layers)))
    with Measurer(simd, LocalRunner(), SETTINGS, jobs=1) as measurer:
        for row in regrets(records, layers, simd, measurer):
            say(f"{row['layer']}: {row['source']}, {COLUMNS['advised / tuned'](row)}")
            yield row


def regrets(
    records: Sequence[Record], layers: Sequence[Conv2dWorkload], simd: Simd, measurer: Measurer
) -> Iterator[Row]:
    """Median seconds of each layer: as advised by the records of all others, tuned, untuned.

    Raises
    ------
    LeanconvError
        If one of the three candidates of a layer cannot be measured.
    """
    tuned = best(records)
    for layer in layers:
        default = plan_kernel(layer, simd)
        others = [record for record in records if record.workload != layer]
        advice = Advisor(others, simd, NO_LIMITS).advise(default, lambda _plan: True)
        candidates = [advice.plan.choice, tuned[layer].candidate, default.choice]
        # Advice and default may be one and the same, which then has one time.
        outcomes = measurer.measure(layer, list(dict.fromkeys(candidates)))
        seconds = {}
        for outcome in outcomes:
            if not outcome.samples_s:
                raise LeanconvError(f"{layer.to_text()}, {outcome.candidate}: {outcome.error}")
            seconds[outcome.candidate] = statistics.median(outcome.samples_s)
        names = ("advised_s", "tuned_s", "untuned_s")
        yield {
            "layer": layer.to_text(),
            "source": str(advice.source),
            "algorithm": advice.plan.algorithm,
            **dict(zip(names, (seconds[candidate] for candidate in candidates), strict=True)),
        }


def report(rows: Rows) -> Iterator[str]:
    """A line for each layer, and below them median and 90th percentile."""
    moved = sum(row["source"] == TRANSFERRED for row in rows)
    below = []
    for name, percent in (("median", 50), ("90th percentile", 90)):
        figures = [
            ratio(np.percentile([row[key] / row["tuned_s"] for row in rows], percent))
            for key in ("advised_s", "untuned_s")
        ]
        below.append([name, f"{moved} of {len(rows)} {TRANSFERRED}", "", *figures])
    yield table(COLUMNS, rows, below)


BENCHMARK = Benchmark("transfer_regret", __doc__, measure, report, _options)
main = BENCHMARK.main

if __name__ == "__main__":
    sys.exit(main())
