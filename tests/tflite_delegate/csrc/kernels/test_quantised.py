"""Layers of int8 in the delegate: to the last bit what LiteRT computes with XNNPACK."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schedules.target.simd import PRESETS, Simd
from tests.support.operator_cases import fused
from tests.support.operator_models import Case, Constant, Tensor, inputs_of, model
from tests.support.tflite_schema import Quantization
from tests.tflite_delegate.conftest import InterpreterApi, read_report, run

SAME, VALID = 0, 1


def image(*shape: int, scale: float = 0.05, zero: int = 3) -> Tensor:
    return Tensor(shape, "int8", -128, 128, Quantization(scale, zero))


def layer(
    operator: str,
    shape: tuple[int, ...],
    weights: tuple[int, ...],
    activation: str = "none",
    *,
    least: int = -127,
    zeros: tuple[int, int] = (3, -7),
    per_channel: bool = True,
    bias: bool = True,
    options: Mapping[str, Any],
) -> Case:
    """One layer of random numbers whose output fills its range."""
    rng = np.random.default_rng(len(shape) + sum(shape) + sum(weights))
    axis = 3 if operator == "DEPTHWISE_CONV_2D" else 0
    channels = weights[axis]
    scales = rng.uniform(0.005, 0.02, channels if per_channel else 1).astype(np.float32)
    stored = rng.integers(least, 128, weights).astype(np.int8)
    biases = rng.integers(-5000, 5000, channels).astype(np.int32)
    terms = np.prod(weights) / channels
    inputs: list[Any] = [
        image(*shape, zero=zeros[0]),
        Constant(stored, Quantization(scales.tolist(), 0, axis)),
    ]
    if bias:
        inputs.append(Constant(biases, Quantization((0.05 * scales).tolist(), 0)))
    target = image(scale=float(0.05 * 0.012 * 73 * 73 * np.sqrt(terms) / 50), zero=zeros[1])
    return Case(operator, inputs, {**options, **fused(activation)}, [target])


def window(padding: int = SAME, stride: int = 1, dilation: int = 1) -> dict[str, int]:
    return {
        "padding": padding, "strideH": stride, "strideW": stride, "dilationHFactor": dilation,
        "dilationWFactor": dilation,
    }  # fmt: skip


def cases() -> Iterator[Case]:
    same, units = window(), {"keepNumDims": False}
    yield layer("CONV_2D", (1, 9, 11, 16), (24, 3, 3, 16), "relu6", options=same)
    first = window(SAME, 2)
    yield layer("CONV_2D", (2, 10, 9, 3), (16, 3, 3, 3), "relu", zeros=(-128, -128), options=first)
    yield layer("CONV_2D", (1, 8, 8, 13), (7, 1, 1, 13), zeros=(127, 127), options=same)
    dilated = window(VALID, 1, 2)
    yield layer("CONV_2D", (1, 9, 9, 8), (12, 3, 3, 8), per_channel=False, options=dilated)
    # Sums of pairs of products with -128 pass 16 bits.
    yield layer("CONV_2D", (1, 5, 5, 32), (8, 2, 2, 32), "relu_n1_to_1", least=-128, options=same)
    once, twice = {"depthMultiplier": 1, **same}, {"depthMultiplier": 2, **first}
    yield layer("DEPTHWISE_CONV_2D", (1, 9, 8, 24), (1, 3, 3, 24), "relu6", options=once)
    yield layer("DEPTHWISE_CONV_2D", (1, 9, 9, 5), (1, 3, 3, 10), zeros=(-128, 9), options=twice)
    # Of one channel it is an ordinary convolution, whose weights lie as a depthwise one's do.
    often = {"depthMultiplier": 6, **first}
    yield layer("DEPTHWISE_CONV_2D", (1, 9, 8, 1), (1, 5, 3, 6), "relu", options=often)
    yield layer("FULLY_CONNECTED", (3, 37), (10, 37), options=units)
    yield layer("FULLY_CONNECTED", (1, 64), (11, 64), "relu", bias=False, options=units)


@pytest.fixture(scope="module")
def content(litert: InterpreterApi) -> bytes:
    return model(list(cases()), litert.open)


def check(
    litert: InterpreterApi, library: Path, content: bytes, inputs: list[np.ndarray]
) -> dict[str, Any]:
    """The delegate's report of a run whose outputs are XNNPACK's."""
    delegate = litert.load_delegate(str(library))
    interpreter = litert.open(content, delegate)
    found = run(interpreter, inputs)
    expected = run(litert.open(content, xnnpack=True), inputs)
    wrong = [
        (number, np.count_nonzero(y != y_litert), y.size)
        for number, (y, y_litert) in enumerate(zip(found, expected, strict=True))
        if not np.array_equal(y, y_litert)
    ]
    assert not wrong
    return read_report(library, delegate)


@pytest.mark.parametrize("target", ["host", "x86-64-v3"])
def test_layers_are_exact(
    litert: InterpreterApi, build_delegate: Callable[..., Path], content: bytes, target: str
) -> None:
    simd = PRESETS.get(target)
    if simd is not None and not simd.features <= Simd.named("host").features:
        return  # another kind of processor
    library = build_delegate(content, target=target)
    report = check(litert, library, content, inputs_of(list(cases())))
    assert [entry["calls"] for entry in report["layers"]] == [1] * len(list(cases()))


def test_shapes_without_a_kernel_are_exact(
    litert: InterpreterApi, build_delegate: Callable[..., Path], content: bytes
) -> None:
    """After the inputs are resized the plain C kernel runs."""
    library = build_delegate(content)
    delegate = litert.load_delegate(str(library))
    rng = np.random.default_rng(2)
    inputs = [
        rng.integers(-128, 128, (shape[0], *(n + 3 for n in shape[1:-1]), shape[-1])).astype(
            np.int8
        )
        for shape in (value.shape for value in inputs_of(list(cases())))
    ]
    outputs = []
    for interpreter in (litert.open(content, delegate), litert.open(content, xnnpack=True)):
        for detail, value in zip(interpreter.get_input_details(), inputs, strict=True):
            interpreter.resize_tensor_input(detail["index"], value.shape)
        outputs.append(run(interpreter, inputs))
    for found, expected in zip(*outputs, strict=True):
        assert np.array_equal(found, expected)
