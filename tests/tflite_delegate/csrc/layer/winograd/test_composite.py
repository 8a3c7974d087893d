"""Layers of Winograd's domain that are exported as built-in operators: claimed as one node each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from schedules.errors import LeanconvError
from scripts.models.make import quiet_tensorflow
from scripts.prune.convolution import Convolution
from scripts.prune.export import composite
from tests.support.tflite_writer import packed
from tests.support.winograd_domain import winograd_conv2d
from tests.tflite_delegate.conftest import InterpreterApi, read_report, run
from tflite_delegate.read import model as tflite_model

#: One behind the other: tiles that reach beyond the image, and a PAD; tiles that fit, and a ReLU;
#: and those that the depthwise layer pads itself.
LAYERS = (
    Convolution(4, 3, False, "SAME", "RELU"),
    Convolution(2, 3, True, "VALID", "RELU6"),
    Convolution(2, 5, False, "SAME", "NONE"),
)
INPUT = (2, 14, 10, 3)
FILTERS = (10, 6, 4)


def constants(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights of which half are zeros, and a bias."""
    random = np.random.default_rng(number)
    channels = (INPUT[3], *FILTERS)[number]
    weights = random.standard_normal((LAYERS[number].n ** 2, channels, FILTERS[number]), np.float32)
    weights *= random.random(weights.shape) < 0.5
    return weights, random.standard_normal(FILTERS[number], np.float32)


@pytest.fixture(scope="module")
def exported() -> bytes:
    """All layers as one model, which gives every output."""
    with quiet_tensorflow():
        import tensorflow as tf

        @tf.function(input_signature=[tf.TensorSpec(INPUT, tf.float32)])
        def network(x: Any) -> list[Any]:
            outputs = []
            for number, layer in enumerate(LAYERS):
                weights, bias = map(tf.constant, constants(number))
                x = composite(x, weights, bias, layer)
                outputs.append(x)
            return outputs

        functions = [network.get_concrete_function()]
        return bytes(tf.lite.TFLiteConverter.from_concrete_functions(functions).convert())


def image() -> np.ndarray:
    return np.random.default_rng(3).standard_normal(INPUT, np.float32)


def test_each_is_claimed_as_one_node(
    exported: bytes, interpreter_api: InterpreterApi, build_delegate: Callable[..., Path]
) -> None:
    library = build_delegate(exported)
    delegate = interpreter_api.load_delegate(str(library))
    ours = interpreter_api.open(exported, delegate)
    x = image()
    outputs = sorted(run(ours, [x]), key=lambda y: FILTERS.index(y.shape[3]))
    for number, y in enumerate(outputs):
        expected, bound = winograd_conv2d(x, *constants(number), LAYERS[number])
        assert y.shape == expected.shape
        assert (abs(y - expected) <= bound).all()
        x = y
    layers = read_report(library, delegate)["layers"]
    assert sorted(node for layer in layers for node in layer["nodes"]) == list(range(32))
    assert all("winograd" in layer["name"] for layer in layers)
    assert len(layers) == 3


def test_a_reader_of_the_file_sees_what_the_delegate_does(exported: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(exported)
    layers = tflite_model.read(path).layers
    assert [layer.reason for layer in layers] == [None] * 3
    assert [len(layer.nodes) for layer in layers] == [12, 10, 10]


def test_damaged_tensors_are_refused_in_one_line(exported: bytes, tmp_path: Path) -> None:
    """Also where constants have been read already."""
    path = tmp_path / "model.tflite"
    for tensor in range(len(schema.ModelT.InitFromPackedBuf(exported, 0).subgraphs[0].tensors)):
        model = schema.ModelT.InitFromPackedBuf(exported, 0)
        model.subgraphs[0].tensors[tensor].buffer = 999
        path.write_bytes(packed(model))
        with pytest.raises(LeanconvError, match="is damaged: tensor"):
            tflite_model.read(path)


Change = Callable[[Any], None]


def nodes_of(model: Any, name: str) -> list[Any]:
    code = getattr(schema.BuiltinOperator, name)
    codes = [entry.builtinCode for entry in model.operatorCodes]
    return [node for node in model.subgraphs[0].operators if codes[node.opcodeIndex] == code]


def other_constant(name: str, place: int) -> Change:
    """Of the first layer, one element is the next number."""

    def change(model: Any) -> None:
        tensor = model.subgraphs[0].tensors[nodes_of(model, name)[0].inputs[place]]
        values = np.frombuffer(bytes(model.buffers[tensor.buffer].data), np.float32).copy()
        values[-1] = np.nextafter(values[-1], np.float32(9))
        tensor.buffer = len(model.buffers)
        model.buffers.append(schema.BufferT())
        model.buffers[-1].data = values.view(np.uint8)

    return change


def read_outside(model: Any) -> None:
    """What is spread over the image is an output of the model."""
    graph = model.subgraphs[0]
    graph.outputs = [*graph.outputs, nodes_of(model, "DEPTH_TO_SPACE")[0].outputs[0]]


def read_twice(model: Any) -> None:
    """The second operand of an addition is what is cropped, not the bias."""
    addition = nodes_of(model, "ADD")[0]
    addition.inputs = [addition.inputs[0], addition.inputs[0]]


def other_options(model: Any) -> None:
    """The transformed output passes a ReLU."""
    nodes_of(model, "FULLY_CONNECTED")[0].builtinOptions.fusedActivationFunction = 1


def other_padding(model: Any) -> None:
    """What is padded in front and behind changes places, so that tiles begin elsewhere."""
    tensor = model.subgraphs[0].tensors[nodes_of(model, "PAD")[0].inputs[1]]
    values = np.frombuffer(bytes(model.buffers[tensor.buffer].data), np.int32).reshape(4, 2)
    model.buffers[tensor.buffer].data = np.ascontiguousarray(values[:, ::-1]).view(np.uint8).ravel()


@pytest.mark.parametrize(
    "change",
    [
        other_constant("DEPTHWISE_CONV_2D", 1),
        other_constant("DEPTHWISE_CONV_2D", 2),
        other_constant("FULLY_CONNECTED", 1),
        read_outside,
        read_twice,
        other_options,
        other_padding,
    ],
    ids=["image", "bias", "output", "outside", "twice", "options", "padding"],
)
def test_what_is_something_else_stays_with_tflite(
    exported: bytes,
    change: Change,
    litert: InterpreterApi,
    build_delegate: Callable[..., Path],
    tmp_path: Path,
) -> None:
    library = build_delegate(exported)
    delegate = litert.load_delegate(str(library))
    model = schema.ModelT.InitFromPackedBuf(exported, 0)
    change(model)
    changed = packed(model)
    path = tmp_path / "model.tflite"
    path.write_bytes(changed)
    kinds = [(layer.op, layer.kind) for layer in tflite_model.read(path).layers]
    expected = [("DEPTHWISE_CONV_2D", "depthwise"), ("FULLY_CONNECTED", "dense")]
    assert kinds == [*expected, *[("DEPTHWISE_CONV_2D", "conv")] * 2]
    ours = litert.open(changed, delegate)
    results = run(ours, [image()])
    claimed = [layer["node"] for layer in read_report(library, delegate)["layers"]]
    assert sorted(claimed) == [12, 22]
    reference = run(litert.open(changed), [image()])
    for y, wanted in zip(results, reference, strict=True):
        if y.shape[3] not in FILTERS[1:]:
            np.testing.assert_array_equal(y, wanted)
