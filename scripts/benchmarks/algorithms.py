"""Every algorithm on the layers that the literature on low-memory convolution measures.

    python -m scripts.benchmarks.algorithms
    python -m scripts.benchmarks.algorithms --layers cv9,cv10 --algorithms im2col,mec
    python -m scripts.benchmarks.algorithms --svg docs --json rows.json

The layers are MEC's cv1 to cv12 and a 5x5 convolution of a 300x300 and of a 1960x1960 image to 32
channels, none of them padded: .tflite models of one convolution with bias and ReLU, batch 1, run by
LiteRT on one thread. Beside the algorithms stand XNNPACK and TFLite's built-in kernel, which pass
through the same measurements. Of int8 (--dtype int8), all bytes are about a quarter; hybrid layers
and those of float16 have such weights and floats.

workspace, packed: bytes that the algorithm asks for, and its weights in its layout
peak heap: the most that was on the heap, beside the input and output tensors, from before the
    interpreter was made to the end of its first run, in a process of its own
    (benchmarks/harness/held/memory.py)
ratios: of the least and of the median times, all runtimes of a layer timed in turns
max error: the largest absolute difference of an output element to float64, of float32
mismatches: output elements other than XNNPACK's, of int8
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schedules.algorithms import REGISTRY, Unsupported
from schedules.errors import LeanconvError
from schedules.layer.workload import Conv2dWorkload
from schedules.plan.planner import plan_kernel
from schedules.target.simd import Simd
from scripts.benchmarks.harness.benchmark import (
    Benchmark,
    Row,
    Rows,
    cell,
    chosen,
    difference,
    ratio,
    say,
    table,
)
from scripts.benchmarks.harness.charts import dot_chart
from scripts.benchmarks.harness.comparison import compare, compile_delegate
from scripts.benchmarks.harness.exact import layer_of, max_errors, single_convolution
from scripts.benchmarks.harness.held import memory
from scripts.benchmarks.harness.inference import LEANCONV, random_inputs
from scripts.benchmarks.harness.interleaving import milliseconds
from scripts.benchmarks.harness.runners import BUILT_IN, XNNPACK, Runner, inputs_path
from scripts.models.finding import layers_of
from scripts.models.layers import LITERATURE_LAYERS
from tvmc.command import LineParser, at_least_one
from tvmc.running.interpreter import Session, runtime
from tvmc.tables import format_bytes

PEERS = (XNNPACK, BUILT_IN)
COLUMNS = {
    "layer": cell("layer"),
    "algorithm": cell("runtime"),
    "workspace": cell("workspace_bytes", form=format_bytes),
    "packed": cell("packed_bytes", form=format_bytes),
    "peak heap": cell("peak_bytes", form=format_bytes),
    "min ms": cell("times", "min_s", form=milliseconds),
    "min / XNNPACK": cell("ratios", "min", form=ratio),
    "median / XNNPACK": cell("ratios", "median", form=ratio),
    "min / built-in": cell("built_in_ratios", "min", form=ratio),
    "median / built-in": cell("built_in_ratios", "median", form=ratio),
    "max error": cell("max_difference", form=difference),
    "mismatches": cell("mismatches"),
}


def _options(parser: LineParser) -> None:
    add = parser.add_argument
    add("--layers", metavar="A,B", help=f"of {', '.join(LITERATURE_LAYERS)} [all]")
    add("--algorithms", metavar="A,B", help="[all of `tvmc algorithms`]")
    add("--memory", type=at_least_one, metavar="MIB",
        help="what one run may take [a third of what is free: three are timed]")  # fmt: skip


def measure(options: argparse.Namespace) -> Iterator[Row]:
    """LiteRT's own kernels and the algorithms on every layer."""
    layers = chosen("layer", options.layers, LITERATURE_LAYERS)
    algorithms = chosen("algorithm", options.algorithms, REGISTRY.names())
    limit = options.memory << 20 if options.memory else _free_bytes() // 3
    graphs = layers_of([LITERATURE_LAYERS[name] for name in layers], options.dtype)
    for name, graph in zip(layers, graphs, strict=True):
        yield from bench(name, graph, algorithms, limit, options.rounds)


def _free_bytes() -> int:
    """Memory that can be taken without pushing anything out of it."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1]) * 1024


# One layer


def bench(
    name: str, graph: Path, algorithms: Sequence[str], limit_bytes: int, rounds: int
) -> list[Row]:
    """The rows of one layer: LiteRT's own kernels, then the algorithms."""
    workload = layer_of(graph)
    geometry = str(LITERATURE_LAYERS[name])
    empty: Row = dict.fromkeys(("reason", "peak_bytes", "times", "max_difference"))
    empty |= dict.fromkeys(("workspace_bytes", "packed_bytes", "ratios", "built_in_ratios"))
    start = {"layer": name, "geometry": geometry}
    rows = {kind: {**start, **empty, "runtime": kind} for kind in (*PEERS, *algorithms)}
    for algorithm in algorithms:
        rows[algorithm] |= _planned(algorithm, workload, limit_bytes)
    with tempfile.TemporaryDirectory(prefix="leanconv-") as folder_name:
        folder = Path(folder_name)
        _compile([rows[algorithm] for algorithm in algorithms], graph, folder)
        inputs = random_inputs(Session(graph, runtime("litert")))
        np.savez(inputs_path(folder), *inputs)
        say(f"{name}: measuring memory …")
        for row in rows.values():
            _measure_heap(row, graph, folder, limit_bytes)
        say(f"{name}: timing …")
        differences = None if workload.is_quantised else partial(_errors, graph, inputs[0])
        bases = {"ratios": XNNPACK, "built_in_ratios": BUILT_IN}
        measured = [row for row in rows.values() if row["reason"] is None]
        for batch in batches(measured, 3 * limit_bytes):
            kinds = [row["runtime"] for row in batch]
            more: dict[str, Any] = {"differences": differences, "bases": bases, "rounds": rounds}
            found = compare(graph, kinds, folder, inputs, **more)
            for row in found:
                if row["reason"]:
                    raise LeanconvError(row["reason"])
                kept = ("times", "max_difference", "mismatches", *bases)
                rows[row["runtime"]] |= {key: row.get(key) for key in kept}
    return list(rows.values())


