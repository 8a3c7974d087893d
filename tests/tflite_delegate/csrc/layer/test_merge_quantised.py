"""Layers of int8 that take in a PAD in front: it pads with the code that stands for zero."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.support.operator_cases import fused
from tests.support.tflite_schema import Quantization
from tests.support.tflite_writer import ModelWriter
from tests.tflite_delegate.conftest import InterpreterApi, read_report, run
from tflite_delegate.read import model as tflite_model

SHAPE, CODES = (1, 9, 10, 12), Quantization(0.05, -9)
PADS = np.array([(0, 0), (0, 1), (2, 1), (0, 0)], np.int32)


def padded_layer(writer: ModelWriter, name: str, between: Quantization) -> tuple[int, int]:
    """A PAD and a layer of stride 2: input and output."""
    channels = SHAPE[3]
    x = writer.tensor(SHAPE, "int8", quantization=CODES)
    padded = writer.tensor((1, 10, 13, channels), "int8", quantization=between)
    writer.add("PAD", [x, writer.constant(PADS)], [padded])
    axis = 3 if name == "DEPTHWISE_CONV_2D" else 0
    shape = (1, 3, 3, channels) if axis else (channels, 3, 3, channels)
    rng = np.random.default_rng(axis)
    weights = rng.integers(-127, 128, shape).astype(np.int8)
    scales = rng.uniform(0.005, 0.02, channels).tolist()
    bias = rng.integers(-3000, 3000, channels).astype(np.int32)
    y = writer.tensor((1, 4, 6, channels), "int8", quantization=Quantization(1.0, 4))
    window = {"padding": 1, "strideH": 2, "strideW": 2}
    window |= {"depthMultiplier": 1} if axis else {}
    constants = [writer.constant(weights, Quantization(scales, 0, axis)), writer.constant(bias)]
    writer.add(name, [padded, *constants], [y], **window, **fused("none"))
    return x, y


def test_pads_with_the_code_of_zero(
    litert: InterpreterApi, build_delegate: Callable[..., Path]
) -> None:
    writer = ModelWriter()
    names = ("CONV_2D", "DEPTHWISE_CONV_2D")
    ends = [padded_layer(writer, name, CODES) for name in names]
    content = writer.finish([x for x, _ in ends], [y for _, y in ends])
    library = build_delegate(content)
    delegate = litert.load_delegate(str(library))
    rng = np.random.default_rng(5)
    inputs = [rng.integers(-128, 128, SHAPE).astype(np.int8) for _ in ends]
    expected = run(litert.open(content, xnnpack=True), inputs)
    interpreter = litert.open(content, delegate)
    for found, y in zip(run(interpreter, inputs), expected, strict=True):
        np.testing.assert_array_equal(found, y)
    report = read_report(library, delegate)
    assert [len(entry["nodes"]) for entry in report["layers"]] == [2, 2]


def test_codes_of_other_numbers_are_not_merged(tmp_path: Path) -> None:
    writer = ModelWriter()
    x, y = padded_layer(writer, "CONV_2D", Quantization(0.05, 3))
    path = tmp_path / "model.tflite"
    path.write_bytes(writer.finish([x], [y]))
    (layer,) = tflite_model.read(path).layers
    assert layer.nodes == (1,)
