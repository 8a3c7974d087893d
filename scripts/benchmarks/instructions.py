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
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import tvmc
from schedules.algorithms import REGISTRY
from schedules.files import check_writable, write_json
from scripts.board.board import Board
from scripts.board.count import INSTRUCTION_CLASSES, Mode, invoke, max_abs_difference
from scripts.board.cpus import CPUS
from scripts.models.make import LAYERS, ensure
from tvmc.command import LineParser, exit_status
from tvmc.tables import format_table

COLUMNS = ("total", "v_fma", "v_ld", "v_st", "s_ld", "s_st")
PEERS: dict[str, Mode] = {"XNNPACK": "xnnpack", "built-in": "builtin"}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command: see the top of this file."""
    parser = LineParser(prog="benchmarks.instructions", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("model", type=Path, nargs="?", metavar="MODEL.tflite")
    parser.add_argument("--cpu", choices=CPUS, default="cortex-a76", help="[%(default)s]")
    parser.add_argument("--algorithms", metavar="A,B", help="[all of `tvmc algorithms`]")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows as JSON")
    options = parser.parse_args(arguments)
    return exit_status("benchmarks.instructions", lambda: count_all(options))


def count_all(options: argparse.Namespace) -> None:
    """Count, print the table, write the file."""
    if options.json:
        check_writable(options.json)
    model = options.model or ensure([LAYERS[0].name])[0]
    algorithms = options.algorithms.split(",") if options.algorithms else REGISTRY.names()
    rows = list(count(model, options.cpu, algorithms))
    titles = ("kernels", "layers", *(INSTRUCTION_CLASSES.get(key, key) for key in COLUMNS))
    cells = [
        [
            row["kernels"],
            row["layers"],
            *(f"{row[key] / 1e6:.3f}" for key in COLUMNS),
            f"{row['difference']:.2g}",
        ]
        for row in rows
    ]
    print(f"{model.name} on an emulated {options.cpu}, millions of executed instructions")
    print(format_table((*titles, "difference"), cells))
    for name in algorithms:
        if name not in {row["kernels"] for row in rows}:
            print(f"{name} serves no layer of it")
    if options.json:
        write_json(options.json, rows)


def count(model: Path, cpu: str, algorithms: Sequence[str]) -> Iterator[dict[str, Any]]:
    """A row for each of LiteRT's own kernels and each algorithm that serves a layer."""
    board = Board.default()
    board.setup()
    with tempfile.TemporaryDirectory(prefix="leanconv-") as folder:
        library = Path(folder) / "delegate.so"
        report = tvmc.compile(model, output=library, target=cpu, algorithms=algorithms)
        runs: dict[str, dict[str, Any]] = {name: {"mode": mode} for name, mode in PEERS.items()}
        for name in report.algorithms:
            options = f"algorithm:{name}"
            runs[name] = {"mode": "builtin", "delegate": library, "options": options}
        invocations = {
            name: invoke(board, model, cpu=cpu, counted=True, **run) for name, run in runs.items()
        }
    expected = invocations["built-in"].outputs
    for name, invocation in invocations.items():
        yield {
            "kernels": name,
            "layers": invocation.report["claimed"] if invocation.report else 0,
            **invocation.counts,
            "difference": max_abs_difference(invocation.outputs, expected),
        }


if __name__ == "__main__":
    sys.exit(main())
