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
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

import numpy as np

from schedules.errors import LeanconvError
from schedules.files import check_writable, write_json
from schedules.layer.workload import Conv2dWorkload
from schedules.plan.planner import NO_LIMITS, plan_kernel
from schedules.target.simd import Simd
from schedules.tuning.advice import TRANSFERRED, Advisor, for_target
from schedules.tuning.boards.local import LocalRunner
from schedules.tuning.measure.measure import Measurer
from schedules.tuning.measure.settings import Settings
from schedules.tuning.records.records import Record, best, load
from tvmc.command import LineParser, at_least_one, exit_status
from tvmc.tables import format_table

HEADER = ("layer", "advice", "algorithm", "advised / tuned", "untuned / tuned")
SETTINGS = Settings(repeat=30)


@dataclass(frozen=True)
class Regret:
    """Median seconds of one layer: as advised without its records, as tuned, as untuned."""

    layer: str
    source: str
    algorithm: str
    advised_s: float
    tuned_s: float
    untuned_s: float

    @property
    def advised(self) -> float:
        """Of the time of the best on record."""
        return self.advised_s / self.tuned_s

    @property
    def untuned(self) -> float:
        """The same for what is compiled without any records."""
        return self.untuned_s / self.tuned_s


def main(arguments: Sequence[str] | None = None) -> int:
    """The command: see the top of this file."""
    parser = LineParser(prog="benchmarks.transfer_regret", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("records", metavar="PATH", type=Path, help="a file or folder of tuning records")
    add("--layers", type=at_least_one, metavar="N", help="so many of the layers, by chance")
    add("--seed", type=int, default=0, help="of that chance [%(default)s]")
    add("--json", type=Path, metavar="FILE", help="write the rows as JSON")
    options = parser.parse_args(arguments)
    return exit_status("benchmarks.transfer_regret", lambda: run(options))


def run(options: argparse.Namespace) -> None:
    """Measure, print the table, write the file."""
    if options.json:
        check_writable(options.json)
    simd = Simd.named("host")
    records = for_target(load(options.records), simd, str(options.records))
    layers = [w for w in best(records) if isinstance(w, Conv2dWorkload)]
    if options.layers is not None:
        layers = Random(options.seed).sample(layers, min(options.layers, len(layers)))
    with Measurer(simd, LocalRunner(), SETTINGS, jobs=1) as measurer:
        rows = []
        for row in regrets(records, layers, simd, measurer):
            print(f"{row.layer}: {row.source}, {row.advised:.3f}", file=sys.stderr, flush=True)
            rows.append(row)
    print(format_table(HEADER, [*map(_columns, rows), *_summary(rows)]))
    if options.json:
        write_json(options.json, [asdict(row) for row in rows])


def regrets(
    records: Sequence[Record], layers: Sequence[Conv2dWorkload], simd: Simd, measurer: Measurer
) -> Iterator[Regret]:
    """Each of ``layers``, advised about by the records of all others.

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
        times = [seconds[candidate] for candidate in candidates]
        yield Regret(layer.to_text(), str(advice.source), advice.plan.algorithm, *times)


def _columns(row: Regret) -> list[str]:
    return [row.layer, row.source, row.algorithm, f"{row.advised:.3f}", f"{row.untuned:.3f}"]


def _summary(rows: Sequence[Regret]) -> Iterator[list[str]]:
    """The lines below all layers."""
    moved = sum(row.source == TRANSFERRED for row in rows)
    ratios = [row.advised for row in rows], [row.untuned for row in rows]
    for name, percent in (("median", 50), ("90th percentile", 90)):
        figures = [f"{np.percentile(values, percent):.3f}" for values in ratios]
        yield [name, f"{moved} of {len(rows)} {TRANSFERRED}", "", *figures]


if __name__ == "__main__":
    sys.exit(main())
