"""What the delegate takes of every quantised model of a folder, and how exact it is.

    python -m scripts.benchmarks.coverage FOLDER …
    python -m scripts.benchmarks.coverage FOLDER --inputs 3 --json rows.json

Each .tflite file whose weights have 8 bits is compiled for this machine, and run with LiteRT and
XNNPACK for what is left, on random inputs, beside LiteRT and XNNPACK alone. Nothing is timed.

claimed: layers with weights that the delegate computes, of all
left: pieces of the graph that stay with TFLite, and how many operators are in them
mismatches: outputs other than XNNPACK's, over all inputs; largest: the largest difference of one

Below the table stand the layers that are not claimed, and why.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from schedules.errors import LeanconvError, reason
from scripts.benchmarks.harness.benchmark import Benchmark, Row, Rows, cell, difference, say, table
from scripts.benchmarks.harness.comparison import compile_delegate, mismatches
from scripts.benchmarks.harness.inference import (
    LEANCONV,
    is_of_codes,
    max_difference,
    random_inputs,
)
from scripts.benchmarks.harness.runners import library_path
from tvmc.command import LineParser, at_least_one
from tvmc.running.interpreter import Session, runtime

COLUMNS = {
    "model": cell("model"),
    "layers": cell("layers"),
    "claimed": cell("claimed"),
    "left": cell("left"),
    "operators": cell("left_operators"),
    "outputs": cell("outputs"),
    "mismatches": cell("mismatches"),
    "largest": cell("max_difference", form=difference),
}


def _options(parser: LineParser) -> None:
    add = parser.add_argument
    add("folders", nargs="+", type=Path, metavar="FOLDER", help="of .tflite files, or such files")
    add("--inputs", type=at_least_one, default=3, metavar="N", help="of each model [%(default)s]")


def measure(options: argparse.Namespace) -> Iterator[Row]:
    """A row for each quantised model, or for one that LiteRT or the delegate does not run."""
    for path in _models(options.folders):
        say(f"{path.stem} …")
        # A folder of its own: a library that is loaded already is not loaded again.
        with tempfile.TemporaryDirectory(prefix="leanconv-") as folder:
            try:
                if is_of_codes(Session(path, runtime("litert"), xnnpack=False)):
                    yield {"model": path.stem, **bench(path, Path(folder), options.inputs)}
            except (LeanconvError, RuntimeError, ValueError) as error:
                yield {"model": path.stem, "reason": reason(error)}


def _models(folders: list[Path]) -> Iterator[Path]:
    for folder in folders:
        if not folder.exists():
            raise LeanconvError(f"there is nothing at {folder}")
        yield from [folder] if folder.is_file() else sorted(folder.glob("*.tflite"))


def bench(path: Path, folder: Path, inputs: int) -> Row:
    """One model.

    Raises
    ------
    LeanconvError
        If nothing of it can be compiled, or the delegate does not run it.
    RuntimeError, ValueError
        If LiteRT cannot run it.
    """
    compiled = compile_delegate(path, folder, LEANCONV)
    graphs = [compiled, *compiled["subgraphs"]]
    layers = [layer for graph in graphs for layer in graph["layers"]]
    left = [piece for graph in graphs for piece in graph["left"]]
    ours = Session(path, runtime("litert"), delegate=library_path(folder))
    theirs = Session(path, runtime("litert"))
    row: Row = {
        "layers": len(layers),
        "claimed": sum(layer["claimed"] for layer in layers),
        "left": len(left),
        "left_operators": sum(len(piece["nodes"]) for piece in left),
        "reasons": _reasons(layers),
        **dict.fromkeys(("outputs", "mismatches", "max_difference"), 0),
    }
    for seed in range(inputs):
        values = random_inputs(theirs, seed)
        got, expected = ours.run(values), theirs.run(values)
        row["outputs"] += sum(output.size for output in expected)
        row["mismatches"] += mismatches(got, expected)
        row["max_difference"] = max(row["max_difference"], max_difference(got, expected))
    return row


def _reasons(layers: list[dict[str, Any]]) -> dict[str, int]:
    """How many layers are not claimed for which reason."""
    return Counter(f"{x['op']}: {x['reason']}" for x in layers if not x["claimed"])


def report(rows: Rows) -> Iterator[str]:
    """A line for each model, then the layers that are not claimed."""
    yield table(COLUMNS, [row for row in rows if not row.get("reason")])
    for row in rows:
        for text, count in row.get("reasons", {}).items():
            yield f"{row['model']}: {count} x {text}"


BENCHMARK = Benchmark("coverage", __doc__, measure, report, _options)
main = BENCHMARK.main

if __name__ == "__main__":
    sys.exit(main())
