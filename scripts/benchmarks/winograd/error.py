"""The rounding error of Winograd convolutions in float32, form by form, beside the direct one's.

    python -m scripts.benchmarks.winograd.error
    python -m scripts.benchmarks.winograd.error --parts random,models --picture error.svg

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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tflite
from numpy.typing import NDArray

import tvmc
from schedules.algorithms import REGISTRY
from schedules.algorithms.winograd.cook_toom import filtering
from schedules.errors import LeanconvError
from schedules.files import check_writable, replace_atomically, write_json
from schedules.layer.workload import Conv2dWorkload
from schedules.target.simd import Simd
from scripts.benchmarks.harness.charts import dot_chart
from scripts.benchmarks.harness.exact import blocks
from scripts.benchmarks.harness.inference import random_inputs
from scripts.benchmarks.winograd.float32 import Array
from scripts.benchmarks.winograd.forms import OUTPUTS, Form, candidates, forms
from scripts.models.make import LAYERS, ConvLayer, ensure
from tflite_delegate.read import model as tflite_model
from tvmc.command import LineParser, at_least_one, exit_status
from tvmc.running.interpreter import Session, runtime
from tvmc.tables import format_table

PARTS = ("random", "models", "xnnpack")
#: Trained networks of models/make.py.
MODELS = ("resnet8_float", "mobilenet_96_float")
#: Channels of random images; rows, columns and channels of an output.
RANDOM_CHANNELS, RANDOM_SIZE, RANDOM_OUTPUTS = (16, 64, 256), 24, 16
#: The 3x3 layers that every speed figure is quoted for.
COMPILED_LAYERS = {layer.name: layer for layer in LAYERS if (layer.kernel, layer.stride) == (3, 1)}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command: see the top of this file."""
    parser = LineParser(prog="benchmarks.winograd.error", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--parts", metavar="A,B", help=f"of {', '.join(PARTS)} [all]")
    parser.add_argument(
        "--models",
        type=Path,
        nargs="+",
        metavar="FILE",
        help=f".tflite models [{', '.join(MODELS)} of models/make.py]",
    )
    parser.add_argument(
        "--seeds", type=at_least_one, default=5, help="images of each layer [%(default)s]"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows as JSON")
    parser.add_argument(
        "--picture", type=Path, metavar="FILE", help="write 3x3 errors over the direct one's as SVG"
    )
    options = parser.parse_args(arguments)
    return exit_status("benchmarks.winograd.error", lambda: measure_all(options))


def measure_all(options: argparse.Namespace) -> None:
    """Measure every part, print the tables, write the files."""
    parts = options.parts.split(",") if options.parts else PARTS
    for part in parts:
        if part not in PARTS:
            raise LeanconvError(f"unknown part {part!r}: one of {', '.join(PARTS)}")
    if options.picture and "random" not in parts:
        raise LeanconvError("--picture shows random data: they must be among the parts")
    for path in (options.json, options.picture):
        if path:
            check_writable(path)
    data: list[Data] = []
    if "random" in parts:
        data += [
            random_data(taps, channels, options.seeds)
            for taps in OUTPUTS
            for channels in RANDOM_CHANNELS
        ]
    if "models" in parts:
        data += list(trained_data(options.models or ensure(MODELS), options.seeds))
    rows = [row for one in data for row in measure(one)]
    if rows:
        print(format_table(Row.HEADER, [row.columns() for row in rows]))
    layers: list[LayerRow] = []
    if "xnnpack" in parts:
        for layer in COMPILED_LAYERS.values():
            layers += compare(layer, options.seeds)
        print(format_table(LayerRow.HEADER, [row.columns() for row in layers]))
    if options.json:
        write_json(options.json, {"data": _plain(rows), "layers": _plain(layers)})
    if options.picture:
        replace_atomically(options.picture, picture(rows).encode())


def _plain(rows: Sequence[Row] | Sequence[LayerRow]) -> list[dict[str, Any]]:
    return [asdict(row) for row in rows]


# Relative errors


@dataclass(frozen=True)
class Data:
    """Images ``(H, W, C)``, padded, each with weights ``(M, r, r, C)``."""

    name: str
    pairs: Sequence[tuple[Array, Array]]


@dataclass(frozen=True)
class Row:
    """One form on some data; errors are relative to the root mean square of the output."""

    data: str
    kernel: int
    channels: int
    form: str
    points: str
    amplification: float
    rms_error: float
    expected: float
    max_error: float
    rms_over_direct: float

    HEADER: ClassVar = (
        "data", "kernel", "form", "points", "amplification", "rms error", "expected", "measured",
        "max error", "rms / direct",
    )  # fmt: skip

    def columns(self) -> list[str]:
        """Text for the columns of ``HEADER``."""
        return [
            self.data,
            f"{self.kernel}x{self.kernel}",
            self.form,
            self.points,
            f"{self.amplification:.2f}",
            f"{self.rms_error:.2e}",
            f"{self.expected:.2e}",
            f"{self.rms_error / self.expected:.2f}",
            f"{self.max_error:.1e}",
            f"{self.rms_over_direct:.2f}",
        ]


def measure(data: Data) -> list[Row]:
    """Every form for the data's kernel; direct convolution first."""
    taps, channels = data.pairs[0][1].shape[2:]
    exact = [_convolve_exactly(*pair) for pair in data.pairs]
    output = _root_mean_square(exact)
    rows: list[Row] = []
    for form in forms(taps):
        errors = [form.convolve(*pair) - y for pair, y in zip(data.pairs, exact, strict=True)]
        rms = _root_mean_square(errors)
        rows.append(
            Row(
                data=data.name,
                kernel=taps,
                channels=channels,
                form=form.name,
                points=form.points,
                amplification=form.amplification,
                rms_error=rms / output,
                expected=form.expected(taps, channels),
                max_error=max(float(np.abs(error).max()) for error in errors) / output,
                rms_over_direct=rms / (rows[0].rms_error * output) if rows else 1.0,
            )
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
            _say(f"{path}: no float32 3x3 or 5x5 convolution of stride 1")
        for layer in served:
            assert layer.workload is not None, "it is served"
            weights = _constant(path, layer.index, 1)
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


def _constant(path: Path, operator: int, position: int) -> Array:
    """A float32 constant among the inputs of an operator of a model that was read before."""
    model = tflite.Model.GetRootAs(path.read_bytes(), 0)
    graph = model.Subgraphs(0)
    tensor = graph.Tensors(graph.Operators(operator).Inputs(position))
    if tensor.Type() != tflite.TensorType.FLOAT32:
        raise LeanconvError(f"{path}, node {operator}: weights of float32 are needed")
    values: Array = model.Buffers(tensor.Buffer()).DataAsNumpy().view(np.float32)
    return values.reshape(tensor.ShapeAsNumpy())


def _padded(workload: Conv2dWorkload, image: Array) -> Array:
    w = workload
    return np.pad(image, ((w.pad_top, w.pad_bottom), (w.pad_left, w.pad_right), (0, 0)))


def picture(rows: Sequence[Row]) -> str:
    """Every 3x3 form's error over the direct one's, a series for each data."""
    shown = [row for row in rows if row.kernel == 3]
    series: dict[str, list[float | None]] = {row.data: [] for row in shown}
    for row in shown:
        series[row.data].append(row.rms_over_direct)
    groups = list(dict.fromkeys((row.form, row.points) for row in shown))
    alike = Counter(form for form, _ in groups)
    labels = [
        f"{form} {points.removeprefix('0, ')}" if alike[form] > 1 else form
        for form, points in groups
    ]
    title = "Rounding error of Winograd's 3x3 convolutions in float32"
    return dot_chart(title, "rms error, relative to direct convolution", labels, series)


# Beside XNNPACK


@dataclass(frozen=True)
class LayerRow:
    """One form on one layer: errors of one image after another, and their ratios to XNNPACK's.

    The ratios are of the means, and ``worst_ratio`` is the largest of any image's max error.
    """

    layer: str
    by: str
    form: str
    points: str
    rms_errors: list[float]
    max_errors: list[float]
    rms_ratio: float
    max_ratio: float
    worst_ratio: float

    HEADER: ClassVar = (
        "layer", "by", "form", "points", "rms error", "max error", "rms / XNNPACK",
        "max / XNNPACK", "worst",
    )  # fmt: skip

    def columns(self) -> list[str]:
        """Text for the columns of ``HEADER``."""
        return [
            self.layer,
            self.by,
            self.form,
            self.points,
            f"{np.mean(self.rms_errors):.2e}",
            f"{np.mean(self.max_errors):.1e}",
            f"{self.rms_ratio:.2f}",
            f"{self.max_ratio:.2f}",
            f"{self.worst_ratio:.2f}",
        ]


@dataclass(frozen=True)
class Runner:
    """One way to compute a layer: who does it, in which form, and how."""

    by: str
    form: Form
    run: Callable[[Array], Array]


def compare(layer: ConvLayer, seeds: int) -> list[LayerRow]:
    """XNNPACK, our compiled kernels, and every candidate in numpy."""
    _say(f"{layer}: compiling …")
    (graph,) = ensure([layer.name])
    (found,) = tflite_model.read(graph).layers
    workload = found.workload
    assert workload is not None, "float32 convolutions are all that is made here"
    weights, bias = (_constant(graph, found.index, position) for position in (1, 2))

    def numpy(form: Form) -> Runner:
        def run(batch: Array) -> Array:
            total = form.convolve(_padded(workload, batch[0]), weights) + bias
            return np.maximum(total, 0)

        return Runner("numpy", form, run)

    with tempfile.TemporaryDirectory(prefix="leanconv-") as folder:
        peer = Session(graph, runtime("litert"))
        ours = _compiled(graph, Path(folder) / "layer.so")
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
        LayerRow(
            layer=str(layer),
            by=runner.by,
            form=runner.form.name,
            points=runner.form.points,
            rms_errors=rms[i].tolist(),
            max_errors=largest[i].tolist(),
            rms_ratio=rms[i].mean() / rms[0].mean(),
            max_ratio=largest[i].mean() / largest[0].mean(),
            worst_ratio=(largest[i] / largest[0]).max(),
        )
        for i, runner in enumerate(runners)
    ]


def _compiled(graph: Path, library: Path) -> Session:
    """A session in which our Winograd kernels run the model's one layer."""
    tvmc.compile(graph, output=library, algorithms=["winograd"])
    options = {"algorithm": "winograd"}
    session = Session(graph, runtime("litert"), delegate=library, delegate_options=options)
    report = session.report()
    if report is None or [layer["algorithm"] for layer in report["layers"]] != ["winograd"]:
        raise LeanconvError(f"the delegate does not run winograd on {graph.stem}")
    return session


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
