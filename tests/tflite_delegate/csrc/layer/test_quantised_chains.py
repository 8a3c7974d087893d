"""Layers of int8 one behind the other in one kernel: to the last bit what XNNPACK computes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.support.operator_cases import fused
from tests.support.tflite_schema import Quantization
from tests.support.tflite_writer import ModelWriter
from tests.tflite_delegate.conftest import InterpreterApi, read_report, run
from tests.tflite_delegate.csrc.kernels.test_quantised import layer, window

SHAPE = (1, 14, 13, 8)


def block(writer: ModelWriter, has_residual: bool) -> tuple[int, int]:
    """Expansion, depthwise and projection, perhaps a sum with the input: input and output."""
    same, scale = window(), 0.05
    image = SHAPE[:3]
    x = y = writer.tensor(SHAPE, "int8", quantization=Quantization(scale, 3))
    for case in (
        layer("CONV_2D", SHAPE, (32, 1, 1, 8), "relu6", options=same),
        layer(
            "DEPTHWISE_CONV_2D", (*image, 32), (1, 3, 3, 32), "relu",
            options={"depthMultiplier": 1, **same},
        ),
        layer("CONV_2D", (*image, 32), (8 if has_residual else 12, 1, 1, 32), options=same),
    ):  # fmt: skip
        _, weights, bias = case.inputs
        constants = [writer.constant(part.codes, part.quantization) for part in (weights, bias)]
        # What a layer's output would be scaled by for an input of scale 0.05.
        codes = case.outputs[0].quantization
        assert codes is not None
        scale *= float(np.ravel(codes.scale)[0]) / 0.05
        channels = len(bias.codes)
        following = writer.tensor((*image, channels), "int8", quantization=Quantization(scale, -7))
        writer.add(case.operator, [y, *constants], [following], **case.options)
        y = following
    if has_residual:
        total = writer.tensor(SHAPE, "int8", quantization=Quantization(0.6 * scale, 9))
        writer.add("ADD", [y, x], [total], **fused("none"))
        y = total
    return x, y


def test_blocks_are_exact(litert: InterpreterApi, build_delegate: Callable[..., Path]) -> None:
    writer = ModelWriter()
    inputs, outputs = zip(
        *(block(writer, has_residual) for has_residual in (False, True)), strict=True
    )
    content = writer.finish(list(inputs), list(outputs))
    library = build_delegate(content, algorithms=("fused_block",))
    delegate = litert.load_delegate(str(library))
    ours, theirs = litert.open(content, delegate), litert.open(content, xnnpack=True)
    rng = np.random.default_rng(1)
    # After the second input the plain C kernel runs, layer by layer.
    for shape in (SHAPE, (1, 9, 10, 8)):
        x = rng.integers(-128, 128, shape).astype(np.int8)
        images = [x, x[:, ::-1]]
        for interpreter in (ours, theirs):
            for detail in interpreter.get_input_details():
                interpreter.resize_tensor_input(detail["index"], shape)
        for found, expected in zip(run(ours, images), run(theirs, images), strict=True):
            np.testing.assert_array_equal(found, expected)
            assert len(np.unique(found)) > 50
    assert [len(entry["nodes"]) for entry in read_report(library, delegate)["layers"]] == [3, 4]
