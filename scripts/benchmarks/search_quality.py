"""How many trials the searches of `tvmc tune` need to find the best kernel of a layer.

    python -m scripts.benchmarks.search_quality
    python -m scripts.benchmarks.search_quality "56x56x64->64 k1x1 relu" --records quality_logs
    python -m scripts.benchmarks.search_quality --candidates 600  # a sample, where all take hours

Every candidate of a layer's space is measured once on this machine, which should have nothing else
to do, into a log from which an interrupted run goes on; that takes one to two seconds a candidate,
most of them for compiling. The fastest are measured again with more samples. Then each search is
played on what was measured, as `tvmc tune` would use it: nothing is measured again, so that
searches and seeds can be compared as often as one likes.

Of a sample, the searches know no other candidates, and the best is the sample's: what it leaves
out holds faster ones, of n drawn from N about (N - n) / (n + 1).
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from schedules.errors import LeanconvError
from schedules.layer.block import Workload, workload_from_text
from schedules.plan.choice import Choice
from schedules.target.simd import Simd
from schedules.target.toolchain import Toolchain
from schedules.tuning.measure.measure import Measurer
from schedules.tuning.measure.settings import Settings
from schedules.tuning.records.records import MEASURED, Log, Record, load, ranked
from schedules.tuning.records.task import tuning_target
from schedules.tuning.search.cost_model import CostModel
from schedules.tuning.search.search import make_search
from schedules.tuning.search.space import Space
from schedules.tuning.tuner import BATCH, FINAL_SAMPLES, Tuner
from scripts.benchmarks.harness.benchmark import Benchmark, Row, Rows, cell, ratio, say, table
from scripts.benchmarks.harness.interleaving import milliseconds
from tvmc.command import LineParser, at_least_one
from tvmc.tuning.tuner import board_runner

LAYER = "28x28x64->64 k3x3 p1,1,1,1 relu"
PLAYED = ("xgb", "ga", "random")
#: Trials after which the best so far is shown.
BUDGETS = (16, 32, 64)
#: The fastest after one measurement of all, which are measured again; fewer of a sample.
LEADERS = 128
#: How close to the best of all is close enough.
CLOSE = 1.03
COLUMNS = {
    "search": cell("search"),
    **{str(budget): cell("best_after", str(budget), form=ratio) for budget in BUDGETS},
    "trials to 3 %": cell("trials_to_close", form=lambda trials: f"{trials:g}"),
    "trials to random's 64": cell("trials_to_random", form=lambda trials: f"{trials:g}"),
}


def _options(parser: LineParser) -> None:
    add = parser.add_argument
    add("layers", nargs="*", metavar="LAYER", help=f"as in tuning records [{LAYER}]")
    add("--records", type=Path, default=Path("search_quality"), metavar="DIR",
        help="folder of the log [%(default)s]")  # fmt: skip
    add("--target", default="host", help="what to compile for [%(default)s]")
    add("--candidates", type=at_least_one, metavar="N",
        help="drawn from each layer's space, besides the searches' starts [all]")  # fmt: skip
    add("--seed", type=int, default=0, metavar="N", help="of what is drawn [%(default)s]")
    add("--board-command", metavar="COMMAND", help="as for tvmc tune [this machine]")
    add("--trials", type=at_least_one, default=256, metavar="N",
        help="of each search at most [%(default)s]")  # fmt: skip
    add("--seeds", type=at_least_one, default=5, metavar="N", help="of each search [%(default)s]")
    add("--parallel", type=at_least_one, metavar="N", help="candidates compiled at the same time")


def measure(options: argparse.Namespace) -> Iterator[Row]:
    """Measure what is not in the log, and play all searches."""
    simd = Simd.named(options.target)
    workloads = [workload_from_text(text) for text in options.layers or [LAYER]]
    runner = board_runner(simd, Toolchain.default(), None, None, options.board_command)
    try:
        with Measurer(simd, runner, Settings(), options.parallel) as measurer:
            measurer.probe()
            for workload in workloads:
                space = Sample(workload, simd, options.candidates, options.seed)
                records = measure_all(space, measurer, options.records)
                yield from play_all(space, records, options.seeds, options.trials)
    finally:
        runner.close()


class Sample(Space):
    """A space of which no more is known than its starts and ``count`` candidates, all the same.

    Parameters
    ----------
    count : int or None
        ``None`` leaves nothing out.
    seed : int
        Of which are drawn, and of the order in which they are measured.
    """

    def __init__(self, workload: Workload, simd: Simd, count: int | None, seed: int) -> None:
        super().__init__(workload, simd)
        everything = list(self)
        drawn = Random(seed).sample(everything, min(count or len(everything), len(everything)))
        self.drawn = list(dict.fromkeys([*self._starts, *drawn]))
        self.whole = len(everything)
        self._fits = cache(frozenset(self.drawn).__contains__)


def measure_all(space: Sample, measurer: Measurer, folder: Path) -> dict[Choice, Record]:
    """One record of every candidate; those in ``folder`` are not measured again."""
    workload, simd = space.workload, space.simd
    log, known = Log(folder, workload.layers[0].dtype), known_records(folder, workload, simd)
    tuner = Tuner([], simd, measurer, log, folder.name, known)
    done = {record.candidate for record in tuner.records}
    # In no order: what else the machine does meanwhile shall not look like the effect of a knob.
    missing = [candidate for candidate in space.drawn if candidate not in done]
    for first in range(0, len(missing), BATCH):
        say(f"{workload.describe()}: {len(missing) - first} of {len(space.drawn)} to measure …")
        tuner.measure(workload, missing[first : first + BATCH])
    drawn = frozenset(space.drawn)
    tuner.records = [record for record in tuner.records if record.candidate in drawn]
    leaders = -(-LEADERS * len(drawn) // space.whole)
    return believed(workload, tuner.records + measure_again(workload, tuner, leaders))


def measure_again(workload: Workload, tuner: Tuner, leaders: int) -> list[Record]:
    """Many samples of the fastest: among so many short measurements, these are partly luck."""
    table = believed(workload, tuner.records)
    fastest = sorted(table.values(), key=lambda record: record.cost_s)[:leaders]
    unsure = [r.candidate for r in fastest if r.error is None and r.samples < FINAL_SAMPLES]
    return tuner.measure(workload, unsure, FINAL_SAMPLES)


def believed(workload: Workload, records: Sequence[Record]) -> dict[Choice, Record]:
    """Of each candidate, the record with the most samples."""
    table = {record.candidate: record for record in records}
    return table | {record.candidate: record for record in ranked(records, workload)}


def known_records(folder: Path, workload: Workload, simd: Simd) -> list[Record]:
    """What the log says of ``workload``."""
    if not Log(folder, workload.layers[0].dtype).path.exists():
        return []
    return [
        record
        for record in load(folder)
        if record.workload == workload
        and record.target == tuning_target(simd)
        and record.cost_kind == MEASURED
    ]


def play_all(
    space: Sample, records: Mapping[Choice, Record], seeds: int, trials: int
) -> Iterator[Row]:
    """A row for each of :data:`PLAYED`.

    ``best_after`` are the fastest times after :data:`BUDGETS` trials over the best of all, medians
    over the seeds; ``trials_to_close`` and ``trials_to_random`` how many it took to come within
    :data:`CLOSE`, and as far as ``random`` after the most of :data:`BUDGETS`: medians too,
    ``None`` if the trials did not suffice.

    Raises
    ------
    LeanconvError
        If no candidate works.
    """
    costs = {candidate: record.cost_s for candidate, record in records.items()}
    best = min(costs, key=costs.__getitem__)
    if not math.isfinite(costs[best]):
        raise LeanconvError(f"no candidate for {space.workload.describe()} works")
    curves = {
        name: [curve(name, space, records, seed, trials) for seed in range(seeds)]
        for name in PLAYED
    }
    goal = statistics.median(after(one, BUDGETS[-1]) for one in curves["random"])
    for name, played in curves.items():
        yield {
            "workload": space.workload.to_text(),
            "whole": space.whole,
            "candidates": len(records),
            "failed": sum(record.error is not None for record in records.values()),
            "best": str(best),
            "best_s": costs[best],
            "untuned": costs[space.default] / costs[best],
            "search": name,
            "best_after": {
                str(budget): statistics.median(after(one, budget) for one in played) / costs[best]
                for budget in BUDGETS
            },
            "trials_to_close": trials_to(played, CLOSE * costs[best]),
            "trials_to_random": trials_to(played, goal),
        }


def curve(
    name: str, space: Space, records: Mapping[Choice, Record], seed: int, trials: int
) -> list[float]:
    """Seconds of the best so far after each trial."""
    model = CostModel(space.simd, seed)
    search = make_search(name, space, seed, model)
    tried: list[Record] = []
    while len(tried) < trials and (proposed := search.propose(BATCH)):
        tried += [records[candidate] for candidate in proposed]
        if name == "xgb":
            model.fit(tried)
        search.update(tried)
    best, curve = math.inf, []
    for record in tried:
        best = min(best, record.cost_s)
        curve.append(best)
    return curve


def after(curve: Sequence[float], trials: int) -> float:
    """Seconds of the best after so many trials, or after all that there are."""
    return curve[min(trials, len(curve)) - 1]


def trials_to(curves: Sequence[Sequence[float]], goal_s: float) -> float | None:
    """Trials until the best takes ``goal_s`` at most, the median of ``curves``."""
    needed = [
        next((trial for trial, best in enumerate(curve, 1) if best <= goal_s), math.inf)
        for curve in curves
    ]
    median = statistics.median(needed)
    return median if math.isfinite(median) else None


def report(rows: Rows) -> Iterator[str]:
    """For each layer what there is to find, and how soon each search does."""
    for workload in dict.fromkeys(row["workload"] for row in rows):
        shown = [row for row in rows if row["workload"] == workload]
        first = shown[0]
        yield (
            f"{workload}: {_extent(first)}, {first['failed']} failed\n"
            f"best {milliseconds(first['best_s'])} ms: {first['best']}; "
            f"untuned {ratio(first['untuned'])} times that"
        )
        yield table(COLUMNS, shown)


def _extent(row: Mapping[str, Any]) -> str:
    """How many candidates there are, and of a sample, how good its best may be taken for."""
    whole, count = row["whole"], row["candidates"]
    if count == whole:
        return f"{whole} candidates"
    faster = (whole - count) / (count + 1)
    return (
        f"a sample of {count} of {whole} candidates, whose best is expected at the fastest "
        f"{1 / (count + 1):.2%} ({faster:.1f} faster ones left out)"
    )


BENCHMARK = Benchmark("search_quality", __doc__, measure, report, _options)
main = BENCHMARK.main

if __name__ == "__main__":
    sys.exit(main())
