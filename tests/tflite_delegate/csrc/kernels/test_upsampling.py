"""Transposed convolutions: the sub-pixel convolution, what is claimed, and what it computes."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given
from hypothesis import strategies as st

import tvmc
from schedules.errors import LeanconvError
from tests.support.reference import conv2d
from tests.support.tflite_schema import ACTIVATIONS, PADDINGS
from tests.support.tflite_writer import Conv, ModelWriter
from tests.tflite_delegate.conftest import InterpreterApi, random_inputs, read_report, run
from tflite_delegate.read import model as tflite_model
from tflite_delegate.read import upsampling
from tflite_delegate.read.upsampling import Axis


@dataclass(frozen=True)
class Transposed:
    """One TRANSPOSE_CONV over an input of ``size`` pixels and ``depth`` channels."""

    size: tuple[int, int]
    depth: int
    channels: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: str = "SAME"
    activation: str = "none"
    bias: bool = True
    half: bool = False
    batch: int = 1
    smaller: int = 0  # output pixels that are left out

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        return (self.batch, *self.size, self.depth)

    @property
    def output_shape(self) -> tuple[int, int, int, int]:
        same = self.padding == "SAME"
        sizes = (
            Axis.of(size, None, kernel, stride, same).size - self.smaller
            for size, kernel, stride in zip(self.size, self.kernel, self.stride, strict=True)
        )
        return (self.batch, *sizes, self.channels)  # type: ignore[return-value]

    def axes(self) -> tuple[Axis, Axis]:
        same, out = self.padding == "SAME", self.output_shape[1:3]
        rows, columns = (
            Axis.of(self.size[i], out[i], self.kernel[i], self.stride[i], same) for i in (0, 1)
        )
        return rows, columns

    def constants(self) -> tuple[np.ndarray, np.ndarray]:
        random = np.random.default_rng(self.channels)
        dtype = np.float16 if self.half else np.float32
        weights = random.uniform(-1, 1, (self.channels, *self.kernel, self.depth))
        return weights.astype(dtype), random.uniform(-1, 1, self.channels).astype(dtype)

    def add(self, writer: ModelWriter, x: int) -> int:
        """Write the node; its output."""
        weights, bias = self.constants()
        inputs = [
            writer.constant(np.array(self.output_shape, np.int32)), writer.constant(weights), x,
            *([writer.constant(bias)] if self.bias else []),
        ]  # fmt: skip
        options = schema.TransposeConvOptionsT()
        options.padding = PADDINGS[self.padding]
        options.strideH, options.strideW = self.stride
        options.fusedActivationFunction = ACTIVATIONS[self.activation]
        output = writer.tensor(self.output_shape)
        writer.operator(
            schema.BuiltinOperator.TRANSPOSE_CONV, inputs, [output], options,
            schema.BuiltinOptions.TransposeConvOptions,
        )  # fmt: skip
        return output

    def exact(self, x: np.ndarray) -> np.ndarray:
        """The definition in float64, without activation: every input pixel adds its taps."""
        weights, bias = (value.astype(np.float64) for value in self.constants())
        (batch, height, width, _), (s_h, s_w) = self.input_shape, self.stride
        _, out_height, out_width, channels = self.output_shape
        whole = np.zeros(
            (batch, (height - 1) * s_h + self.kernel[0] + s_h,
             (width - 1) * s_w + self.kernel[1] + s_w, channels)
        )  # fmt: skip
        for (h, w), (kh, kw) in itertools.product(
            np.ndindex(height, width), np.ndindex(*self.kernel)
        ):
            whole[:, h * s_h + kh, w * s_w + kw] += x[:, h, w] @ weights[:, kh, kw].T
        top, left = (0, 0) if self.padding == "VALID" else (
            max((size - 1) * stride + kernel - out, 0) // 2
            for size, stride, kernel, out in zip(
                self.size, self.stride, self.kernel, (out_height, out_width), strict=True
            )
        )  # fmt: skip
        shown = whole[:, top : top + out_height, left : left + out_width]
        return shown + (bias if self.bias else 0.0)


sizes = st.tuples(st.integers(1, 5), st.integers(1, 5))


@given(
    sizes, sizes, st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.sampled_from(["SAME", "VALID"]), st.integers(0, 1),
)  # fmt: skip
def test_the_sub_pixel_convolution_is_the_definition(
    size: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int], padding: str, less: int
) -> None:
    node = Transposed(size, 2, 3, kernel, stride, padding, smaller=less)
    try:
        rows, columns = node.axes()
    except LeanconvError:
        return
    x = np.random.default_rng(0).standard_normal(node.input_shape)
    weights, bias = (value.astype(np.float64) for value in node.constants())
    workload = upsampling.workload(node.input_shape, 3, rows, columns)
    repeated = np.tile(bias, rows.stride * columns.stride)
    spread, _ = conv2d(workload, x, upsampling.weights(weights, rows, columns), repeated)
    batch, height, width, _ = workload.output_shape
    image = spread.reshape(batch, height, width, rows.stride, columns.stride, 3)
    image = image.transpose(0, 1, 3, 2, 4, 5).reshape(
        batch, height * rows.stride, width * columns.stride, 3
    )
    shown = image[:, rows.crop :, columns.crop :][:, : rows.size, : columns.size]
    np.testing.assert_allclose(shown, node.exact(x), rtol=0, atol=1e-12)


#: Kernels below, at and above the stride, tails of channels, both paddings, outputs of odd sizes.
CASES = (
    Transposed((5, 7), 4, 6, (2, 2), (2, 2)),
    Transposed((5, 7), 4, 6, (3, 3), (2, 2)),
    Transposed((4, 6), 5, 3, (4, 4), (2, 2), bias=False),
    Transposed((4, 6), 5, 3, (3, 3), (2, 2), "VALID", "relu"),
    Transposed((6, 4), 3, 1, (5, 3), (3, 2), half=True),
    Transposed((3, 3), 17, 9, (1, 1), (2, 2), "SAME"),
    Transposed((3, 3), 7, 5, (3, 3), (1, 1), "SAME", "relu6"),
    Transposed((1, 9), 8, 4, (1, 4), (1, 2), "SAME", smaller=0),
    Transposed((5, 5), 6, 2, (3, 3), (2, 2), "SAME", smaller=1, half=True),
    Transposed((4, 5), 6, 3, (3, 2), (2, 3), "VALID", batch=2),
)


def model_of(cases: tuple[Transposed, ...]) -> bytes:
    writer = ModelWriter()
    inputs = [writer.tensor(case.input_shape) for case in cases]
    outputs = [case.add(writer, x) for case, x in zip(cases, inputs, strict=True)]
    return writer.finish(inputs, outputs)


def error_bound(case: Transposed) -> float:
    """Of a sum of products of values up to 1, with as many roundings, in two implementations."""
    terms = case.kernel[0] * case.kernel[1] * case.depth + 1
    return 2 * terms * terms * 2.0**-24


def clamp(values: np.ndarray, activation: str) -> np.ndarray:
    least, most = {"none": (None, None), "relu": (0, None), "relu6": (0, 6)}[activation]
    return values if least is None else np.clip(values, least, most)


@pytest.mark.parametrize("threads", [1, 2])
def test_it_is_what_tflite_computes(
    interpreter_api: InterpreterApi, build_delegate: Callable[..., Path], threads: int
) -> None:
    model = model_of(CASES)
    library = build_delegate(model)
    delegate = interpreter_api.load_delegate(str(library))
    ours = interpreter_api.open(model, delegate, num_threads=threads)
    theirs = interpreter_api.open(model)
    x = random_inputs(theirs)
    for case, value, y, expected in zip(CASES, x, run(ours, x), run(theirs, x), strict=True):
        exact = clamp(case.exact(value.astype(np.float64)), case.activation)
        assert np.abs(y - exact).max() <= error_bound(case)
        assert np.abs(y - expected).max() <= 2 * error_bound(case)
    report = read_report(library, delegate)
    assert len(report["layers"]) == len(CASES), "some node was left to TFLite"
    assert all(layer["calls"] == 1 for layer in report["layers"])


def test_memory_is_what_the_report_says(
    interpreter_api: InterpreterApi, build_delegate: Callable[..., Path], tmp_path: Path
) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(model_of(CASES[:3]))
    report = tvmc.compile(path, output=tmp_path / "lib.so")
    delegate = interpreter_api.load_delegate(str(tmp_path / "lib.so"))
    interpreter = interpreter_api.open(path.read_bytes(), delegate)
    run(interpreter, random_inputs(interpreter))
    entries = read_report(tmp_path / "lib.so", delegate)["layers"]
    promised = sorted(layer.workspace_bytes for layer in report.layers)
    assert sorted(entry["workspace_bytes"] for entry in entries) == promised
    staged = [layer.staged_bytes for layer in tflite_model.read(path).layers]
    assert min(staged) > 0 and all(a >= b for a, b in zip(promised, sorted(staged), strict=True))


def test_a_workspace_limit_leaves_it_to_tflite(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    writer = ModelWriter()
    x = writer.tensor(CASES[0].input_shape)
    y = CASES[0].add(writer, x)
    z, _ = writer.conv(y, CASES[0].output_shape, Conv(4))
    path.write_bytes(writer.finish([x], [z]))
    report: Any = tvmc.compile(path, output=tmp_path / "lib.so", workspace_limit=0)
    transposed, conv = report.layers
    assert conv.claimed and not transposed.claimed
    assert "--workspace-limit" in transposed.reason


def test_an_activation_behind_is_taken_in(
    interpreter_api: InterpreterApi, build_delegate: Callable[..., Path]
) -> None:
    writer = ModelWriter()
    case = CASES[1]
    x = writer.tensor(case.input_shape)
    relu = writer.node("RELU", [case.add(writer, x)], case.output_shape)
    total = writer.node("ADD", [relu, relu], case.output_shape)
    model = writer.finish([x], [total])
    library = build_delegate(model)
    delegate = interpreter_api.load_delegate(str(library))
    ours, theirs = interpreter_api.open(model, delegate), interpreter_api.open(model)
    values = random_inputs(theirs)
    (y,), (expected,) = run(ours, values), run(theirs, values)
    assert np.abs(y - expected).max() <= 4 * error_bound(case)
    assert "relu" in read_report(library, delegate)["layers"][0]["name"]


def test_the_custom_operator_of_mediapipe(
    interpreter_api: InterpreterApi, build_delegate: Callable[..., Path]
) -> None:
    """TFLite does not have it: with the delegate, such a model runs."""
    case = Transposed((5, 7), 4, 6, (2, 2), (2, 2))
    weights, bias = case.constants()
    writer = ModelWriter()
    x, y = writer.tensor(case.input_shape), writer.tensor(case.output_shape)
    writer.operator(
        schema.BuiltinOperator.CUSTOM, [x, writer.constant(weights), writer.constant(bias)], [y]
    )
    options = np.array([1, 2, 2], np.int32)  # SAME, strides
    writer.operators[-1].customOptions = np.frombuffer(options.tobytes(), np.uint8)
    model = writer.finish([x], [y], custom_code="Convolution2DTransposeBias")
    delegate = interpreter_api.load_delegate(str(build_delegate(model)))
    ours = interpreter_api.open(model, delegate)
    values = random_inputs(ours)
    (result,) = run(ours, values)
    assert np.abs(result - case.exact(values[0].astype(np.float64))).max() <= error_bound(case)


def test_a_module_computes_the_same(litert: InterpreterApi, tmp_path: Path) -> None:
    """In a module: another lowering, the same sub-pixel convolution."""
    path = tmp_path / "model.tflite"
    path.write_bytes(model_of(CASES))
    tvmc.compile(path, output=tmp_path / "module.so", output_format="so", jobs=1)
    interpreter = litert.open(path.read_bytes())
    values = random_inputs(interpreter)
    names = [details["name"] for details in interpreter.get_input_details()]
    result = tvmc.run(tmp_path / "module.so", inputs=dict(zip(names, values, strict=True)))
    expected = run(interpreter, values)
    for case, y, other in zip(CASES, result.outputs.values(), expected, strict=True):
        assert y.shape == other.shape
        assert np.abs(y - other).max() <= 2 * error_bound(case)
