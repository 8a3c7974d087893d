"""Models from anywhere, through the delegate, beside XNNPACK on one thread.

    python -m scripts.benchmarks.models face.tflite segmentation.tflite --json rows.json
    python -m scripts.benchmarks.models models/*.tflite --threads 2 --rounds 100

A delegate is compiled for each model; it and LiteRT + XNNPACK run the model in one process in
turns, on the same random inputs.

ratios: to LiteRT + XNNPACK, of the least and of the median times; below 1 is faster
arena: memory that TFLite's tensors share, leanconv's workspace included, and XNNPACK's beside it
packed: weights in leanconv's layout
claimed, left: layers with weights that the delegate computes, and that it leaves to XNNPACK
max diff, bound: largest difference of an output to TFLite's built-in kernels', and how far it may
    be (benchmarks/harness/bound.py, for weights that neither amplify nor damp)

The last lines are the geometric mean of the models that take XNNPACK more than 50 µs, and those
that take longer than in XNNPACK. A model that cannot be compiled or run has a reason instead.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import tvmc
from schedules.errors import LeanconvError
from schedules.files import check_writable, write_json
from scripts.benchmarks.harness.bound import network_bound
from scripts.benchmarks.harness.inference import (
    LEANCONV,
    delegate_memory,
    max_difference,
    random_inputs,
)
from scripts.benchmarks.harness.interleaving import interleave, milliseconds
from scripts.benchmarks.harness.runners import XNNPACK
from tvmc.command import LineParser, at_least_one, exit_status
from tvmc.running.interpreter import Session, runtime
from tvmc.tables import format_bytes, format_table

HEADER = (
    "model", "leanconv ms", "XNNPACK ms", "min ratio", "median", "arena", "XNNPACK's", "packed",
    "claimed", "left", "max diff", "bound",
)  # fmt: skip
#: Below, what surrounds a model takes as long as the model.
SHORT_SECONDS = 50e-6


@dataclass(frozen=True)
class Row:
    """One model; bytes and seconds, the least of many."""

    model: str
    seconds: float
    xnnpack_seconds: float
    ratio_of_minima: float
    ratio_of_medians: float
    arena_bytes: int
    xnnpack_arena_bytes: int
    packed_bytes: int
    claimed: int
    left: int
    max_difference: float
    bound: float

    @property
    def is_short(self) -> bool:
        """Whether its ratio says little."""
        return self.xnnpack_seconds < SHORT_SECONDS

    def columns(self) -> list[str]:
        """Text for the columns of ``HEADER``."""
        memory = (self.arena_bytes, self.xnnpack_arena_bytes, self.packed_bytes)
        return [
            self.model,
            *(milliseconds(seconds) for seconds in (self.seconds, self.xnnpack_seconds)),
            *(f"{ratio:.3f}" for ratio in (self.ratio_of_minima, self.ratio_of_medians)),
            *map(format_bytes, memory),
            *(str(count) for count in (self.claimed, self.left)),
            *(f"{difference:.2g}" for difference in (self.max_difference, self.bound)),
        ]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command: see the top of this file."""
    parser = LineParser(prog="benchmarks.models", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("models", nargs="+", type=Path, metavar="MODEL", help=".tflite files")
    add("--threads", type=at_least_one, default=1, metavar="N", help="of both [%(default)s]")
    add("--rounds", type=at_least_one, default=50, help="samples of each [%(default)s]")
    add("--seconds", type=float, default=10.0,
        help="of timing a model at most, unless 3 rounds take longer [%(default)g]")  # fmt: skip
    add("--json", type=Path, metavar="FILE", help="write the rows as JSON")
    options = parser.parse_args(arguments)
    return exit_status("benchmarks.models", lambda: bench_all(options))


def bench_all(options: argparse.Namespace) -> None:
    """Measure every model and print the table."""
    if options.json:
        check_writable(options.json)
    rows: list[Row] = []
    reasons: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="leanconv-") as folder:
        for place, path in enumerate(options.models):
            print(f"{path.stem} …", file=sys.stderr, flush=True)
            try:
                # A name of its own: a library that is loaded already is not loaded again.
                rows.append(bench(path, Path(folder) / f"{place}.so", options))
            except (LeanconvError, RuntimeError, ValueError) as error:
                reasons[path.stem] = " ".join(str(error).split())
    print(format_table(HEADER, [row.columns() for row in rows]))
    for line in (*_summary(rows), *(f"{model}: {reason}" for model, reason in reasons.items())):
        print(line)
    if options.json:
        write_json(options.json, {"rows": [asdict(row) for row in rows], "reasons": reasons})


def _summary(rows: Sequence[Row]) -> list[str]:
    long = [row for row in rows if not row.is_short]
    if not long:
        return []
    mean = statistics.geometric_mean(row.ratio_of_minima for row in long)
    slower = [f"{row.model} {row.ratio_of_minima:.2f}" for row in rows if row.ratio_of_minima > 1]
    return [
        f"geometric mean of {len(long)} models above {SHORT_SECONDS * 1e6:.0f} µs: {mean:.3f}",
        f"slower than in XNNPACK: {', '.join(slower) or 'none'}",
    ]


def bench(path: Path, library: Path, options: argparse.Namespace) -> Row:
    """One model in both runtimes.

    Raises
    ------
    LeanconvError
        If it cannot be compiled, or the delegate does not run it.
    RuntimeError, ValueError
        If LiteRT cannot run it.
    """
    report = tvmc.compile(path, output=library)
    litert = runtime("litert")
    built_in = Session(path, litert, xnnpack=False)
    inputs = random_inputs(built_in)
    expected = built_in.run(inputs)
    sessions = {
        LEANCONV: Session(path, litert, delegate=library, threads=options.threads),
        XNNPACK: Session(path, litert, threads=options.threads),
    }
    for session in sessions.values():
        session.set_inputs(inputs)
    calls = {name: session.invoke for name, session in sessions.items()}
    timings = interleave(calls, rounds=options.rounds, seconds=options.seconds)
    ours, xnnpack = sessions[LEANCONV], sessions[XNNPACK]
    claimed = ours.report()
    memory = delegate_memory(claimed)
    if claimed is None or memory is None:
        raise LeanconvError("the delegate does not run on this machine")
    layers = sum(len(entry["layers"]) for entry in claimed["layers"])
    minima, medians = timings[LEANCONV].ratio(timings[XNNPACK])
    return Row(
        path.stem,
        timings[LEANCONV].minimum,
        timings[XNNPACK].minimum,
        minima,
        medians,
        ours.probe().arena_bytes(),
        xnnpack.probe().arena_bytes(),
        memory.packed_bytes,
        layers,
        len(report.layers) - layers,
        max_difference(ours.run(inputs), expected),
        network_bound(path, report.to_dict(), built_in, expected),
    )


if __name__ == "__main__":
    sys.exit(main())
