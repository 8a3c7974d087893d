"""Layers of ResNet-18 and VGG-16 with zeros in the Winograd domain, beside dense ones.

    python -m scripts.benchmarks.sparse.layers --json sparse.json
    python -m scripts.benchmarks.sparse.layers --layers resnet18-56,vgg16-14 --zeros 70,90

Kernels of 3x3, stride 1, SAME, with bias and ReLU are called bare, all of a layer and XNNPACK's
(through LiteRT) in turns, on one thread. Zeros are in blocks of `--block` output channels at one
point of one input channel, drawn at random.

m: outputs of a tile along one axis; of F(2x2) and F(4x4) the faster one is shown
/ dense F4, / direct, / XNNPACK, / fastest: of least times; direct is `indirect`, the fastest what
    the planner chooses for a dense layer, weights transformed before
fewer: multiplications of the definition over those of the kernel. The papers have 10.4x for VGG on
    CIFAR-10, 6.8x for ConvPool-CNN and 10.8x for ResNet-18 (arXiv 1802.06367, by zeros of both)
weights: bytes as they are packed; spatial ones have 9 / 36 of those of F4 at 0 %
CSR / dense: 36 products of single weights in compressed rows over dense ones, both torch's (MKL)
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from schedules.layer.winograd_weights import BLOCKS, WinogradWeights
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
    factor,
    ratio,
    say,
    table,
)
from scripts.benchmarks.harness.interleaving import interleave, milliseconds
from scripts.benchmarks.harness.runners import NOT_INSTALLED, XNNPACK, open_runner
from scripts.models.make import quiet_tensorflow
from tvmc.command import LineParser
from tvmc.tables import format_bytes

#: Height and width, channels in and out: those of 3x3 and stride 1.
LAYERS = {
    "resnet18-56": (56, 64),
    "resnet18-28": (28, 128),
    "resnet18-14": (14, 256),
    "resnet18-7": (7, 512),
    "vgg16-56": (56, 256),
    "vgg16-28": (28, 512),
    "vgg16-14": (14, 512),
}
ZEROS = (0, 50, 70, 80, 90, 95)
TILES = (4, 2)
Call = Callable[[], object]


def _options(parser: LineParser) -> None:
    parser.add_argument("--layers", metavar="A,B", help=f"of {', '.join(LAYERS)} [all]")
    parser.add_argument("--zeros", metavar="A,B", help=f"percent, of {', '.join(map(str, ZEROS))}")
    parser.add_argument("--block", type=int, choices=BLOCKS, default=16,
        help="output channels that are zero together [%(default)s]")  # fmt: skip


def measure(options: argparse.Namespace) -> Iterator[Row]:
    """Every layer at every part of zeros."""
    names = chosen("layer", options.layers, LAYERS)
    zeros = [int(text) for text in chosen("part of zeros", options.zeros, map(str, ZEROS))]
    for name in names:
        say(f"{name} …")
        yield from bench(name, zeros, options.block, options.rounds)


def bench(name: str, zeros: list[int], block: int, rounds: int) -> Iterator[Row]:
    """The rows of one layer."""
    size, channels = LAYERS[name]
    random = np.random.default_rng(0)
    x = random.standard_normal((1, size, size, channels), np.float32)
    kernel = random.standard_normal((channels, 3, 3, channels), np.float32)
    dense = layer_of(size, channels)
    weights: dict[str, np.ndarray] = {"direct": kernel, "fastest": kernel}
    layers = {"direct": dense, "fastest": dense}
    for m in TILES:
        for percent in zeros:
            subject = f"f{m}z{percent}"
            weights[subject] = pruned(channels, m + 2, percent, block, random)
            domain = WinogradWeights.of(weights[subject], m)
            layers[subject] = layer_of(size, channels, domain)
    weights.setdefault("f4z0", pruned(channels, 6, 0, block, random))
    layers.setdefault("f4z0", layer_of(size, channels, WinogradWeights(4)))
    simd = Simd.named("host")
    plans = {
        subject: plan_kernel(layer, simd, "indirect" if subject == "direct" else "auto")
        for subject, layer in layers.items()
    }
    with tempfile.TemporaryDirectory(prefix="leanconv-") as folder_name:
        folder = Path(folder_name)
        calls: dict[str, Call] = {**compile_bare(plans, weights, x, folder)}
        calls[XNNPACK] = xnnpack_layer(kernel, x, folder)
        products = _products(channels, size, zeros, random)
        times = interleave(calls | products, rounds=rounds)
    seconds = {subject: timing.minimum for subject, timing in times.items()}
    for percent in zeros:
        m = min(TILES, key=lambda m: seconds[f"f{m}z{percent}"])
        plan, least = plans[f"f{m}z{percent}"], seconds[f"f{m}z{percent}"]
        bases = {"dense F4": "f4z0", "direct": "direct", "XNNPACK": XNNPACK, "fastest": "fastest"}
        yield {
            "layer": name,
            "geometry": dense.to_text(),
            "zeros": percent,
            "m": m,
            "algorithm": plan.algorithm,
            "times": times[f"f{m}z{percent}"].to_dict(),
            "ratios": {base: least / seconds[subject] for base, subject in bases.items()},
            "f4_ratio": seconds[f"f4z{percent}"] / seconds["f4z0"],
            "fewer": dense.macs / plan.macs,
            "weight_bytes": plan.packed.weight_bytes,
            "csr_ratio": seconds[f"csr{percent}"] / seconds["products"] if products else None,
        }


def layer_of(size: int, channels: int, domain: WinogradWeights | None = None) -> Conv2dWorkload:
    """3x3, stride 1, SAME, with as many channels out as in."""
    return Conv2dWorkload.with_padding(
        "SAME", in_height=size, in_width=size, in_channels=channels, out_channels=channels,
        kernel_height=3, kernel_width=3, activation="relu", domain=domain,
    )  # fmt: skip


def pruned(
    channels: int, n: int, percent: int, block: int, random: np.random.Generator
) -> np.ndarray:
    """Weights (M, n, n, C) of which just ``percent`` of the blocks are zero."""
    shape = (channels // block, n, n, channels)
    kept = np.arange(np.prod(shape)) >= np.prod(shape) * percent // 100
    kept = random.permutation(kept).reshape(shape)
    weights = random.standard_normal((channels, n, n, channels), np.float32)
    return weights * np.repeat(kept, block, axis=0)


def xnnpack_layer(kernel: np.ndarray, x: np.ndarray, folder: Path) -> Call:
    """XNNPACK's kernel for the OHWI weights ``kernel``: stride 1, SAME, a bias and ReLU."""
    with quiet_tensorflow():
        import tensorflow as tf

        @tf.function(input_signature=[tf.TensorSpec(x.shape, tf.float32)])
        def network(image: Any) -> Any:
            taps = tf.constant(kernel.transpose(1, 2, 3, 0))
            return tf.nn.relu(tf.nn.conv2d(image, taps, 1, "SAME") + tf.zeros(len(kernel)))

        functions = [network.get_concrete_function()]
        model = tf.lite.TFLiteConverter.from_concrete_functions(functions, network).convert()
    path = folder / "layer.tflite"
    path.write_bytes(model)
    runner = open_runner(XNNPACK, path, 1, folder)
    runner.set_inputs([x])
    return runner.invoke


