"""Single layers through the delegate, beside XNNPACK and other libraries.

    python -m scripts.benchmarks.layers
    python -m scripts.benchmarks.layers --algorithm im2col --rounds 50 --json layers.json
    python -m scripts.benchmarks.layers --calls 10  # hot: nine of ten calls find all in the caches
    python -m scripts.benchmarks.layers --calls 1   # cold: other libraries ran since the last

Every layer is a .tflite model of one convolution with bias and ReLU, batch 1, float32. All
libraries run it in one process in turns, on one thread; the figures of the others are ratios of
minima to LiteRT + XNNPACK, like ours (below 1 is faster). The speed-up of two threads over one is
measured in a run of its own, as idle threads of one library slow down another's.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from schedules.errors import LeanconvError
from scripts.benchmarks.harness.benchmark import (
    Benchmark,
    Row,
    Rows,
    cell,
    difference,
    factor,
    ratio,
    say,
    table,
)
from scripts.benchmarks.harness.comparison import (
    beside,
    built_in_outputs,
    compare,
    compile_delegate,
    speed_up,
)
from scripts.benchmarks.harness.inference import LEANCONV
from scripts.benchmarks.harness.interleaving import milliseconds
from scripts.benchmarks.harness.runners import NCNN, ONE_DNN, ONNX_RUNTIME, XNNPACK, prepare_all
from scripts.models.make import LAYERS, ensure
from tvmc.command import LineParser, at_least_one

PEERS = (ONE_DNN, ONNX_RUNTIME, NCNN)
COLUMNS = {
    "layer": cell("layer"),
    "algorithm": cell(LEANCONV, "algorithms", form=lambda names: ", ".join(names)),
    "leanconv ms": cell(LEANCONV, "times", "min_s", form=milliseconds),
    "XNNPACK ms": cell(XNNPACK, "times", "min_s", form=milliseconds),
    "min ratio": cell(LEANCONV, "ratios", "min", form=ratio),
    "median ratio": cell(LEANCONV, "ratios", "median", form=ratio),
    "2 threads": cell(LEANCONV, "speed_up", form=factor),
    **{peer: cell(peer, "ratios", "min", form=ratio) for peer in PEERS},
    "max diff": cell(LEANCONV, "max_difference", form=difference),
}


def _options(parser: LineParser) -> None:
    parser.add_argument(
        "--calls", type=at_least_one, help="consecutive calls of a sample [as many as last 2 ms]"
    )
    parser.add_argument("--target", default="host", help="as for tvmc compile [%(default)s]")


def measure(options: argparse.Namespace) -> Iterator[Row]:
    """All libraries on every layer."""
    graphs = ensure([layer.name for layer in LAYERS])
    for layer, graph in zip(LAYERS, graphs, strict=True):
        say(f"{layer} …")
        with tempfile.TemporaryDirectory(prefix="leanconv-") as folder:
            for row in bench(graph, Path(folder), options):
                yield {"layer": str(layer), "macs": layer.macs, **row}


def bench(graph: Path, folder: Path, options: argparse.Namespace) -> list[Row]:
    """All libraries on one layer."""
    chosen = {"target": options.target, "algorithms": [options.algorithm]}
    compile_delegate(graph, folder, LEANCONV, **chosen)
    reasons = prepare_all(PEERS, graph, folder)
    inputs, expected = built_in_outputs(graph)
    turns = {"rounds": options.rounds, "calls": options.calls}
    rows = compare(
        graph, [LEANCONV, XNNPACK, *PEERS], folder, inputs, expected, reasons=reasons, **turns
    )
    ours = rows[0]
    if ours["reason"] or not ours["claimed"]:
        raise LeanconvError(ours["reason"] or f"{options.target} does not run on this machine")
    ours["speed_up"] = speed_up(LEANCONV, graph, folder, inputs, threads=2, rounds=options.rounds)
    return rows


def report(rows: Rows) -> Iterator[str]:
    """A line for each layer."""
    yield table(COLUMNS, beside(rows, "layer"))


BENCHMARK = Benchmark(
    "layers",
    __doc__,
    measure,
    report,
    _options,
    {"algorithm": "auto", "rounds": 100},
)
main = BENCHMARK.main

if __name__ == "__main__":
    sys.exit(main())
