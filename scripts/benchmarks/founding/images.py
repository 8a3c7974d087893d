"""Two images under TensorFlow's convolution and under MEC: peak memory and time.

    python -m scripts.benchmarks.founding.images
    python -m scripts.benchmarks.founding.images --sizes 300 --json rows.json

The images are 300x300x3 and 1960x1960x3. The publication does not state the kernel: here it is 3x3
with three outputs. Its figures are those of Python programs, their interpreter included; ours are
what opening a model and running it once adds, tensors included, in a process of its own. MEC and
its strips run in LiteRT through the delegate. "MEC in strips, one column" computes a strip as
narrow as can be, each row of the product by itself; "MEC in strips" uses the whole register tile.

peak: resident memory (benchmarks/harness/held/memory.py); published: MiB and seconds
min, median: time of a run, all runtimes in turns in one process, one thread
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from scripts.benchmarks.harness.benchmark import Benchmark, Row, Rows, cell, chosen, say, table
from scripts.benchmarks.harness.comparison import compare, compile_delegate, expected_outputs
from scripts.benchmarks.harness.held import memory
from scripts.benchmarks.harness.inference import LEANCONV
from scripts.benchmarks.harness.interleaving import milliseconds
from scripts.benchmarks.harness.runners import TENSORFLOW, XNNPACK, inputs_path
from scripts.models.finding import layers_of
from scripts.models.layers import IMAGE_LAYERS
from tvmc.command import LineParser
from tvmc.tables import format_bytes

#: Our forms: how they are called, and what is compiled.
FORMS = {
    "MEC": "mec",
    "MEC in strips, one column": "mec_strip:columns=1",
    "MEC in strips": "mec_strip",
    "leanconv's choice": "auto",
}
#: Peak MiB and seconds at 300x300x3 and at 1960x1960x3.
PUBLISHED = {
    TENSORFLOW: {300: (200, 2.8), 1960: (250, 24.4)},
    "MEC": {300: (53, 1.8), 1960: (510, 66.3)},
    "MEC in strips, one column": {300: (52, 1.9), 1960: (220, 84.8)},
    "MEC in strips": {300: (50, 1.7), 1960: (160, 32.5)},
}
COLUMNS = {
    "image": cell("image"),
    "runtime": cell("name"),
    "peak": cell("memory", "peak_rss_bytes", form=format_bytes),
    "of it tensors": cell("memory", "tensor_bytes", form=format_bytes),
    "workspace": cell("memory", "workspace_bytes", form=format_bytes),
    "min ms": cell("times", "min_s", form=milliseconds),
    "median ms": cell("times", "median_s", form=milliseconds),
    "published": cell("published", form=lambda figures: "{} MiB, {} s".format(*figures)),
}


def _options(parser: LineParser) -> None:
    sizes = [str(layer.in_height) for layer in IMAGE_LAYERS]
    parser.add_argument("--sizes", metavar="A,B", help=f"of {', '.join(sizes)} [all]")


def measure(options: argparse.Namespace) -> Iterator[Row]:
    """A row for each image and way to compute it."""
    layers = {str(layer.in_height): layer for layer in IMAGE_LAYERS}
    sizes = chosen("size", options.sizes, layers)
    graphs = layers_of([layers[size] for size in sizes], "float32")
    for size, graph in zip(sizes, graphs, strict=True):
        say(f"{size}x{size}x3 …")
        with tempfile.TemporaryDirectory(prefix="leanconv-") as folder:
            yield from _of_image(int(size), graph, Path(folder), options)


def _of_image(size: int, graph: Path, folder: Path, options: argparse.Namespace) -> Iterator[Row]:
    inputs, expected = expected_outputs(graph)
    ways = {TENSORFLOW: TENSORFLOW, XNNPACK: XNNPACK, **dict.fromkeys(FORMS, LEANCONV)}
    for number, (name, kind) in enumerate(ways.items()):
        place = folder / str(number)
        place.mkdir()
        np.savez(inputs_path(place), *inputs)
        if kind == LEANCONV:
            compile_delegate(graph, place, kind, algorithms=[FORMS[name]])
        (*_, row) = compare(
            graph,
            [XNNPACK, kind] if kind != XNNPACK else [kind],
            place,
            inputs,
            expected,
            rounds=options.rounds,
            seconds=options.seconds,
        )
        held = memory.measure(kind, graph, 1, place)
        published = PUBLISHED.get(name, {}).get(size)
        more = {"image": f"{size}x{size}x3", "name": name, "published": published}
        yield {**row, **more, "memory": held}


def report(rows: Rows) -> Iterator[str]:
    """All figures, an image after the other."""
    yield table(COLUMNS, rows)


BENCHMARK = Benchmark(
    "founding.images", __doc__, measure, report, _options, {"rounds": 20, "seconds": 5.0}
)
main = BENCHMARK.main

if __name__ == "__main__":
    sys.exit(main())
