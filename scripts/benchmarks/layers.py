"""Single layers through the delegate, beside XNNPACK and other libraries.

    python -m scripts.benchmarks.layers
    python -m scripts.benchmarks.layers --algorithm im2col --rounds 50 --json layers.json
    python -m scripts.benchmarks.layers --calls 10  # hot: nine of ten calls find all in the caches
    python -m scripts.benchmarks.layers --calls 1   # cold: other libraries ran since the last
    python -m scripts.benchmarks.layers --dtype int8

Every layer is a .tflite model of one convolution with bias and ReLU, batch 1. All
libraries run it in one process in turns, on one thread; the figures of the others are ratios of
minima to LiteRT + XNNPACK, like ours (below 1 is faster). The speed-up of two threads over one is
measured in a run of its own, as idle threads of one library slow down another's.

max diff: to the built-in kernels; mismatches: of int8, outputs other than XNNPACK's
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
    compare,
    compile_delegate,
    expected_outputs,
    speed_up,
)
from scripts.benchmarks.harness.inference import LEANCONV
from scripts.benchmarks.harness.interleaving import milliseconds
from scripts.benchmarks.harness.runners import NCNN, ONE_DNN, ONNX_RUNTIME, XNNPACK, prepare_all
from scripts.models.finding import layers_of
from scripts.models.layers import LAYERS
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
    "mismatches": cell(LEANCONV, "mismatches"),
}


def _options(parser: LineParser) -> None:
    parser.add_argument(
        "--calls", type=at_least_one, help="consecutive calls of a sample [as many as last 2 ms]"
    )
    parser.add_argument("--target", default="host", help="as for tvmc compile [%(default)s]")


def measure(options: argparse.Namespace) -> Iterator[Row]:
    """All libraries on every layer."""
    graphs = layers_of(LAYERS, options.dtype)
    for layer, graph in zip(LAYERS, graphs, strict=True):
        say(f"{layer} …")
        with tempfile.TemporaryDirectory(prefix="leanconv-") as folder:
            for row in bench(graph, Path(folder), options):
                yield {"layer": str(layer), "macs": layer.macs, **row}


def bench(graph: Path, folder: Path, options: argparse.Namespace) -> list[Row]:
    """All libraries on one layer."""
    chosen = {"target": options.target, "algorithms": [options.algorithm]}
    compile_delegate(graph, folder, LEANCONV, **chosen)
    peers = PEERS if options.dtype == "float32" else ()
    reasons = prepare_all(peers, graph, folder)
    inputs, expected = expected_outputs(graph)
    turns = {"rounds": options.rounds, "calls": options.calls}
    rows = compare(
        graph, [LEANCONV, XNNPACK, *peers], folder, inputs, expected, reasons=reasons, **turns
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
    {"algorithm": "auto", "dtype": "float32", "rounds": 100},
)
main = BENCHMARK.main

if __name__ == "__main__":
    sys.exit(main())
