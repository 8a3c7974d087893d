"""What the planner's model of time says of every form of a layer, beside what is measured.

    python -m scripts.benchmarks.cost_model --layers 60 --json cost_model.json
    python -m scripts.benchmarks.cost_model --records cost_model --known  # measures nothing
    python -m scripts.benchmarks.cost_model --networks mobilenet_v2_int8,resnet50_int8

Layers are those of the twelve networks, or of others, in no order, every other one with a kernel
beyond 1x1; of each, every form that no other algorithm has. One thread; each call finds its weights
in memory, as in a network, and its input where the call before left it. What is measured goes to a
log, from which an interrupted run goes on, and which a changed model is compared with.

A layer's regret is the measured time of the form that the planner takes over that of the fastest
within its limit on the error. Rank correlations are Spearman's, of modelled and measured times.
Modelled times are shown at the clock at which half of all forms take longer than modelled.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterator, Sequence
from itertools import chain, zip_longest
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from schedules.algorithms import REGISTRY, Unsupported
from schedules.layer.block import Workload, workload_from_text
from schedules.plan.choice import Choice
from schedules.plan.plan import Plan
from schedules.plan.planner import NO_LIMITS, default_limits, exceeded, plan_kernel
from schedules.target.simd import Simd
from schedules.target.toolchain import Toolchain
from schedules.tuning.measure.measure import Measurer
from schedules.tuning.measure.settings import Settings
from schedules.tuning.records.records import Logs, Record, load
from schedules.tuning.records.task import tuning_target
from schedules.tuning.tuner import Tuner
from scripts.benchmarks.harness.benchmark import Benchmark, Row, Rows, cell, ratio, say, table
from scripts.benchmarks.harness.interleaving import milliseconds
from scripts.models.architectures import ARCHITECTURES
from scripts.models.finding import found
from tflite_delegate.read.model import read
from tflite_delegate.tasks import tasks
from tvmc.command import LineParser, at_least_one
from tvmc.tuning.tuner import board_runner

#: Copies of weights in turns: twice the last cache of most processors.
SETTINGS = Settings(repeat=8, min_repeat_ms=2.0, build_timeout_s=600.0, weights_bytes=64 << 20)
#: Of the order of the layers.
SEED = 14
COLUMNS = {
    "layer": cell("layer"),
    "taken": cell("taken"),
    "modelled ms": cell("modelled_s", form=milliseconds),
    "ms": cell("measured_s", form=milliseconds),
    "fastest": cell("fastest"),
    "regret": cell("regret", form=ratio),
    "forms": cell("forms"),
    "correlation": cell("correlation", form=ratio),
}


def _options(parser: LineParser) -> None:
    add = parser.add_argument
    add("names", nargs="*", metavar="LAYER", help="as in tuning records [of the networks]")
    add("--networks", metavar="A,B", default=",".join(ARCHITECTURES),
        help="of models/make.py, or .tflite files [the twelve]")  # fmt: skip
    add("--layers", type=at_least_one, default=20, metavar="N",
        help="so many of the networks' [%(default)s]")  # fmt: skip
    add("--target", default="host", help="what to compile for [%(default)s]")
    add("--records", type=Path, default=Path("cost_model"), metavar="DIR",
        help="folder of the log [%(default)s]")  # fmt: skip
    add("--board-command", metavar="COMMAND", help="as for tvmc tune [this machine]")
    add("--parallel", type=at_least_one, metavar="N", help="kernels compiled at the same time")
    add("--known", action="store_true", help="measure nothing: only the layers of the log")


def measure(options: argparse.Namespace) -> Iterator[Row]:
    """A row for each form of each layer."""
    simd = Simd.named(options.target)
    names = options.names or network_layers(simd, options.networks.split(","))[: options.layers]
    layers = [workload_from_text(name) for name in names]
    log, has_records = Logs(options.records), any(options.records.glob("*.jsonl"))
    known = [r for r in load(options.records) if r.costs_s] if has_records else []
    known = [record for record in known if record.target == tuning_target(simd)]
    if options.known:
        for layer in layers:
            yield from rows_of(layer, plans_of(layer, simd), simd, known)
        return
    runner = board_runner(simd, Toolchain.default(), None, None, options.board_command)
    try:
        with Measurer(simd, runner, SETTINGS, options.parallel) as measurer:
            tuner = Tuner([], simd, measurer, log, options.records.name, known)
            for number, layer in enumerate(layers, 1):
                plans = plans_of(layer, simd)
                done = {r.candidate for r in tuner.records if r.workload == layer}
                missing = [plan.choice for plan in plans if plan.choice not in done]
                say(f"{number} of {len(layers)}, {layer.to_text()}: {len(missing)} kernels …")
                tuner.measure(layer, missing)
                yield from rows_of(layer, plans, simd, tuner.records)
    finally:
        runner.close()


def network_layers(simd: Simd, networks: Sequence[str]) -> list[str]:
    """Layers of the networks with several forms: by turns beyond 1x1, and 1x1."""
    models = [read(path) for path in found(networks)]
    layers = [task.workload for task in tasks(models, simd) if not task.is_block]
    layers = [layer for layer in layers if len(plans_of(layer, simd)) > 1]
    Random(SEED).shuffle(layers)
    wide = [layer.to_text() for layer in layers if not layer.layers[0].is_pointwise]
    points = [layer.to_text() for layer in layers if layer.layers[0].is_pointwise]
    return [name for name in chain(*zip_longest(wide, points)) if name is not None]


def plans_of(layer: Workload, simd: Simd) -> list[Plan]:
    """A plan for each form of each algorithm that does not come down to another one."""
    plans = []
    for algorithm in REGISTRY.made_for(layer):
        if algorithm.applied_to(layer) is not algorithm:
            continue
        for knobs in algorithm.forms(layer):
            try:
                plans.append(Plan.of(Choice.of(algorithm.name, knobs), layer, simd))
            except Unsupported:
                continue
    return plans


def rows_of(
    layer: Workload, plans: Sequence[Plan], simd: Simd, records: Sequence[Record]
) -> Iterator[Row]:
    """What was modelled and measured, last, of each plan; none if not of the planner's choice."""
    measured = {record.candidate: record for record in records if record.workload == layer}
    limits, taken = default_limits(layer, NO_LIMITS), plan_kernel(layer, simd).choice
    if taken not in measured or not measured[taken].costs_s:
        return
    for plan in plans:
        record = measured.get(plan.choice)
        if record is not None and record.costs_s:
            yield {
                "layer": layer.to_text(),
                "form": plan.why,
                "within": exceeded(plan, limits) is None,
                "taken": plan.choice == taken,
                "modelled_s": plan.cost,
                "measured_s": record.costs_s[0],
                "median_s": record.cost_s,
            }


