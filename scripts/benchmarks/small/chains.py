"""Chains row by row in small networks: the arena beside what other planners publish.

    python -m scripts.benchmarks.small.chains
    python -m scripts.benchmarks.small.chains mobilenet_v2_035_int8 --json rows.json

Of the plans with embedded weights (`tvmc plan --weights embedded`), the one with the fewest bytes
that multiplies at most so often is compiled and run in LiteRT, float32 and int8.

MACs: at most so many times those of the layers; done: by the plan
arena: TFLite's, as measured; between: without input and output, which TFLite keeps there as well
at once: the most of everything else, also where the output is not needed yet
strips: the same in a model of strips of any width, in which no rows share their memory
published: bytes of msf-CNN's plans (arXiv 2505.11483) in int8, times those of an element
error: the largest difference from TFLite's built-in kernels; of int8, from XNNPACK, in codes
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

from schedules.budget.problem import Solution
from scripts.benchmarks.harness.benchmark import Benchmark, Row, Rows, cell, say, table
from scripts.benchmarks.harness.comparison import compile_delegate
from scripts.benchmarks.harness.inference import (
    LEANCONV,
    described,
    is_of_codes,
    max_difference,
    random_inputs,
)
from scripts.benchmarks.harness.runners import library_path
from scripts.benchmarks.networks import graphs_of
from scripts.benchmarks.small.published import PUBLISHED, planned
from scripts.models.inverted import INVERTED
from scripts.models.make import INVERTED_INT8
from tvmc.command import LineParser
from tvmc.planning.plan_command import Curve, plan
from tvmc.running.interpreter import Session, runtime
from tvmc.tuning.host_figures import host_figures

NETWORKS = (*INVERTED, *INVERTED_INT8)
#: Bytes of float32 elements.
FLOAT = 4
#: Times the multiply-accumulates of the layers.
MOST = (1.0, 1.1)
#: Elements, computed once by dynamic programming over all chains and widths.
STRIPS: Mapping[str, Mapping[float, int]] = {
    "mobilenet_v2_035": {1.0: 27_180, 1.1: 12_612},
    "mcunet_like": {1.0: 72_864, 1.1: 47_312},
    "wake_words_like": {1.0: 20_480, 1.1: 15_232},
}
COLUMNS = {
    "network": cell("network"),
    "MACs": cell("most", form="{:.2f}".format),
    "done": cell("done", form="{:.3f}".format),
    "arena": cell("arena_bytes", form="{:,}".format),
    "between": cell("between_bytes", form="{:,}".format),
    "at once": cell("at_once_bytes", form="{:,}".format),
    "strips": cell("strips_bytes", form="{:,}".format),
    "published": cell("published_bytes", form="{:,}".format),
    "error": cell("error", form="{:.1e}".format),
}
#: Of int8 networks.
OTHERS = {
    "network": cell("network"),
    "by": cell("by"),
    "bytes": cell("bytes", form="{:,}".format),
    "MACs": cell("macs", form="{:.2f}".format),
    "source": cell("source"),
}


def _options(parser: LineParser) -> None:
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=f"[{' '.join(NETWORKS)}]")


def measure(options: argparse.Namespace) -> Iterator[Row]:
    """A row for each network and number of multiply-accumulates."""
    for graph, folder in graphs_of(options.networks or NETWORKS):
        curve = plan(graph, embeds=True, figures=host_figures())
        for most in MOST:
            say(f"{graph.stem}: {most:.2f} of the multiply-accumulates …")
            place = folder / str(most)  # a library of the same name would not be loaded anew
            place.mkdir()
            yield measure_within(graph, place, curve, most)


def measure_within(graph: Path, folder: Path, curve: Curve, most: float) -> Row:
    """The plan with the fewest bytes that multiplies at most so often, compiled and run."""
    within = [solution for solution in curve.solutions if done(curve, solution) <= most + 1e-6]
    solution = min(within, key=lambda solution: solution.bytes)
    compile_delegate(graph, folder, LEANCONV, memory_limit=solution.bytes, weights="embedded")
    session = Session(graph, runtime("litert"), delegate=library_path(folder))
    inputs, size = random_inputs(session), 1 if is_of_codes(session) else FLOAT
    outputs = session.run(inputs)
    expected = Session(graph, runtime("litert"), xnnpack=size == 1).run(inputs)
    arena = described(session)["arena_bytes"]
    network = curve.network
    image, result = (
        sum(network.sizes[tensor] for tensor in tensors)
        for tensors in (network.inputs, network.outputs)
    )
    last, name = len(network.layers) - 1, graph.stem.removesuffix("_int8")
    strips, published = STRIPS.get(name, {}).get(most), planned(name, most)
    return {
        "network": graph.stem,
        "most": most,
        "done": done(curve, solution),
        "limit": solution.bytes,
        "arena_bytes": arena,
        "between_bytes": arena - image - result,
        "at_once_bytes": max(
            unit.need(form) - image - (result if unit.last == last else 0)
            for unit, form in solution.chosen
        ),
        "strips_bytes": strips and strips * size,
        "published_bytes": published and published * size,
        "error": max_difference(outputs, expected),
    }


def done(curve: Curve, solution: Solution) -> float:
    """Multiply-accumulates of a plan, of those of the network's layers."""
    plans = [form.plan for _, form in solution.chosen if form.plan]
    own = sum(plan.calls * plan.macs / plan.images for plan in plans)
    return own / math.fsum(layer.macs for layer in curve.network.layers)


def report(rows: Rows) -> Iterator[str]:
    """All figures, and those that others publish."""
    yield table(COLUMNS, rows)
    others = [
        {"network": row["network"], **asdict(other)}
        for row in {row["network"]: row for row in rows}.values()
        for other in PUBLISHED.get(row["network"].removesuffix("_int8"), ())
    ]
    if others:
        yield table(OTHERS, others)


BENCHMARK = Benchmark("small.chains", __doc__, measure, report, _options)
main = BENCHMARK.main

if __name__ == "__main__":
    sys.exit(main())
