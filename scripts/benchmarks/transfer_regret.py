"""How much is lost on layers that were never tuned, by what the records of others advise.

    python -m scripts.benchmarks.transfer_regret tuning_logs/host
    python -m scripts.benchmarks.transfer_regret tuning_logs/host --layers 10 --seed 1
    python -m scripts.benchmarks.transfer_regret tuning_logs/znver4 --to tuning_logs/pixel6

For one layer after another, as if it were not on record: a model learns from all other records,
and what it advises is measured on this machine in turns with the best on record and with the
untuned default. Times are medians, relative to that of the best on record: 1 loses nothing.

With ``--to``, nothing is measured: the model learns from the records of one processor, ranks the
candidates that are on record of another by the facts of that one, and the first is looked up.
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
from schedules.plan.plan import Plan
from schedules.plan.planner import NO_LIMITS, plan_kernel
from schedules.target.simd import PRESETS, Simd
from schedules.tuning.advice import TRANSFERRED, Advisor, for_target
from schedules.tuning.boards.local import LocalRunner
from schedules.tuning.measure.measure import Measurer
from schedules.tuning.measure.settings import Settings
from schedules.tuning.records.board_info import BoardInfo
from schedules.tuning.records.completion import completed
from schedules.tuning.records.records import Record, best, by_workload, load, ranked
from schedules.tuning.search.cost_model import CostModel
from scripts.benchmarks.harness.benchmark import Benchmark, Row, Rows, cell, ratio, say, table
from tvmc.command import LineParser, at_least_one

SETTINGS = Settings(repeat=30)
RECORDS = Path("tuning_logs/znver4")
#: What a model makes its choice among, or it makes none.
MIN_CANDIDATES = 3
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
    add("--to", metavar="PATH", type=Path,
        help="the records of another processor, among which choices are made")  # fmt: skip
    add("--layers", type=at_least_one, metavar="N", help="so many of the layers, by chance")
    add("--seed", type=int, default=0, help="of that chance [%(default)s]")


def measure(options: argparse.Namespace) -> Iterator[Row]:
    """A row for each layer."""
    if options.to is not None:
        yield from across(options.records, options.to)
        return
    simd = Simd.named("host")
    records = for_target(load(options.records), simd, str(options.records))
    layers = [w for w in best(records) if isinstance(w, Conv2dWorkload)]
    if options.layers is not None:
        layers = Random(options.seed).sample(layers, min(options.layers, len(layers)))
    with Measurer(simd, LocalRunner(), SETTINGS, jobs=1) as measurer:
        for row in regrets(records, layers, simd, measurer):
            say(f"{row['layer']}: {row['source']}, {COLUMNS['advised / tuned'](row)}")
            yield row


def across(source: Path, target: Path) -> Iterator[Row]:
    """Seconds on one processor of what a model of another's records ranks first."""
    simd, records = records_of(source)
    other, trials = records_of(target)
    model = CostModel(simd)
    model.fit(records)
    if not model.is_fitted:
        raise LeanconvError(f"{source} has too few records to learn from")
    for workload, own in by_workload(trials).items():
        costs = {record.candidate: record.cost_s for record in ranked(own)}
        default = plan_kernel(workload, other)
        if len(costs) < MIN_CANDIDATES or default.choice not in costs:
            continue
        plans = [Plan.of(candidate, workload, other) for candidate in costs]
        promised = model.predict(plans, other)
        advised = plans[int(np.argmin(promised))]
        yield {
            "layer": workload.to_text(),
            "source": TRANSFERRED,
            "algorithm": advised.algorithm,
            "advised_s": costs[advised.choice],
            "tuned_s": min(costs.values()),
            "untuned_s": costs[default.choice],
        }


def records_of(path: Path) -> tuple[Simd, list[Record]]:
    """The processor that a board's folder is of, and what still can be compiled of its records."""
    records = load(path)
    info = BoardInfo.read(path if path.is_dir() else path.parent)
    name = info.board if info is not None and info.board in PRESETS else records[0].target
    simd = Simd.named(name)
    own = completed(for_target(records, simd, str(path)), simd)
    return simd, [record for record in own if _can_be_planned(record, simd)]


def _can_be_planned(record: Record, simd: Simd) -> bool:
    try:
        Plan.of(record.candidate, record.workload, simd)
    except LeanconvError:
        return False
    return True


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
