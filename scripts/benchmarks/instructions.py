"""Executed instructions of every algorithm on the emulated Arm board.

    python -m scripts.benchmarks.instructions
    python -m scripts.benchmarks.instructions --cpu cortex-a53 --algorithms mec MODEL.tflite

One invocation of the model on one thread, by default of a 3x3 convolution of 56x56x64 to 64
channels; what an algorithm does not serve stays with TFLite's built-in kernels. Beside the
algorithms stand XNNPACK and the built-in kernels alone. A count is exact, and it is not a latency.

difference: the largest of an output element from the built-in kernels' output
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tvmc
from schedules.algorithms import REGISTRY
from scripts.benchmarks.harness.benchmark import Benchmark, Row, Rows, cell, difference, table
from scripts.board.board import Board
from scripts.board.count import INSTRUCTION_CLASSES, Mode, invoke, max_abs_difference
from scripts.board.cpus import CPUS
from scripts.models.layers import LAYERS
from scripts.models.make import ensure
from tvmc.command import LineParser

CLASSES = ("total", "v_fma", "v_ld", "v_st", "s_ld", "s_st")
PEERS: dict[str, Mode] = {"XNNPACK": "xnnpack", "built-in": "builtin"}
COLUMNS = {
    "kernels": cell("kernels"),
    "layers": cell("layers"),
    **{
        INSTRUCTION_CLASSES.get(key, key): cell(key, form=lambda n: f"{n / 1e6:.3f}")
        for key in CLASSES
    },
    "difference": cell("difference", form=difference),
}


def _options(parser: LineParser) -> None:
    add = parser.add_argument
    add("model", type=Path, nargs="?", metavar="MODEL.tflite")
    add("--cpu", choices=CPUS, default="cortex-a76", help="[%(default)s]")
    add("--algorithms", metavar="A,B", help="[all of `tvmc algorithms`]")


def measure(options: argparse.Namespace) -> Iterator[Row]:
    """A row for each of LiteRT's own kernels and each algorithm; an empty one if it serves none."""
    model = options.model or ensure([LAYERS[0].name])[0]
    algorithms = options.algorithms.split(",") if options.algorithms else REGISTRY.names()
    board = Board.default()
    board.setup()
    with tempfile.TemporaryDirectory(prefix="leanconv-") as folder:
        library = Path(folder) / "delegate.so"
        report = tvmc.compile(model, output=library, target=options.cpu, algorithms=algorithms)
        runs: dict[str, dict[str, Any]] = {name: {"mode": mode} for name, mode in PEERS.items()}
        for name in report.algorithms:
            chosen = f"algorithm:{name}"
            runs[name] = {"mode": "builtin", "delegate": library, "options": chosen}
        invocations = {
            name: invoke(board, model, cpu=options.cpu, counted=True, **run)
            for name, run in runs.items()
        }
    expected = invocations["built-in"].outputs
    about = {"model": model.name, "cpu": options.cpu}
    for name, invocation in invocations.items():
        yield {
            **about,
            "kernels": name,
            "layers": invocation.report["claimed"] if invocation.report else 0,
            **invocation.counts,
            "difference": max_abs_difference(invocation.outputs, expected),
        }
    for name in algorithms:
        if name not in invocations:
            yield {**about, "kernels": name, "layers": 0}


def report(rows: Rows) -> Iterator[str]:
    """Counts in millions."""
    first = rows[0]
    model, cpu = first["model"], first["cpu"]
    yield f"{model} on an emulated {cpu}, millions of executed instructions"
    yield table(COLUMNS, [row for row in rows if "total" in row])
    yield from (f"{row['kernels']} serves no layer of it" for row in rows if "total" not in row)


BENCHMARK = Benchmark("instructions", __doc__, measure, report, _options)
main = BENCHMARK.main

if __name__ == "__main__":
    sys.exit(main())
