"""The layers of networks one by one, through the delegate, beside XNNPACK.

    python -m scripts.benchmarks.nodes mobilenet_v2 efficientnet_lite0 --operator DEPTHWISE_CONV_2D
    python -m scripts.benchmarks.nodes resnet50 --operator FULLY_CONNECTED
    python -m scripts.benchmarks.nodes resnet18 --algorithm indirect --only 7x7x512
    python -m scripts.benchmarks.nodes resnet50 mobilenet_v2 --batch 8

Each distinct layer of a network is cut out, with its weights, as a .tflite file of its own; nothing
is fused across layers. Both runtimes run it in one process in turns, on one thread. Ratios are to
LiteRT + XNNPACK, below 1 is faster; the last line of each operator is their geometric mean. With
--batch, "of singles" is the time of a batch as part of that of as many single images, both with
nothing in the caches.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from schedules.errors import LeanconvError
from scripts.benchmarks.harness.benchmark import Benchmark, Row, Rows, cell, ratio, say, table
from scripts.benchmarks.harness.comparison import (
    beside,
    compare,
    compile_delegate,
    expected_outputs,
    of_single_images,
)
from scripts.benchmarks.harness.inference import LEANCONV, WITH_WEIGHTS
from scripts.benchmarks.harness.interleaving import milliseconds
from scripts.benchmarks.harness.node_times import single_nodes
from scripts.benchmarks.harness.runners import XNNPACK
from scripts.models.architectures import ARCHITECTURES
from scripts.models.finding import found
from tflite_delegate.read import model as tflite_model
from tvmc.command import LineParser, at_least_one

COLUMNS = {
    "operator": cell("operator"),
    "layer": cell("layer"),
    "algorithm": cell(LEANCONV, "algorithms", form=lambda names: ", ".join(names)),
    "leanconv ms": cell(LEANCONV, "times", "min_s", form=milliseconds),
    "XNNPACK ms": cell(XNNPACK, "times", "min_s", form=milliseconds),
    "min ratio": cell(LEANCONV, "ratios", "min", form=ratio),
    "median": cell(LEANCONV, "ratios", "median", form=ratio),
}
#: And with a batch.
OF_BATCHES = {
    "of singles": cell(LEANCONV, "of_singles", "min", form=ratio),
    "medians": cell(LEANCONV, "of_singles", "median", form=ratio),
}


def _options(parser: LineParser) -> None:
    add = parser.add_argument
    add("networks", nargs="*", metavar="NETWORK", default=["mobilenet_v2"],
        help=f"[mobilenet_v2], or any of {' '.join(ARCHITECTURES)}")  # fmt: skip
    add("--operator", choices=WITH_WEIGHTS, help="only layers of this kind")
    add("--only", metavar="TEXT", help="only layers with TEXT in their description")
    add("--batch", type=at_least_one, default=1, metavar="N", help="images [%(default)s]")


def measure(options: argparse.Namespace) -> Iterator[Row]:
    """Both runtimes on every distinct layer."""
    seen: set[str] = set()
    for graph in found(options.networks):
        with tempfile.TemporaryDirectory(prefix="leanconv-") as name:
            for operator, layer, path in _layers(graph, Path(name), options.batch):
                chosen = options.operator in (None, operator)
                if chosen and layer not in seen and (options.only or "") in layer:
                    say(f"{layer} …")
                    seen.add(layer)
                    for row in bench(layer, path, options):
                        yield {"operator": operator, "layer": layer, **row}


def _layers(graph: Path, folder: Path, batch: int) -> Iterator[tuple[str, str, Path]]:
    """Operator, description and .tflite file of each layer with weights that can be compiled.

    Beside the file is a folder with that for a single image.
    """
    both = zip(single_nodes(graph, batch), single_nodes(graph), strict=True)
    for place, ((operator, data), (_, single)) in enumerate(both):
        if operator in WITH_WEIGHTS:
            # A folder of its own: a library that is loaded already is not loaded again.
            path = folder / str(place) / "node.tflite"
            _single(path).parent.mkdir(parents=True)
            path.write_bytes(data)
            _single(path).write_bytes(single)
            (layer,) = tflite_model.read(path).layers
            if layer.workload is not None:
                yield operator, layer.geometry, path
            path.unlink()
            _single(path).unlink()


def _single(path: Path) -> Path:
    return path.parent / "single" / path.name


def bench(layer: str, path: Path, options: argparse.Namespace) -> list[Row]:
    """One layer in both runtimes."""
    compile_delegate(path, path.parent, LEANCONV, algorithms=[options.algorithm])
    kinds = [LEANCONV, XNNPACK]
    rows = compare(path, kinds, path.parent, *expected_outputs(path), rounds=options.rounds)
    if rows[0].get("claimed") != 1:
        cause = rows[0]["reason"] or "it claims nothing"
        raise LeanconvError(f"the delegate does not run {layer} on this machine: {cause}")
    if options.batch > 1:
        single = _single(path)
        compile_delegate(single, single.parent, LEANCONV, algorithms=[options.algorithm])
        rows[0]["of_singles"] = of_single_images(path, single, options.batch, options.rounds)
    return rows


def report(rows: Rows) -> Iterator[str]:
    """The layers of each operator, and their mean."""
    layers = beside(rows, "operator", "layer")
    lines: list[Row] = []
    for operator in dict.fromkeys(row["operator"] for row in layers):
        shown = [row for row in layers if row["operator"] == operator]
        mean = statistics.geometric_mean(row[LEANCONV]["ratios"]["min"] for row in shown)
        total = {LEANCONV: {"ratios": {"min": mean}}}
        lines += [*shown, {"operator": operator, "layer": "geometric mean", **total}]
    is_batch = any("of_singles" in row for row in rows)
    yield table({**COLUMNS, **OF_BATCHES} if is_batch else COLUMNS, lines)


BENCHMARK = Benchmark(
    "nodes", __doc__, measure, report, _options, {"algorithm": "auto", "rounds": 50}
)
main = BENCHMARK.main

if __name__ == "__main__":
    sys.exit(main())
