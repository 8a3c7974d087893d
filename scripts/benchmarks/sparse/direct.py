"""Layers of MobileNets and ResNets with zeros anywhere among their weights, beside dense ones.

    python -m scripts.benchmarks.sparse.direct --json direct.json
    python -m scripts.benchmarks.sparse.direct --layers 14x14x512 --zeros 70,90

Kernels with bias and ReLU are called bare, all of a layer and XNNPACK's dense one (through LiteRT)
in turns, on one thread. Single weights are zero, drawn at random.

/ dense, / XNNPACK: time of `sparse_direct` over that of the fastest dense kernel that the planner
    knows, and over XNNPACK's dense one; least times
taken: what the planner takes
weights: bytes as they are packed, and of dense ones
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from schedules.layer.sparsity import ZEROS
from schedules.layer.workload import Conv2dWorkload
from schedules.plan.planner import plan_kernel
from schedules.target.simd import Simd
from scripts.benchmarks.harness.bare import compile_bare
from scripts.benchmarks.harness.benchmark import (
    Benchmark,
    Row,
    Rows,
    cell,
    chosen,
    ratio,
    say,
    table,
)
from scripts.benchmarks.harness.interleaving import interleave, milliseconds
from scripts.benchmarks.harness.runners import XNNPACK
from scripts.benchmarks.sparse.layers import Call, xnnpack_layer
from tvmc.command import LineParser
from tvmc.tables import format_bytes

SPARSE = "sparse_direct"
#: Input, output channels, kernel: SAME, stride 1.
LAYERS = {
    "56x56x128": (56, 128, 128, 1),
    "28x28x256": (28, 256, 256, 1),
    "14x14x512": (14, 512, 512, 1),
    "56x56x24": (56, 24, 144, 1),
    "14x14x96": (14, 96, 576, 1),
    "7x7x1024": (7, 1024, 1024, 1),
    "14x14x256 3x3": (14, 256, 256, 3),
}
PERCENT = (50, 60, 70, 80, 90, 95)


def _options(parser: LineParser) -> None:
    parser.add_argument("--layers", metavar="A,B", help=f"of {', '.join(LAYERS)} [all]")
    parser.add_argument("--zeros", metavar="A,B", help=f"percent, of {', '.join(map(str, ZEROS))}")


def measure(options: argparse.Namespace) -> Iterator[Row]:
    """Every layer at every part of zeros."""
    names = chosen("layer", options.layers, LAYERS)
    zeros = [int(text) for text in chosen("part of zeros", options.zeros, map(str, PERCENT))]
    for name in names:
        say(f"{name} …")
        yield from bench(name, zeros, options.rounds)


def bench(name: str, zeros: list[int], rounds: int) -> Iterator[Row]:
    """The rows of one layer."""
    size, channels, out_channels, taps = LAYERS[name]
    dense = Conv2dWorkload.with_padding(
        "SAME", in_height=size, in_width=size, in_channels=channels, out_channels=out_channels,
        kernel_height=taps, kernel_width=taps, activation="relu",
    )  # fmt: skip
    random, simd = np.random.default_rng(0), Simd.named("host")
    x = random.standard_normal(dense.input_shape, np.float32)
    whole = random.standard_normal(dense.weight_shape, np.float32)
    order = random.permutation(whole.size).reshape(whole.shape)
    layers = {f"z{percent}": replace(dense, zeros=percent) for percent in zeros}
    plans = {"dense": plan_kernel(dense, simd)}
    plans |= {subject: plan_kernel(layer, simd, SPARSE) for subject, layer in layers.items()}
    weights = {"dense": whole}
    for percent in zeros:
        weights[f"z{percent}"] = whole * (order >= whole.size * percent / 100)
    with tempfile.TemporaryDirectory(prefix="leanconv-") as folder_name:
        folder = Path(folder_name)
        calls: dict[str, Call] = {**compile_bare(plans, weights, x, folder)}
        calls[XNNPACK] = xnnpack_layer(whole, x, folder)
        times = interleave(calls, rounds=rounds)
    for percent in zeros:
        subject = f"z{percent}"
        least = times[subject].minimum
        yield {
            "layer": name,
            "geometry": dense.to_text(),
            "zeros": percent,
            "times": times[subject].to_dict(),
            "dense": plans["dense"].algorithm,
            "ratios": {
                "dense": least / times["dense"].minimum,
                "XNNPACK": least / times[XNNPACK].minimum,
            },
            "taken": plan_kernel(layers[subject], simd).algorithm,
            "weight_bytes": plans[subject].packed.weight_bytes,
            "dense_bytes": plans["dense"].packed.weight_bytes,
        }


COLUMNS = {
    "layer": cell("layer"),
    "zeros %": cell("zeros"),
    "ms": cell("times", "min_s", form=milliseconds),
    "dense kernel": cell("dense"),
    "/ dense": cell("ratios", "dense", form=ratio),
    "/ XNNPACK": cell("ratios", "XNNPACK", form=ratio),
    "taken": cell("taken"),
    "weights": cell("weight_bytes", form=format_bytes),
    "dense weights": cell("dense_bytes", form=format_bytes),
}


def report(rows: Rows) -> Iterator[str]:
    """A line for each layer and part of zeros; the worst of what is taken."""
    yield table(COLUMNS, rows)
    taken = [row["ratios"]["dense"] for row in rows if row["taken"] == SPARSE]
    yield f"taken / dense at most {max(taken, default=1.0):.3f}"


BENCHMARK = Benchmark("sparse.direct", __doc__, measure, report, _options, {"rounds": 30})
main = BENCHMARK.main

if __name__ == "__main__":
    sys.exit(main())
