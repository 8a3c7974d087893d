"""Chains row by row in small networks: the arena beside what other planners publish.

    python -m scripts.benchmarks.small.chains
    python -m scripts.benchmarks.small.chains mobilenet_v2_035 --json rows.json

Of the plans with embedded weights (`tvmc plan --weights embedded`), the one with the fewest bytes
that multiplies at most so often is compiled and run in LiteRT, float32.

MACs: at most so many times those of the layers; done: by the plan
arena: TFLite's, as measured; between: without input and output, which TFLite keeps there as well
at once: the most of everything else, also where the output is not needed yet
strips: the same in a model of strips of any width, in which no rows share their memory
published: bytes of msf-CNN's plans (arXiv 2505.11483) in int8, times 4
error: the largest difference from TFLite's built-in kernels
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
from scripts.benchmarks.harness.comparison import built_in_outputs, compile_delegate
from scripts.benchmarks.harness.inference import LEANCONV, described
from scripts.benchmarks.harness.runners import library_path
from scripts.benchmarks.networks import graphs_of
from scripts.benchmarks.small.published import PUBLISHED, planned
from scripts.models.inverted import INVERTED
from tvmc.command import LineParser
from tvmc.planning.plan_command import Curve, plan
from tvmc.running.interpreter import Session, runtime
from tvmc.tuning.host_figures import host_figures

#: Times the multiply-accumulates of the layers.
MOST = (1.0, 1.1)
#: Bytes of float32 elements.
FLOAT = 4
#: Computed once, by dynamic programming over all chains and widths.
STRIPS: Mapping[str, Mapping[float, int]] = {
    "mobilenet_v2_035": {1.0: 27_180 * FLOAT, 1.1: 12_612 * FLOAT},
    "mcunet_like": {1.0: 72_864 * FLOAT, 1.1: 47_312 * FLOAT},
    "wake_words_like": {1.0: 20_480 * FLOAT, 1.1: 15_232 * FLOAT},
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
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=f"[{' '.join(INVERTED)}]")


def measure(options: argparse.Namespace) -> Iterator[Row]:
    """A row for each network and number of multiply-accumulates."""
    for graph, folder in graphs_of(options.networks or list(INVERTED)):
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
    inputs, expected = built_in_outputs(graph)
    session = Session(graph, runtime("litert"), delegate=library_path(folder))
    outputs = session.run(inputs)
    arena = described(session)["arena_bytes"]
    network = curve.network
    image, result = (
        sum(network.sizes[tensor] for tensor in tensors)
        for tensors in (network.inputs, network.outputs)
    )
    last, published = len(network.layers) - 1, planned(graph.stem, most)
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
        "strips_bytes": STRIPS.get(graph.stem, {}).get(most),
        "published_bytes": None if published is None else published * FLOAT,
        "error": max(float(abs(y - e).max()) for y, e in zip(outputs, expected, strict=True)),
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
        for other in PUBLISHED.get(row["network"], ())
    ]
    if others:
        yield table(OTHERS, others)


BENCHMARK = Benchmark("small.chains", __doc__, measure, report, _options)
main = BENCHMARK.main

if __name__ == "__main__":
    sys.exit(main())