def summary(rows: Rows) -> dict[str, Any]:
    """A layer's row of :data:`COLUMNS`."""
    within = [row for row in rows if row["within"]]
    cheapest = min(within, key=lambda row: float(row["modelled_s"]))
    # Rows that were kept before do not tell.
    taken = next((row for row in within if row.get("taken")), cheapest)
    fastest = min(within, key=lambda row: float(row["measured_s"]))
    return {
        **taken,
        "layer": workload_from_text(taken["layer"]).describe(),
        "taken": taken["form"],
        "fastest": fastest["form"] if fastest is not taken else "",
        "regret": taken["measured_s"] / fastest["measured_s"],
        "forms": len(rows),
        "correlation": rank_correlation(rows),
    }


def rank_correlation(rows: Rows) -> float:
    """Spearman's, of modelled and measured times; equal ones share their rank."""
    modelled, measured = ([row[f"{what}_s"] for row in rows] for what in ("modelled", "measured"))
    return float(np.corrcoef(_ranks(modelled), _ranks(measured))[0, 1])


def _ranks(values: Sequence[float]) -> np.ndarray:
    array = np.asarray(values)
    below = (array[:, None] > array).sum(axis=1)
    return below + (array[:, None] == array).sum(axis=1) / 2


def report(rows: Rows) -> Iterator[str]:
    """A line for each layer, and figures over all."""
    layers = [
        summary([row for row in rows if row["layer"] == name])
        for name in dict.fromkeys(row["layer"] for row in rows)
    ]
    clock = statistics.median(row["measured_s"] / row["modelled_s"] for row in rows)
    yield table(COLUMNS, [{**layer, "modelled_s": layer["modelled_s"] * clock} for layer in layers])
    regrets = sorted(layer["regret"] for layer in layers)
    correlations = [layer["correlation"] for layer in layers]
    yield (
        f"regret of {len(layers)} layers: median {statistics.median(regrets):.3f}, 90th percentile "
        f"{np.quantile(regrets, 0.9):.3f}, worst {regrets[-1]:.3f}\n"
        f"rank correlation: {rank_correlation(rows):.3f} over {len(rows)} forms of all layers, "
        f"median of the layers {statistics.median(correlations):.3f}"
    )


BENCHMARK = Benchmark("cost_model", __doc__, measure, report, _options)
main = BENCHMARK.main

if __name__ == "__main__":
    sys.exit(main())
