"""From Keras to a delegate and a comparison, for two networks: ``make demo``.

MobileNetV2 and a network of ResNet-50-like 3x3 layers are converted to .tflite, their
convolutions are compiled for this machine, and LiteRT runs them with XNNPACK, with its built-in
kernels and with the delegate in turns.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import tvmc
from schedules.cache import cache_folder
from schedules.files import check_writable, write_json
from scripts.benchmarks.harness.inference import COMPARISON_HEADER, MEMORY_NOTE, Result, compare
from scripts.benchmarks.harness.machine import Machine
from scripts.models.make import ensure
from tvmc.command import LineParser, at_least_one, exit_status
from tvmc.compiling.compile_command import print_report
from tvmc.progress import shown_progress
from tvmc.running.interpreter import runtime
from tvmc.tables import format_table

NETWORKS = ("mobilenet_v2", "resnet_3x3")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command: see the top of this file."""
    parser = LineParser(prog="demo", description=__doc__)
    parser.add_argument("--num_threads", type=at_least_one, default=1)
    parser.add_argument(
        "--rounds", type=at_least_one, default=50, help="samples of each [%(default)s]"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table as JSON")
    options = parser.parse_args(arguments)
    return exit_status("demo", lambda: demonstrate(options))


def demonstrate(options: argparse.Namespace) -> None:
    """Do all of it and print the table."""
    if options.json:
        check_writable(options.json)
    started = time.perf_counter()
    results = run(options.num_threads, options.rounds)
    print(format_table(COMPARISON_HEADER, [result.columns() for result in results]))
    print(MEMORY_NOTE)
    machine = Machine.this()
    print(f"{time.perf_counter() - started:.0f} s in all, on {machine.describe()}")
    if options.json:
        rows = [result.to_dict() for result in results]
        write_json(options.json, {"machine": machine.to_dict(), "rows": rows})


def run(threads: int, rounds: int) -> list[Result]:
    """Convert, compile and compare the networks."""
    print(f"Keras to .tflite: {', '.join(NETWORKS)}", flush=True)
    results = []
    for graph in ensure(NETWORKS):
        library = cache_folder("models") / f"lib{graph.stem}_delegate.so"
        print(f"\ntvmc compile {graph} --output {library}", flush=True)
        with shown_progress(verbose=False) as progress:
            report = tvmc.compile(graph, output=library, progress=progress)
        print_report(report.to_dict())
        results += compare(
            graph, library, runtime=runtime("litert"), threads=threads, rounds=rounds
        )
    print()
    return results


if __name__ == "__main__":
    sys.exit(main())
