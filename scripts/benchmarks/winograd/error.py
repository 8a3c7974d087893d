"""The rounding error of Winograd convolutions in float32, form by form, beside the direct one's.

    python -m scripts.benchmarks.winograd.error
    python -m scripts.benchmarks.winograd.error --parts random,models --svg docs

A form is F(m x m, r x r) at some interpolation points, marked * if they are our kernels'. Part
``random`` runs each on normally distributed images and weights; ``models`` on such images after a
ReLU and the weights of trained networks' 3x3 and 5x5 layers of stride 1; both with numpy in
benchmarks/winograd/float32.py, which rounds as our kernels do, with all channels in one sum. Part
``xnnpack`` runs three layers with bias and ReLU on uniform images with LiteRT, by XNNPACK and by
our compiled kernels, and with numpy by every form; sums of n: of so many channels, which are added
in turn.

amplification: of the rounding errors of the products, by the transforms of both directions
rms error, max error: of the output, against float64, over the root mean square of the output; in
    part ``xnnpack`` as they are, the mean of all images
expected: rms error by the model of schedules/kernel/accuracy.py; measured: times the expected one
/ direct, / XNNPACK: times the direct convolution's or XNNPACK's; worst: of the max errors of any
    one image
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schedules.algorithms import REGISTRY
from schedules.errors import LeanconvError
from schedules.layer.workload import Conv2dWorkload
from schedules.target.simd import Simd
from schedules.transforms.cook_toom import filtering
from scripts.benchmarks.harness.benchmark import (
    Benchmark,
    Cell,
    Row,
    Rows,
    cell,
    chosen,
    say,
    table,
)
from scripts.benchmarks.harness.charts import dot_chart
from scripts.benchmarks.harness.comparison import compile_delegate
from scripts.benchmarks.harness.exact import blocks, constant, single_convolution
from scripts.benchmarks.harness.inference import LEANCONV, random_inputs
from scripts.benchmarks.harness.runners import open_runner
from scripts.benchmarks.winograd.float32 import Array
from scripts.benchmarks.winograd.forms import OUTPUTS, Form, candidates, forms
from scripts.models.layers import LAYERS, ConvLayer
from scripts.models.make import ensure
from tflite_delegate.read import model as tflite_model
from tvmc.command import LineParser, at_least_one
from tvmc.running.interpreter import Session, runtime

PARTS = ("random", "models", "xnnpack")
#: Trained networks of models/make.py.
MODELS = ("resnet8_float", "mobilenet_96_float")
#: Channels of random images; rows, columns and channels of an output.
RANDOM_CHANNELS, RANDOM_SIZE, RANDOM_OUTPUTS = (16, 64, 256), 24, 16
#: The 3x3 layers that every speed figure is quoted for.
COMPILED_LAYERS = {layer.name: layer for layer in LAYERS if (layer.kernel, layer.stride) == (3, 1)}


def _form(digits: str, *path: str) -> Cell:
    return cell(*path, form=lambda value: f"{value:{digits}}")


COLUMNS: dict[str, Cell] = {
    "data": cell("data"),
    "kernel": cell("kernel", form=lambda taps: f"{taps}x{taps}"),
    "form": cell("form"),
    "points": cell("points"),
    "amplification": _form(".2f", "amplification"),
    "rms error": _form(".2e", "rms_error"),
    "expected": _form(".2e", "expected"),
    "measured": lambda row: f"{row['rms_error'] / row['expected']:.2f}",
    "max error": _form(".1e", "max_error"),
    "rms / direct": _form(".2f", "rms_over_direct"),
}
LAYER_COLUMNS: dict[str, Cell] = {
    "layer": cell("layer"),
    "by": cell("by"),
    "form": cell("form"),
    "points": cell("points"),
    "rms error": cell("rms_errors", form=lambda errors: f"{np.mean(errors):.2e}"),
    "max error": cell("max_errors", form=lambda errors: f"{np.mean(errors):.1e}"),
    "rms / XNNPACK": _form(".2f", "rms_ratio"),
    "max / XNNPACK": _form(".2f", "max_ratio"),
    "worst": _form(".2f", "worst_ratio"),
}


def _options(parser: LineParser) -> None:
    add = parser.add_argument
    add("--parts", metavar="A,B", help=f"of {', '.join(PARTS)} [all]")
    add("--models", type=Path, nargs="+", metavar="FILE",
        help=f".tflite models [{', '.join(MODELS)} of models/make.py]")  # fmt: skip
    add("--seeds", type=at_least_one, default=5, help="images of each layer [%(default)s]")


def measure(options: argparse.Namespace) -> Iterator[Row]:
    """Rows of every part."""
    parts = chosen("part", options.parts, PARTS)
    if options.svg and "random" not in parts:
        raise LeanconvError("--svg shows random data: they must be among the parts")
    if "random" in parts:
        for taps in OUTPUTS:
            for channels in RANDOM_CHANNELS:
                yield from every_form(random_data(taps, channels, options.seeds))
    if "models" in parts:
        for data in trained_data(options.models or ensure(MODELS), options.seeds):
            yield from every_form(data)
    if "xnnpack" in parts:
        for layer in COMPILED_LAYERS.values():
            yield from compare(layer, options.seeds)


def report(rows: Rows) -> Iterator[str]:
    """A table of relative errors, and one of layers beside XNNPACK."""
    for key, columns in (("data", COLUMNS), ("layer", LAYER_COLUMNS)):
        if shown := [row for row in rows if key in row]:
            yield table(columns, shown)


# Relative errors


@dataclass(frozen=True)
class Data:
    """Images ``(H, W, C)``, padded, each with weights ``(M, r, r, C)``."""

    name: str
    pairs: Sequence[tuple[Array, Array]]


def every_form(data: Data) -> list[Row]:
    """Every form for the data's kernel; direct convolution first.

    Errors are relative to the root mean square of the output.
    """
    taps, channels = data.pairs[0][1].shape[2:]
    exact = [_convolve_exactly(*pair) for pair in data.pairs]
    output = _root_mean_square(exact)
    rows: list[Row] = []
    for form in forms(taps):
        errors = [form.convolve(*pair) - y for pair, y in zip(data.pairs, exact, strict=True)]
        rms = _root_mean_square(errors)
        rows.append(
            {
                "data": data.name,
                "kernel": taps,
                "channels": channels,
                "form": form.name,
                "points": form.points,
                "amplification": form.amplification,
                "rms_error": rms / output,
                "expected": form.expected(taps, channels),
                "max_error": max(float(np.abs(error).max()) for error in errors) / output,
                "rms_over_direct": rms / (rows[0]["rms_error"] * output) if rows else 1.0,
            }
        )
    return rows


def _root_mean_square(values: Sequence[NDArray[Any]]) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def _convolve_exactly(image: Array, weights: Array) -> NDArray[np.float64]:
    """VALID convolution in float64."""
    (height, width, channels), (out_channels, taps) = image.shape, weights.shape[:2]
    workload = Conv2dWorkload(
        in_height=height,
        in_width=width,
        in_channels=channels,
        out_channels=out_channels,
        kernel_height=taps,
        kernel_width=taps,
    )
    return _exact(workload, image, weights, np.zeros(out_channels, np.float32))


def _exact(
    workload: Conv2dWorkload, image: Array, weights: Array, bias: Array
) -> NDArray[np.float64]:
    rows = [block for _, block in blocks(workload, image[None], weights, bias)]
    return np.concatenate(rows, axis=1)[0]


def random_data(taps: int, channels: int, seeds: int) -> Data:
    """Normally distributed images and weights."""
    size = RANDOM_SIZE + taps - 1

    def pair(seed: int) -> tuple[Array, Array]:
        random = np.random.default_rng(seed)
        image = random.standard_normal((size, size, channels), np.float32)
        return image, random.standard_normal((RANDOM_OUTPUTS, taps, taps, channels), np.float32)

    return Data(f"random, {channels} channels", [pair(seed) for seed in range(seeds)])


def trained_data(models: Sequence[Path], seeds: int) -> Iterator[Data]:
    """Layers of trained models that the forms serve, on random images as after a ReLU."""
    for path in models:
        served = [layer for layer in tflite_model.read(path).layers if _is_served(layer.workload)]
        if not served:
            say(f"{path}: no float32 3x3 or 5x5 convolution of stride 1")
        for layer in served:
            assert layer.workload is not None, "it is served"
            weights = constant(path, layer.index, 1)
            images = [
                np.random.default_rng(seed).standard_normal(layer.workload.input_shape, np.float32)
                for seed in range(seeds)
            ]
            pairs = [(_padded(layer.workload, image[0].clip(0)), weights) for image in images]
            yield Data(f"{path.stem}, node {layer.index}", pairs)


def _is_served(workload: Conv2dWorkload | None) -> bool:
    if workload is None or workload.groups > 1:
        return False
    w = workload
    steps = (w.stride_height, w.stride_width, w.dilation_height, w.dilation_width)
    return steps == (1, 1, 1, 1) and w.kernel_height == w.kernel_width in OUTPUTS


def _padded(workload: Conv2dWorkload, image: Array) -> Array:
    w = workload
    return np.pad(image, ((w.pad_top, w.pad_bottom), (w.pad_left, w.pad_right), (0, 0)))


def picture(rows: Rows) -> str:
    """Every 3x3 form's error over the direct one's, a series for each data."""
    shown = [row for row in rows if row.get("kernel") == 3]
    series: dict[str, list[float | None]] = {row["data"]: [] for row in shown}
    for row in shown:
        series[row["data"]].append(row["rms_over_direct"])
    groups = list(dict.fromkeys((row["form"], row["points"]) for row in shown))
    alike = Counter(form for form, _ in groups)
    labels = [
        f"{form} {points.removeprefix('0, ')}" if alike[form] > 1 else form
        for form, points in groups
    ]
    title = "Rounding error of Winograd's 3x3 convolutions in float32"
    return dot_chart(title, "rms error, relative to direct convolution", labels, series)


# Beside XNNPACK


@dataclass(frozen=True)
class Runner:
    """One way to compute a layer: who does it, in which form, and how."""

    by: str
    form: Form
    run: Callable[[Array], Array]


def compare(layer: ConvLayer, seeds: int) -> list[Row]:
    """XNNPACK, our compiled kernels, and every candidate in numpy.

    Errors are of one image after another; ratios are of their means, and the worst ratio is the
    largest of any image's max error.
    """
    say(f"{layer}: compiling …")
    (graph,) = ensure([layer.name])
    workload, weights, bias = single_convolution(graph)

    def numpy(form: Form) -> Runner:
        def run(batch: Array) -> Array:
            total = form.convolve(_padded(workload, batch[0]), weights) + bias
            return np.maximum(total, 0)

        return Runner("numpy", form, run)

    with tempfile.TemporaryDirectory(prefix="leanconv-") as folder:
        peer = Session(graph, runtime("litert"))
        compile_delegate(graph, Path(folder), LEANCONV, algorithms=["winograd"])
        ours = open_runner("winograd", graph, 1, Path(folder)).session
        assert ours is not None, "it is LiteRT's"
        knobs = REGISTRY.get("winograd").default_knobs(workload, Simd.named("host"))
        form = Form(filtering(knobs["outputs"], 3), knobs["c_block"])
        runners = [
            Runner("XNNPACK", Form(), lambda batch: peer.run([batch])[0][0]),
            Runner("leanconv", form, lambda batch: ours.run([batch])[0][0]),
            *map(numpy, candidates()),
        ]
        images = [random_inputs(peer, seed)[0] for seed in range(seeds)]
        exact = [_exact(workload, batch[0], weights, bias) for batch in images]
        errors = [
            [runner.run(batch) - y for batch, y in zip(images, exact, strict=True)]
            for runner in runners
        ]
    rms = np.array([[_root_mean_square([e]) for e in of_images] for of_images in errors])
    largest = np.array([[np.abs(e).max() for e in of_images] for of_images in errors])
    return [
        {
            "layer": str(layer),
            "by": runner.by,
            "form": runner.form.name,
            "points": runner.form.points,
            "rms_errors": rms[i].tolist(),
            "max_errors": largest[i].tolist(),
            "rms_ratio": float(rms[i].mean() / rms[0].mean()),
            "max_ratio": float(largest[i].mean() / largest[0].mean()),
            "worst_ratio": float((largest[i] / largest[0]).max()),
        }
        for i, runner in enumerate(runners)
    ]


BENCHMARK = Benchmark(
    "winograd.error", __doc__, measure, report, _options, pictures={"winograd_error.svg": picture}
)
main = BENCHMARK.main

if __name__ == "__main__":
    sys.exit(main())
