"""Delegates that compute in float16, on the emulated board, against float64 and its bound."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from schedules.errors import LeanconvError
from schedules.target.simd import PRESETS
from scripts.board.board import Board
from scripts.board.count import invoke
from tests.support.reference import conv2d
from tests.support.tflite_writer import Conv, ModelWriter
from tflite_delegate.build import build

SHAPE = (2, 9, 11, 6)
#: One of each kind of kernel, of channels that fill no vector, and weights of both types.
CONVS = (
    Conv(21, (3, 3), (2, 2), activation="relu6"),
    Conv(6, depthwise=True, activation="relu"),
    Conv(17, (1, 1), weight_type="float16"),
    Conv(12, (3, 3), groups=2, padding="VALID"),
)


def fan(element_type: str = "float32") -> bytes:
    """A model of layers that all read its input; each is an output of it."""
    writer = ModelWriter()
    first = writer.tensor(SHAPE, element_type)
    outputs = [writer.conv(first, SHAPE, conv)[0] for conv in CONVS]
    for output in outputs:
        writer.tensors[output].type = writer.tensors[first].type
    return writer.finish([first], outputs)


def check(outputs: list[np.ndarray], x: np.ndarray) -> None:
    """Each output is within the bound of float16 arithmetic on an image of float16."""
    image = x.astype(np.float16)
    for conv, output in zip(CONVS, outputs, strict=True):
        workload = conv.workload(SHAPE)
        half = type(workload)(**{**vars(workload), "dtype": "float16"})
        weights, bias = conv.constants(SHAPE[-1])
        expected, bound = conv2d(half, image, weights, bias)
        assert (abs(output - expected) <= bound).all(), conv


def test_layers_of_float32_are_computed_in_float16(arm_board: Board, tmp_path: Path) -> None:
    model, library = tmp_path / "fan.tflite", tmp_path / "fan.so"
    model.write_bytes(fan())
    report = build(model, library, PRESETS["cortex-a76"], precision="fp16")
    assert [layer.precision for layer in report.layers] == ["float16"] * len(CONVS)
    assert all(layer.geometry.endswith("float16") for layer in report.layers)
    assert all(layer.expected_error and layer.expected_error > 1e-4 for layer in report.layers)
    x = np.random.default_rng(1).standard_normal(SHAPE, np.float32)
    run = invoke(arm_board, model, mode="builtin", cpu="cortex-a76", delegate=library, inputs=[x])
    check(run.outputs, x)
    told = {layer.index: layer.workspace_bytes for layer in report.layers}
    assert told == {layer["node"]: layer["workspace_bytes"] for layer in run.report["layers"]}
    assert all(layer["generic_calls"] == 0 for layer in run.report["layers"])
    json.dumps(report.to_dict())


@pytest.mark.parametrize("target", ["x86-64-v4", "cortex-a72"])
def test_other_processors_are_refused(target: str, tmp_path: Path) -> None:
    model = tmp_path / "fan.tflite"
    model.write_bytes(fan())
    with pytest.raises(LeanconvError, match=f"{target} has no arithmetic of float16"):
        build(model, tmp_path / "fan.so", PRESETS[target], precision="fp16")
