"""Layers with weights in Winograd's domain: claimed, packed, and computed for every shape."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import flexbuffers  # type: ignore[import-untyped]

from schedules.layer.workload import Conv2dWorkload
from scripts.prune.export import CUSTOM_NAME
from tests.support.tflite_writer import ModelWriter
from tests.support.winograd_weights import layer_of, pruned_at_random, winograd_layer
from tests.tflite_delegate.conftest import InterpreterApi, read_report, run
from tflite_delegate.read import model as tflite_model

#: (H, W, C, M, r, m, ReLU in the domain, part of zeros, block), each with an input of its own.
LAYERS = [
    (14, 13, 12, 40, 3, 4, False, 0.8, 16),
    (9, 8, 7, 20, 3, 2, True, 0.7, 8),
    (11, 10, 5, 9, 5, 4, False, 0.0, 8),
]


class Layer:
    """One of :data:`LAYERS` with its constants."""

    def __init__(self, h: int, w: int, c: int, m: int, r: int, outputs: int, *more: Any) -> None:
        relu, zeros, block = more
        self.weights = pruned_at_random(m, outputs + r - 1, c, zeros, block)
        self.bias = np.random.default_rng(7).standard_normal(m).astype(np.float32)
        self.damaged: np.ndarray | None = None
        self.workload = layer_of(self.weights, h, w, r, relu, activation="relu")

    @property
    def stored(self) -> np.ndarray:
        """(n^2, C, M)."""
        weights = self.weights.transpose(1, 2, 3, 0)
        return weights.reshape(-1, *weights.shape[2:])

    def options(self, **other: Any) -> np.ndarray:
        domain = self.workload.domain
        assert domain is not None
        if self.damaged is not None:
            return self.damaged
        values: dict[str, Any] = {"m": domain.outputs, "r": self.workload.kernel_height}
        values |= {"winograd_relu": int(domain.relu), "padding": "SAME", "activation": "RELU"}
        return np.frombuffer(flexbuffers.Dumps(values | other), np.uint8)

    def check(self, x: np.ndarray, y: np.ndarray, workload: Conv2dWorkload) -> None:
        expected, bound = winograd_layer(workload, x, self.weights, self.bias)
        assert y.shape == expected.shape
        assert (abs(y - expected) <= bound).all()


def model_of(layers: list[Layer], **options: Any) -> bytes:
    writer, inputs, outputs = ModelWriter(), [], []
    for layer in layers:
        x, y = writer.tensor(layer.workload.input_shape), writer.tensor(layer.workload.output_shape)
        constants = [writer.constant(layer.stored), writer.constant(layer.bias)]
        writer.operator(schema.BuiltinOperator.CUSTOM, [x, *constants], [y])
        writer.operators[-1].customOptions = layer.options(**options)
        inputs.append(x)
        outputs.append(y)
    return writer.finish(inputs, outputs, custom_code=CUSTOM_NAME)


@pytest.fixture(scope="module")
def layers() -> list[Layer]:
    return [Layer(*layer) for layer in LAYERS]


def test_layers_are_computed_as_defined(
    layers: list[Layer], interpreter_api: InterpreterApi, build_delegate: Callable[..., Path]
) -> None:
    """By compiled kernels, and in plain C after a resize."""
    model = model_of(layers)
    library = build_delegate(model)
    delegate = interpreter_api.load_delegate(str(library))
    ours = interpreter_api.open(model, delegate)
    random = np.random.default_rng(1)
    for resized in (False, True):
        workloads = [layer.workload for layer in layers]
        if resized:
            workloads = [taller(workload) for workload in workloads]
            for details, workload in zip(ours.get_input_details(), workloads, strict=True):
                ours.resize_tensor_input(details["index"], workload.input_shape)
            ours.allocate_tensors()
        values = [random.standard_normal(w.input_shape, np.float32) for w in workloads]
        results = run(ours, values)
        names = [entry["name"] for entry in read_report(library, delegate)["layers"]]
        kinds = (
            ["sparse_winograd", "sparse_winograd", "winograd"] if not resized else ["generic"] * 3
        )
        assert [name.split()[0] for name in names] == [f"leanconv/{kind}" for kind in kinds]
        for layer, x, y, workload in zip(layers, values, results, workloads, strict=True):
            layer.check(x, y, workload)


def taller(workload: Conv2dWorkload) -> Conv2dWorkload:
    return replace(workload, in_height=workload.in_height + 3)


def test_more_blocks_than_a_kernel_takes_are_not_claimed(
    layers: list[Layer],
    interpreter_api: InterpreterApi,
    build_delegate: Callable[..., Path],
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Another model of the same geometry, without zeros."""
    delegate = interpreter_api.load_delegate(str(build_delegate(model_of(layers))))
    dense = Layer(*LAYERS[0][:-2], 0.0, 16)
    with pytest.raises(RuntimeError, match=CUSTOM_NAME):
        interpreter_api.open(model_of([dense]), delegate).allocate_tensors()
    assert "no kernel" in capfd.readouterr().err


def test_damaged_options_are_not_claimed(
    layers: list[Layer],
    interpreter_api: InterpreterApi,
    build_delegate: Callable[..., Path],
    tmp_path: Path,
) -> None:
    """Nor read outside of them; tvmc says why in one line."""
    delegate = interpreter_api.load_delegate(str(build_delegate(model_of(layers))))
    whole = layers[0].options()
    damaged = [whole[:size] for size in (0, 1, 2, 3, 20, len(whole) - 1)]
    damaged += [np.where(np.arange(len(whole)) == i, 255, whole) for i in range(-14, 0)]
    damaged += [layers[0].options(m=2**63 - 1), layers[0].options(r=2**63 - 1)]
    vector = flexbuffers.Type.VECTOR << 2
    damaged.append(np.array([1, 0, vector, 2, vector, 1], np.uint8))  # contains itself
    path = tmp_path / "model.tflite"
    for options in damaged:
        layers[0].damaged = options.astype(np.uint8)
        model = model_of(layers[:1])
        path.write_bytes(model)
        (read,) = tflite_model.read(path).layers
        if read.workload == layers[0].workload:
            continue
        with pytest.raises(RuntimeError, match=CUSTOM_NAME):
            interpreter_api.open(model, delegate).allocate_tensors()
    layers[0].damaged = None


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"padding": "BOTH"}, "unknown padding"),
        ({"activation": "TANH"}, "fused activation is not supported"),
        ({"m": 3}, "no known form"),
        ({"m": "4"}, "options are missing"),
        ({"r": 5}, "weights of 36 points"),
    ],
)
def test_options_of_other_layers_are_refused(
    layers: list[Layer], options: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(model_of(layers[:1], **options))
    (layer,) = tflite_model.read(path).layers
    assert layer.reason is not None
    assert reason in layer.reason


def test_no_options_are_refused(tmp_path: Path) -> None:
    layer = Layer(*LAYERS[0])
    layer.options = lambda **_: None  # type: ignore[method-assign,assignment]
    path = tmp_path / "model.tflite"
    path.write_bytes(model_of([layer]))
    (read,) = tflite_model.read(path).layers
    assert read.reason == "malformed node: no options"
