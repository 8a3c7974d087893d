"""How many trials the searches of `tvmc tune` need to find the best kernel of a layer.

    python -m scripts.benchmarks.search_quality
    python -m scripts.benchmarks.search_quality "56x56x64->64 k1x1 relu" --records quality_logs

Every candidate of a layer's space is measured once on this machine, which should have nothing else
to do, into a log from which an interrupted run goes on; that takes one to two seconds a candidate,
most of them for compiling. The fastest are measured again with more samples. Then each search is
played on what was measured, as `tvmc tune` would use it: nothing is measured again, so that
searches and seeds can be compared as often as one likes.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from schedules.errors import LeanconvError
from schedules.files import check_writable, write_json
from schedules.layer.block import Workload, workload_from_text
from schedules.plan.choice import Choice
from schedules.target.simd import Simd
from schedules.tuning.boards.local import LocalRunner
from schedules.tuning.measure.measure import Measurer
from schedules.tuning.measure.settings import Settings
from schedules.tuning.records.records import MEASURED, Log, Record, load, ranked
from schedules.tuning.records.task import Task, tuning_target
from schedules.tuning.search.cost_model import CostModel
from schedules.tuning.search.search import make_search
from schedules.tuning.search.space import Space
from schedules.tuning.tuner import BATCH, FINAL_SAMPLES, Options, Status, Tuner
from tvmc.command import LineParser, at_least_one, exit_status
from tvmc.tables import format_table

LAYER = "28x28x64->64 k3x3 p1,1,1,1 relu"
PLAYED = ("xgb", "ga", "random")
#: Trials after which the best so far is shown.
BUDGETS = (16, 32, 64)
#: The fastest after one measurement of all, which are measured again.
LEADERS = 128
#: How close to the best of all is close enough.
CLOSE = 1.03
HEADER = ("search", *map(str, BUDGETS), "trials to 3 %", "trials to random's 64")


@dataclass(frozen=True)
class Row:
    """One search of one layer's space.

    ``best_after`` are the fastest times after :data:`BUDGETS` trials over the best of all, medians
    over the seeds; ``trials_to_close`` and ``trials_to_random`` how many it took to come within
    :data:`CLOSE`, and as far as ``random`` after the most of :data:`BUDGETS`: medians too,
    ``None`` if the trials did not suffice.
    """

    workload: str
    candidates: int
    failed: int
    best: str
    best_s: float
    untuned: float
    search: str
    best_after: tuple[float, ...]
    trials_to_close: float | None
    trials_to_random: float | None


def main(arguments: Sequence[str] | None = None) -> int:
    """The command: see the top of this file."""
    parser = LineParser(prog="benchmarks.search_quality", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("layers", nargs="*", metavar="LAYER", help=f"as in tuning records [{LAYER}]")
    add("--records", type=Path, default=Path("search_quality"), metavar="DIR",
        help="folder of the log [%(default)s]")  # fmt: skip
    add("--target", default="host", help="what to compile for [%(default)s]")
    add("--trials", type=at_least_one, default=256, metavar="N",
        help="of each search at most [%(default)s]")  # fmt: skip
    add("--seeds", type=at_least_one, default=5, metavar="N", help="of each search [%(default)s]")
    add("--parallel", type=at_least_one, metavar="N", help="candidates compiled at the same time")
    add("--json", type=Path, metavar="FILE", help="write the rows as JSON")
    options = parser.parse_args(arguments)
    return exit_status("benchmarks.search_quality", lambda: compare(options))


def compare(options: argparse.Namespace) -> None:
    """Measure what is not in the log, play all searches, print and write their rows."""
    if options.json:
        check_writable(options.json)
    simd = Simd.named(options.target)
    rows: list[Row] = []
    workloads = [workload_from_text(text) for text in options.layers or [LAYER]]
    with Measurer(simd, LocalRunner(), Settings(), options.parallel) as measurer:
        measurer.probe()
        for workload in workloads:
            records = measure_all(workload, simd, measurer, options.records)
            space = Space(workload, simd)
            rows += play_all(space, records, options.seeds, options.trials)
            print_rows([row for row in rows if row.workload == workload.to_text()])
    if options.json:
        write_json(options.json, [asdict(row) for row in rows])


def measure_all(
    workload: Workload, simd: Simd, measurer: Measurer, folder: Path
) -> dict[Choice, Record]:
    """One record of every candidate; those in ``folder`` are not measured again."""
    # In no order: what else the machine does meanwhile shall not look like the effect of a knob.
    everything = Options(sys.maxsize, tuner="random", early_stopping=sys.maxsize)
    tuner = Tuner(
        [Task(workload, 1)],
        simd,
        measurer,
        Log(folder, workload.layers[0].dtype),
        folder.name,
        known_records(folder, workload, simd),
        everything,
        show,
    )
    tuner.run()
    if sys.stderr.isatty():
        print(file=sys.stderr)
    return believed(workload, tuner.records + measure_again(workload, tuner))


def measure_again(workload: Workload, tuner: Tuner) -> list[Record]:
    """Many samples of the fastest: among so many short measurements, these are partly luck."""
    table = believed(workload, tuner.records)
    fastest = sorted(table.values(), key=lambda record: record.cost_s)[:LEADERS]
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


def show(status: Status) -> None:
    """How far measuring has come, on a line that is written again and again."""
    if sys.stderr.isatty():
        line = f"{status.trials} measured, {status.errors} failed, {status.seconds:.0f} s"
        print(f"\r{status.workload.describe()}: {line}", end="", file=sys.stderr, flush=True)


def play_all(
    space: Space, records: Mapping[Choice, Record], seeds: int, trials: int
) -> Iterator[Row]:
    """A row for each of :data:`PLAYED`.

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
        yield Row(
            workload=space.workload.to_text(),
            candidates=len(records),
            failed=sum(record.error is not None for record in records.values()),
            best=str(best),
            best_s=costs[best],
            untuned=costs[space.default] / costs[best],
            search=name,
            best_after=tuple(
                statistics.median(after(one, budget) for one in played) / costs[best]
                for budget in BUDGETS
            ),
            trials_to_close=trials_to(played, CLOSE * costs[best]),
            trials_to_random=trials_to(played, goal),
        )


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


def print_rows(rows: Sequence[Row]) -> None:
    """One layer: what there is to find, and how soon each search does."""
    first = rows[0]
    print(
        f"{first.workload}: {first.candidates} candidates, {first.failed} failed\n"
        f"best {first.best_s * 1e3:.4g} ms: {first.best}; untuned {first.untuned:.3f} times that"
    )
    lines = [
        [
            row.search,
            *(f"{ratio:.3f}" for ratio in row.best_after),
            *(
                "-" if trials is None else f"{trials:g}"
                for trials in (row.trials_to_close, row.trials_to_random)
            ),
        ]
        for row in rows
    ]
    print(format_table(HEADER, lines))


if __name__ == "__main__":
    sys.exit(main())
