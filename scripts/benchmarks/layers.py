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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import tvmc
from schedules.errors import LeanconvError
from schedules.files import check_writable, write_json
from scripts.benchmarks.harness.inference import LEANCONV, max_difference, random_inputs
from scripts.benchmarks.harness.interleaving import interleave, milliseconds
from scripts.benchmarks.harness.peers import PEERS, Problem
from scripts.models.make import LAYERS, ConvLayer, ensure
from tvmc.command import LineParser, at_least_one, exit_status
from tvmc.running.interpreter import Runtime, Session, runtime
from tvmc.tables import format_table

XNNPACK = "LiteRT + XNNPACK"
HEADER = (
    "layer",
    "algorithm",
    "leanconv ms",
    "XNNPACK ms",
    "min ratio",
    "median ratio",
    "2 threads",
    *PEERS,
    "max diff",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command: see the top of this file."""
    parser = LineParser(prog="benchmarks.layers", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--algorithm", default="auto", help="as for tvmc compile, one of them [%(default)s]"
    )
    parser.add_argument(
        "--calls", type=at_least_one, help="consecutive calls of a sample [as many as last 2 ms]"
    )
    parser.add_argument("--target", default="host", help="as for tvmc compile [%(default)s]")
    parser.add_argument(
        "--rounds", type=at_least_one, default=100, help="samples of each [%(default)s]"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows as JSON")
    options = parser.parse_args(arguments)
    return exit_status("benchmarks.layers", lambda: bench_all(options))


def bench_all(options: argparse.Namespace) -> None:
    """Measure every layer and print the table."""
    if options.json:
        check_writable(options.json)
    graphs = ensure([layer.name for layer in LAYERS])
    rows = []
    for layer, graph in zip(LAYERS, graphs, strict=True):
        print(f"{layer} …", file=sys.stderr, flush=True)
        rows.append(bench(layer, graph, options))
    print(format_table(HEADER, [_columns(row) for row in rows]))
    if options.json:
        write_json(options.json, rows)


def bench(layer: ConvLayer, graph: Path, options: argparse.Namespace) -> dict[str, Any]:
    """All figures of one layer."""
    litert = runtime("litert")
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "layer.so"
        tvmc.compile(graph, target=options.target, output=library, algorithms=[options.algorithm])
        return _bench(layer, graph, library, litert, options)


def _bench(
    layer: ConvLayer, graph: Path, library: Path, litert: Runtime, options: argparse.Namespace
) -> dict[str, Any]:
    problem = _problem(layer, graph, litert)
    ours = Session(graph, litert, delegate=library)
    report = ours.report()
    if not report or not report["claimed"]:
        raise LeanconvError(f"the delegate for {options.target} does not run on this machine")
    xnnpack = Session(graph, litert)
    for session in (ours, xnnpack):
        session.set_inputs([problem.image])
    subjects: dict[str, Callable[[], Any]] = {LEANCONV: ours.invoke, XNNPACK: xnnpack.invoke}
    missing = []
    for name, make in PEERS.items():
        try:
            peer = make(problem, 1)
        except ImportError:
            missing.append(name)
            continue
        _check(name, layer, peer.output(), problem.output)
        subjects[name] = peer.invoke
    timings = interleave(subjects, rounds=options.rounds, calls=options.calls)
    difference = max_difference(ours.outputs(), [problem.output])

    two_threads = Session(graph, litert, delegate=library, threads=2)
    two_threads.set_inputs([problem.image])
    both = interleave({"1": ours.invoke, "2": two_threads.invoke}, rounds=options.rounds)
    minima, medians = timings[LEANCONV].ratio(timings[XNNPACK])
    return {
        "layer": str(layer),
        "algorithm": report["layers"][0]["algorithm"],
        "target": options.target,
        "macs": layer.macs,
        "times": {name: timing.to_dict() for name, timing in timings.items()},
        "two_threads": both["2"].to_dict(),
        "ratio_of_minima": minima,
        "ratio_of_medians": medians,
        "two_thread_speedup": both["1"].minimum / both["2"].minimum,
        "peers": {
            name: None if name in missing else timings[name].ratio(timings[XNNPACK])[0]
            for name in PEERS
        },
        "max_difference": difference,
    }


def _problem(layer: ConvLayer, graph: Path, litert: Runtime) -> Problem:
    """The layer's weights out of the model, an image, and the built-in kernel's output."""
    session = Session(graph, litert, xnnpack=False)
    tensors = {}
    for details in session.interpreter.get_tensor_details():
        tensors[tuple(details["shape"])] = details["index"]
    weight_shape = (layer.out_channels, layer.kernel, layer.kernel, layer.in_channels)
    weights = session.interpreter.get_tensor(tensors[weight_shape])
    bias = session.interpreter.get_tensor(tensors[(layer.out_channels,)])
    (image,) = random_inputs(session)
    (output,) = session.run([image])
    return Problem(layer, image, weights, bias, output)


def _check(name: str, layer: ConvLayer, got: Any, expected: Any) -> None:
    """Time nothing that computes something else (Winograd's error is well below this)."""
    if got.shape != expected.shape or not np.allclose(got, expected, rtol=1e-3, atol=1e-3):
        raise LeanconvError(f"{name} computes something else for {layer}")


def _columns(row: dict[str, Any]) -> list[str]:
    times = row["times"]
    return [
        row["layer"],
        row["algorithm"],
        milliseconds(times[LEANCONV]["min_s"]),
        milliseconds(times[XNNPACK]["min_s"]),
        f"{row['ratio_of_minima']:.3f}",
        f"{row['ratio_of_medians']:.3f}",
        f"{row['two_thread_speedup']:.2f}x",
        *("not installed" if ratio is None else f"{ratio:.3f}" for ratio in row["peers"].values()),
        f"{row['max_difference']:.2g}",
    ]


if __name__ == "__main__":
    sys.exit(main())