def _products(
    channels: int, size: int, zeros: list[int], random: np.random.Generator
) -> dict[str, Call]:
    """The 36 products of F(4x4) alone, of all tiles, with single weights zero: torch's, if any."""
    if importlib.util.find_spec("torch") is None:
        say(f"products of single weights: torch is {NOT_INSTALLED}")
        return {}
    import torch

    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
    tiles = (-(-size // 4)) ** 2
    images = torch.from_numpy(random.standard_normal((36, channels, tiles), np.float32))
    whole = random.standard_normal((36, channels, channels), np.float32)
    weights = torch.from_numpy(whole)
    calls: dict[str, Call] = {"products": lambda: torch.bmm(weights, images)}

    def in_rows(kept: np.ndarray) -> Call:
        rows = [torch.from_numpy(point).to_sparse_csr() for point in kept]
        return lambda: [row @ image for row, image in zip(rows, images, strict=True)]

    for percent in zeros:
        kept = random.random(whole.shape) >= percent / 100
        calls[f"csr{percent}"] = in_rows(whole * kept)
    return calls


COLUMNS = {
    "layer": cell("layer"),
    "zeros %": cell("zeros"),
    "m": cell("m"),
    "algorithm": cell("algorithm"),
    "ms": cell("times", "min_s", form=milliseconds),
    "/ dense F4": cell("ratios", "dense F4", form=ratio),
    "/ direct": cell("ratios", "direct", form=ratio),
    "/ XNNPACK": cell("ratios", "XNNPACK", form=ratio),
    "/ fastest": cell("ratios", "fastest", form=ratio),
    "fewer": cell("fewer", form=factor),
    "weights": cell("weight_bytes", form=format_bytes),
    "CSR / dense": cell("csr_ratio", form=ratio),
}


def report(rows: Rows) -> Iterator[str]:
    """A line for each layer and part of zeros."""
    yield table(COLUMNS, rows)


BENCHMARK = Benchmark("sparse.layers", __doc__, measure, report, _options, {"rounds": 30})
main = BENCHMARK.main

if __name__ == "__main__":
    sys.exit(main())
