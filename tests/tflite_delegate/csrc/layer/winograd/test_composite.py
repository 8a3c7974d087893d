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

#: One behind the other: tiles that reach beyond the image, and a PAD; tiles that fit, a ReLU, and
#: one channel, for which a TRANSPOSE is missing; and those that the depthwise layer pads itself,
#: from one channel.
LAYERS = (
    Convolution(4, 3, False, "SAME", "RELU"),
    Convolution(2, 3, True, "VALID", "RELU6"),
    Convolution(2, 5, False, "SAME", "NONE"),
)
INPUT = (2, 14, 10, 3)
FILTERS = (10, 1, 4)


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
    assert sorted(node for layer in layers for node in layer["nodes"]) == list(range(31))
    assert all("winograd" in layer["name"] for layer in layers)
    assert len(layers) == 3


def test_a_reader_of_the_file_sees_what_the_delegate_does(exported: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(exported)
    layers = tflite_model.read(path).layers
    assert [layer.reason for layer in layers] == [None] * 3
    assert [len(layer.nodes) for layer in layers] == [12, 9, 10]


def converted(layer: Convolution, shape: tuple[int, ...], filters: int, half: bool) -> bytes:
    """One layer, its constants perhaps of float16; what it is of is :func:`drawn`."""
    with quiet_tensorflow():
        import tensorflow as tf

        @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32)])
        def network(x: Any) -> Any:
            weights, bias = map(tf.constant, drawn(layer, shape[3], filters))
            return composite(x, weights, bias, layer)

        functions = [network.get_concrete_function()]
        converter = tf.lite.TFLiteConverter.from_concrete_functions(functions)
        if half:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.target_spec.supported_types = [tf.float16]
        return bytes(converter.convert())


def drawn(layer: Convolution, channels: int, filters: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights and bias, numbers of float16."""
    random = np.random.default_rng(5)
    weights = random.integers(-64, 64, (layer.n**2, channels, filters)).astype(np.float32)
    return weights / 64, random.standard_normal(filters).astype(np.float16).astype(np.float32)


def test_rounded_transforms_are_computed_as_they_are(
    litert: InterpreterApi, build_delegate: Callable[..., Path], tmp_path: Path
) -> None:
    """Of float16, transforms are none of Winograd's: each node is computed by itself."""
    layer, shape = LAYERS[0], (1, 8, 8, 4)
    model = converted(layer, shape, 8, half=True)
    path = tmp_path / "half.tflite"
    path.write_bytes(model)
    assert [found.kind for found in tflite_model.read(path).layers] == ["depthwise", "dense"]
    ours = litert.open(model, litert.load_delegate(str(build_delegate(model))))
    x = np.random.default_rng(3).standard_normal(shape, np.float32)
    (y,), (wanted,) = run(ours, [x]), run(litert.open(model), [x])
    _, bound = winograd_conv2d(x, *drawn(layer, 4, 8), layer)
    # Both are as near to what those transforms make, which amplify by a thousandth more at most.
    assert (abs(y - wanted) <= 2.01 * bound).all()


@pytest.mark.parametrize(
    "shape, filters, kinds",
    [
        ((1, 8, 8, 1), 1, ["conv"]),
        ((1, 4, 4, 3), 2, ["conv"]),
        ((1, 4, 4, 1), 2, ["depthwise", "dense"]),
        ((1, 4, 4, 3), 1, ["depthwise", "dense"]),
    ],
)
def test_one_channel_and_one_tile(
    shape: tuple[int, ...], filters: int, kinds: list[str], tmp_path: Path
) -> None:
    """One layer, unless TRANSPOSEs in front of the output's transform are missing."""
    path = tmp_path / "model.tflite"
    path.write_bytes(converted(LAYERS[0], shape, filters, half=False))
    assert [layer.kind for layer in tflite_model.read(path).layers] == kinds


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


def no_turn(model: Any) -> None:
    """The last TRANSPOSE, which moves what it reads, is missing."""
    turn, shape = nodes_of(model, "TRANSPOSE")[2], nodes_of(model, "RESHAPE")[1]
    shape.inputs = [turn.inputs[0], shape.inputs[1]]
    model.subgraphs[0].operators.remove(turn)


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
        no_turn,
    ],
    ids=["image", "bias", "output", "outside", "twice", "options", "padding", "turn"],
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
    missing = 31 - len(model.subgraphs[0].operators)
    assert sorted(claimed) == [12 - missing, 21 - missing]
    reference = run(litert.open(changed), [image()])
    for y, wanted in zip(results, reference, strict=True):
        if y.shape[3] not in FILTERS[1:]:
            np.testing.assert_array_equal(y, wanted)