def _errors(
    graph: Path, image: NDArray[np.float32], runners: Mapping[str, Runner]
) -> dict[str, float]:
    """How far outputs are from those of float64."""
    workload, weights, bias = single_convolution(graph)
    outputs = {kind: _output(runner) for kind, runner in runners.items()}
    return max_errors(workload, image, weights, bias, outputs)


def _planned(algorithm: str, workload: Conv2dWorkload, limit_bytes: int) -> Row:
    """What an algorithm asks for, or the reason why it cannot be run."""
    try:
        plan = plan_kernel(workload, Simd.named("host"), algorithm)
    except Unsupported as error:
        return {"reason": str(error)}
    packed = plan.packed.bytes
    asked: Row = {"workspace_bytes": plan.workspace_bytes, "packed_bytes": packed}
    needed = workload.input_bytes + workload.output_bytes + plan.workspace_bytes + packed
    if needed > limit_bytes:
        asked["reason"] = f"it takes {format_bytes(needed)}, more than {format_bytes(limit_bytes)}"
    return asked


def _compile(rows: Sequence[Row], graph: Path, folder: Path) -> None:
    """Compile the algorithms of all rows, which are of one layer, into one delegate."""
    names = [row["runtime"] for row in rows if row["reason"] is None]
    if not names:
        return
    say(f"{rows[0]['layer']}, {rows[0]['geometry']}: compiling {', '.join(names)} …")
    compiled = compile_delegate(graph, folder, LEANCONV, algorithms=names)["algorithms"]
    for row in rows:
        if row["reason"] is None and row["runtime"] not in compiled:
            row["reason"] = "the delegate does not know its weight layout"


def _measure_heap(row: Row, graph: Path, folder: Path, limit_bytes: int) -> None:
    if row["reason"] is not None:
        return
    try:
        row["heap"] = memory.measure(row["runtime"], graph, 1, folder, limit_bytes)
        row["peak_bytes"] = row["heap"]["peak_heap_bytes"] - row["heap"]["tensor_bytes"]
    except LeanconvError as error:
        row["reason"] = str(error)


def batches(rows: Sequence[Row], room_bytes: int) -> Iterator[list[Row]]:
    """Rows to be timed together, in each LiteRT's own kernels, as far as memory lasts."""
    peers = [row for row in rows if row["runtime"] in PEERS]
    batch = list(peers)
    for row in rows[len(peers) :]:
        needed = sum(other["heap"]["peak_heap_bytes"] for other in [*batch, row])
        if needed > room_bytes and len(batch) > len(peers):
            yield batch
            batch = list(peers)
        batch.append(row)
    if batch:
        yield batch


def _output(runner: Runner) -> NDArray[np.float32]:
    """The output tensor where it lies."""
    assert runner.session is not None, "it is LiteRT's"
    (details,) = runner.session.interpreter.get_output_details()
    output: NDArray[np.float32] = runner.session.interpreter.tensor(details["index"])()
    return output


# Table and pictures


def report(rows: Rows) -> Iterator[str]:
    """A line for each algorithm on each layer."""
    yield table(COLUMNS, rows)


def time_picture(rows: Rows) -> str:
    """Time over XNNPACK's."""
    values = [row["ratios"] and row["ratios"]["min"] for row in rows]
    title = "Time of one convolution, one thread"
    return _picture(rows, title, f"least time, relative to {XNNPACK}", values)


def memory_picture(rows: Rows) -> str:
    """Peak heap."""
    values = [None if (n := row["peak_bytes"]) is None else n / 1024 for row in rows]
    axis = "peak heap beside the input and output tensors, KiB"
    return _picture(rows, "Memory of one convolution", axis, values, floor=1.0)


def _picture(
    rows: Rows,
    title: str,
    axis: str,
    values: Sequence[float | None],
    floor: float | None = None,
) -> str:
    layers = list(dict.fromkeys(row["layer"] for row in rows))
    series: dict[str, list[float | None]] = {row["runtime"]: [] for row in rows}
    for row, value in zip(rows, values, strict=True):
        series[row["runtime"]].append(value)
    return dot_chart(title, axis, layers, series, floor=floor)


BENCHMARK = Benchmark(
    "algorithms",
    __doc__,
    measure,
    report,
    _options,
    {"dtype": "float32", "rounds": 10},
    {"algorithms_time.svg": time_picture, "algorithms_memory.svg": memory_picture},
)
main = BENCHMARK.main

if __name__ == "__main__":
    sys.exit(main())
