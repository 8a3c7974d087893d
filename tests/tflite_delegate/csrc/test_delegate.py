"""The delegate inside real interpreters: what it claims, what it computes, what it leaves alone."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from schedules.algorithms import REGISTRY
from schedules.plan.planner import plan_kernel
from schedules.target.simd import Simd
from tests.support.kernels import error_bound, serves
from tests.support.reference import conv2d
from tests.support.tflite_writer import Conv, ModelWriter, chain, single_conv, with_outputs
from tests.tflite_delegate.conftest import InterpreterApi, random_inputs, read_report, run
from tflite_delegate.build import build
from tflite_delegate.read import model as tflite_model

BuildDelegate = Callable[..., Path]
HOST = Simd.named("host")

#: Input shape and layer: each has a border, a tail or an option that the others have not.
ZOO = {
    "3x3": ((1, 12, 12, 8), Conv(16)),
    "stride 2, odd channels": ((1, 13, 11, 3), Conv(10, stride=(2, 2), activation="relu6")),
    "stride 3, no padding": ((1, 17, 17, 5), Conv(7, (5, 5), (3, 3), padding="VALID")),
    "dilation 2": ((1, 15, 15, 16), Conv(24, dilation=(2, 2), activation="relu")),
    "7x1, stride 2x1": ((1, 14, 9, 10), Conv(3, (7, 1), (2, 1))),
    "1x1, many channels": ((1, 8, 8, 32), Conv(255, (1, 1), activation="relu")),
    "1x1, stride 2": ((1, 9, 9, 24), Conv(1, (1, 1), (2, 2), activation="relu_n1_to_1")),
    "one channel": ((1, 10, 10, 1), Conv(33, activation="relu_n1_to_1")),
    "float16": ((1, 8, 8, 12), Conv(20, weight_type="float16", activation="relu")),
    "kernel larger than the image": ((1, 3, 3, 4), Conv(9, (5, 5))),
    "2 groups": ((1, 10, 10, 32), Conv(48, groups=2, activation="relu")),
    "3 groups of odd channels": ((1, 11, 8, 15), Conv(21, stride=(2, 2), groups=3)),
    "groups of one channel": ((1, 7, 9, 5), Conv(10, (5, 3), groups=5, activation="relu6")),
    "1x1, float16, groups": ((1, 8, 7, 12), Conv(20, (1, 1), groups=4, weight_type="float16")),
}


def zoo_model() -> bytes:
    """All of :data:`ZOO` side by side."""
    writer = ModelWriter()
    inputs, outputs = [], []
    for shape, conv in ZOO.values():
        inputs.append(writer.tensor(shape))
        outputs.append(writer.conv(inputs[-1], shape, conv)[0])
    return writer.finish(inputs, outputs)


@pytest.fixture(scope="session")
def zoo_delegate(build_delegate: BuildDelegate) -> Path:
    return build_delegate(zoo_model(), REGISTRY.names())


def check_conv(
    conv: Conv,
    x: np.ndarray,
    y: np.ndarray,
    builtin: np.ndarray | None = None,
    algorithm: str | None = "auto",
    simd: Simd = HOST,
) -> None:
    """``y`` is what ``algorithm`` gives, by default the planner's: within its error bound.

    ``None`` stands for TFLite.

    From ``builtin``, which TFLite's own kernel gave, it is within both bounds.
    """
    weights, bias = conv.constants(x.shape[3])
    workload = conv.workload(x.shape)
    expected, direct = conv2d(workload, x, weights, bias)
    bound = direct
    if algorithm is not None:
        plan = plan_kernel(workload.with_batch(1).of_one_kernel(), simd, algorithm)
        bound = error_bound(plan, workload, x, weights, bias, direct)
    assert y.shape == expected.shape
    assert np.all(abs(y - expected) <= bound), f"{algorithm} on {workload.describe()}"
    if builtin is not None:
        assert np.all(abs(y - builtin) <= bound + direct)


def served(algorithm: str, simd: Simd = HOST) -> list[str]:
    """The layers of :data:`ZOO` that ``algorithm`` serves; all, if the planner may choose."""
    return [
        name
        for name, (shape, conv) in ZOO.items()
        if algorithm == "auto" or serves(algorithm, conv.workload(shape), simd)
    ]


# Numbers


@pytest.mark.parametrize("algorithm", REGISTRY.names())
def test_zoo(interpreter_api: InterpreterApi, zoo_delegate: Path, algorithm: str) -> None:
    model = zoo_model()
    delegate = interpreter_api.load_delegate(str(zoo_delegate), {"algorithm": algorithm})
    interpreter = interpreter_api.open(model, delegate)
    builtin = interpreter_api.open(model)
    inputs = random_inputs(interpreter)
    results = zip(ZOO.items(), inputs, run(interpreter, inputs), run(builtin, inputs), strict=True)
    for (name, (_, conv)), x, y, y_builtin in results:
        if name in served(algorithm):
            check_conv(conv, x, y, y_builtin, algorithm)
        else:
            assert np.array_equal(y, y_builtin), "TFLite's own kernel has run"
    report = read_report(zoo_delegate, delegate)
    assert {layer["algorithm"] for layer in report["layers"]} == {algorithm}
    assert report["claimed"] == len(report["layers"]) == len(served(algorithm))
    assert report["unknown"] == len(ZOO) - report["claimed"]
    assert all(layer["calls"] == 1 and not layer["generic_calls"] for layer in report["layers"])


@pytest.mark.parametrize("with_third_input", [True, False])
def test_no_bias(
    litert: InterpreterApi, build_delegate: BuildDelegate, with_third_input: bool
) -> None:
    # TFLite's own kernel insists on a bias; the schema does not.
    conv, shape = Conv(13, bias=False), (1, 9, 9, 4)
    writer = ModelWriter()
    x = writer.tensor(shape)
    weights, _ = conv.constants(4)
    constants = [writer.constant(weights), *([-1] if with_third_input else [])]
    y, _ = writer.conv(x, shape, conv, constants=constants)
    model = writer.finish([x], [y])
    library = build_delegate(model)
    interpreter = litert.open(model, litert.load_delegate(str(library)))
    inputs = random_inputs(interpreter)
    check_conv(conv, inputs[0], run(interpreter, inputs)[0])


def added_to(graph: Any, layer: tflite_model.Layer) -> int:
    """What a layer's ADD reads that none of its nodes computes."""
    nodes = [graph.operators[index] for index in layer.nodes]
    own = {layer.input, *(tensor for node in nodes for tensor in node.outputs)}
    addition = next(node for node in nodes if len(node.inputs) == 2)
    return int((set(addition.inputs) - own).pop())


@pytest.mark.parametrize("name", ["resnet8_float", "mobilenet_96_float"])
def test_trained_models_layer_by_layer(
    interpreter_api: InterpreterApi, build_delegate: BuildDelegate, trained_models: Path, name: str
) -> None:
    path = trained_models / f"{name}.tflite"
    graph = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0).subgraphs[0]
    layers = [layer for layer in tflite_model.read(path).layers if layer.workload]
    residuals = {
        layer.index: added_to(graph, layer)
        for layer in layers
        if layer.workload and layer.workload.residual
    }
    ends = {tensor for layer in layers for tensor in (layer.input, layer.output)}
    model = with_outputs(path, {*filter(None, ends), *residuals.values()})
    library = build_delegate(model)
    delegate = interpreter_api.load_delegate(str(library))
    interpreter = interpreter_api.open(model, delegate)
    run(interpreter, random_inputs(interpreter))
    for layer in layers:
        workload = layer.workload
        assert workload is not None
        x, y = (interpreter.get_tensor(tensor) for tensor in (layer.input, layer.output))
        weights, bias = map(interpreter.get_tensor, graph.operators[layer.index].inputs[1:])
        if layer.op == "DEPTHWISE_CONV_2D":
            weights = weights.transpose(3, 1, 2, 0)
        residual = None
        if workload.residual:
            residual = interpreter.get_tensor(residuals[layer.index])
        arguments = (x.reshape(workload.input_shape), weights.reshape(workload.weight_shape), bias)
        expected, direct = conv2d(workload, *arguments, residual)
        plan = plan_kernel(workload.of_one_kernel(), HOST)
        bound = error_bound(plan, workload, *arguments, direct, residual)
        assert np.all(abs(y.reshape(expected.shape) - expected) <= bound), layer.geometry
    report = read_report(library, delegate)
    assert [entry["node"] for entry in report["layers"]] == [layer.index for layer in layers]


@pytest.mark.parametrize("xnnpack", [False, True])
@pytest.mark.parametrize(
    "name",
    [
        "resnet8_float",
        "resnet8_int8",
        "mobilenet_96_float",
        "mobilenet_96_int8",
        "dscnn_hybrid",
        "dscnn_int8",
    ],
)
def test_trained_models_as_a_whole(
    interpreter_api: InterpreterApi,
    build_delegate: BuildDelegate,
    trained_models: Path,
    name: str,
    xnnpack: bool,
) -> None:
    path = trained_models / f"{name}.tflite"
    is_int8 = name.endswith("int8")
    library = build_delegate(path)
    delegate = interpreter_api.load_delegate(str(library))
    interpreter = interpreter_api.open(path, delegate, xnnpack=xnnpack)
    # Layers with int8 weights round as XNNPACK's.
    builtin = interpreter_api.open(path, xnnpack=xnnpack or not name.endswith("float"))
    detail = builtin.get_input_details()[0]
    rng = np.random.default_rng(1)
    x = rng.uniform(-1, 1, detail["shape"]).astype(np.float32)
    if detail["dtype"] != np.float32:
        x = rng.integers(-128, 128, detail["shape"]).astype(detail["dtype"])
    (y,), (expected,) = run(interpreter, [x]), run(builtin, [x])
    if not is_int8:
        # Probabilities. TFLite's hybrid layers quantise their activations: where our rounding turns
        # a code, an activation moves by one of 127 steps.
        step = 1 / 127 if name.endswith("hybrid") else 1e-5
        assert np.allclose(y, expected, rtol=0, atol=step)
    else:
        assert np.array_equal(y, expected)
    assert read_report(library, delegate)["claimed"] == (
        sum(layer.workload is not None for layer in tflite_model.read(path).layers)
    )


# Shapes that change


@pytest.mark.parametrize("algorithm", REGISTRY.names())
def test_batches(
    interpreter_api: InterpreterApi, build_delegate: BuildDelegate, algorithm: str
) -> None:
    shape = (1, 11, 9, 6)
    layers = (
        Conv(12, stride=(2, 2), activation="relu"),
        Conv(12, activation="relu"),
        Conv(12, groups=6, activation="relu"),
        Conv(12, (1, 1), activation="relu"),
    )
    conv = next(conv for conv in layers if serves(algorithm, conv.workload(shape), HOST))
    model = single_conv(shape, conv, dynamic_batch=True)
    library = build_delegate(model, REGISTRY.names())
    delegate = interpreter_api.load_delegate(str(library), {"algorithm": algorithm})
    interpreter = interpreter_api.open(model, delegate, num_threads=2)
    for calls, batch in enumerate((1, 3, 2, 1), start=1):
        index = interpreter.get_input_details()[0]["index"]
        interpreter.resize_tensor_input(index, (batch, *shape[1:]))
        inputs = random_inputs(interpreter, seed=batch)
        check_conv(conv, inputs[0], run(interpreter, inputs)[0], algorithm=algorithm)
        (layer,) = read_report(library, delegate)["layers"]
        assert (layer["calls"], layer["generic_calls"]) == (calls, 0)


@pytest.mark.parametrize("weight_type", ["float32", "float16"])
@pytest.mark.parametrize("num_threads", [1, 3])
def test_images_of_another_size(
    interpreter_api: InterpreterApi,
    build_delegate: BuildDelegate,
    weight_type: str,
    num_threads: int,
) -> None:
    conv = Conv(5, (3, 5), (2, 1), (1, 2), activation="relu6", weight_type=weight_type)
    # 70 channels: more than the generic kernel converts at once.
    shape = (1, 12, 12, 70)
    model = single_conv(shape, conv)
    library = build_delegate(model)
    delegate = interpreter_api.load_delegate(str(library))
    interpreter = interpreter_api.open(model, delegate, num_threads=num_threads)
    index = interpreter.get_input_details()[0]["index"]
    shapes = [shape, (2, 7, 15, 70), (1, 1, 1, 70), shape]
    for resized in shapes:
        interpreter.resize_tensor_input(index, resized)
        inputs = random_inputs(interpreter)
        check_conv(conv, inputs[0], run(interpreter, inputs)[0])
    (layer,) = read_report(library, delegate)["layers"]
    assert (layer["calls"], layer["generic_calls"]) == (2, 2)
    assert layer["algorithm"] != "generic", "the last shape has a kernel again"


@pytest.mark.parametrize("weight_type", ["float32", "float16"])
def test_groups_of_other_images(
    litert: InterpreterApi, build_delegate: BuildDelegate, weight_type: str
) -> None:
    conv = Conv(10, (3, 2), (1, 2), activation="relu6", weight_type=weight_type, groups=2)
    shape = (2, 9, 9, 140)  # 70 channels a group: more than the generic kernel converts at once
    model = single_conv(shape, conv)
    library = build_delegate(model)
    delegate = litert.load_delegate(str(library))
    interpreter = litert.open(model, delegate, num_threads=2)
    index = interpreter.get_input_details()[0]["index"]
    for resized in (shape, (1, 6, 15, 140), (1, 9, 9, 140)):
        interpreter.resize_tensor_input(index, resized)
        inputs = random_inputs(interpreter)
        check_conv(conv, inputs[0], run(interpreter, inputs)[0])
    (layer,) = read_report(library, delegate)["layers"]
    assert (layer["calls"], layer["generic_calls"]) == (2, 1)


def test_resized_to_more_groups(litert: InterpreterApi, build_delegate: BuildDelegate) -> None:
    """TFLite tells the groups from the input: twice the channels are twice the groups."""
    model = single_conv((1, 8, 8, 4), Conv(10))
    library = build_delegate(model)
    delegate = litert.load_delegate(str(library))
    interpreters = [litert.open(model, delegate), litert.open(model)]
    for interpreter in interpreters:
        index = interpreter.get_input_details()[0]["index"]
        interpreter.resize_tensor_input(index, (1, 8, 8, 8))
    inputs = random_inputs(interpreters[0])
    (y,), (y_builtin,) = (run(interpreter, inputs) for interpreter in interpreters)
    check_conv(Conv(10, groups=2), inputs[0], y, y_builtin)
    (layer,) = read_report(library, delegate)["layers"]
    assert layer["name"] == "leanconv/generic conv3x3 g2 8x8x8->10"
    interpreters[0].resize_tensor_input(index, (1, 8, 8, 12))
    with pytest.raises(RuntimeError, match="do not divide into the groups"):
        interpreters[0].allocate_tensors()


def test_resized_to_the_shape_of_another_kernel(
    litert: InterpreterApi, build_delegate: BuildDelegate
) -> None:
    conv = Conv(8)
    writer = ModelWriter()
    inputs = [writer.tensor((1, size, size, 4)) for size in (6, 10)]
    outputs = [
        writer.conv(x, (1, size, size, 4), conv)[0] for x, size in zip(inputs, (6, 10), strict=True)
    ]
    library = build_delegate(writer.finish(inputs, outputs))
    delegate = litert.load_delegate(str(library))
    interpreter = litert.open(single_conv((1, 6, 6, 4), conv), delegate)
    interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], (1, 10, 10, 4))
    values = random_inputs(interpreter)
    check_conv(conv, values[0], run(interpreter, values)[0])
    (layer,) = read_report(library, delegate)["layers"]
    assert (layer["calls"], layer["generic_calls"]) == (1, 0)


def test_wrong_channels_are_an_error(
    interpreter_api: InterpreterApi, build_delegate: BuildDelegate
) -> None:
    model = single_conv((1, 8, 8, 4), Conv(8))
    delegate = interpreter_api.load_delegate(str(build_delegate(model)))
    interpreter = interpreter_api.open(model, delegate)
    interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], (1, 8, 8, 5))
    with pytest.raises(RuntimeError, match="does not have as many channels as the weights"):
        interpreter.allocate_tensors()


def test_images_smaller_than_the_kernel(
    litert: InterpreterApi, build_delegate: BuildDelegate
) -> None:
    """By one position, TFLite makes an empty image of them; by more, it has no shape for it."""
    model = single_conv((1, 8, 8, 4), Conv(8, (5, 5), padding="VALID"))
    delegate = litert.load_delegate(str(build_delegate(model)))
    for interpreter in (litert.open(model), litert.open(model, delegate)):
        index = interpreter.get_input_details()[0]["index"]
        interpreter.resize_tensor_input(index, (1, 4, 8, 4))
        (result,) = run(interpreter, random_inputs(interpreter))
        assert result.shape == (1, 0, 4, 8)
    interpreter.resize_tensor_input(index, (1, 3, 8, 4))
    with pytest.raises(RuntimeError, match="the kernel is larger than the image"):
        interpreter.allocate_tensors()


def test_dynamic_tensors(interpreter_api: InterpreterApi, build_delegate: BuildDelegate) -> None:
    """The image's shape is only known when the layer before has run."""
    conv, shape = Conv(6), (1, 8, 8, 4)
    writer = ModelWriter()
    flat, wanted = writer.tensor((256,)), writer.tensor((4,), "int32")
    x = writer.tensor(shape)
    options = schema.ReshapeOptionsT()
    writer.operator(
        schema.BuiltinOperator.RESHAPE, [flat, wanted], [x], options,
        schema.BuiltinOptions.ReshapeOptions,
    )  # fmt: skip
    y, _ = writer.conv(x, shape, conv)
    model = writer.finish([flat, wanted], [y])
    library = build_delegate(model)
    delegate = interpreter_api.load_delegate(str(library))
    interpreter = interpreter_api.open(model, delegate)
    values = np.random.default_rng(0).uniform(-1, 1, 256).astype(np.float32)
    for wanted_shape in (shape, (1, 4, 16, 4), (2, 8, 4, 4), shape):
        (result,) = run(interpreter, [values, np.array(wanted_shape, np.int32)])
        check_conv(conv, values.reshape(wanted_shape), result)
    (layer,) = read_report(library, delegate)["layers"]
    assert (layer["calls"], layer["generic_calls"]) == (2, 2)


# Constants in other forms


@pytest.mark.parametrize("weight_type", ["float32", "float16"])
def test_shared_weights(
    interpreter_api: InterpreterApi, build_delegate: BuildDelegate, weight_type: str
) -> None:
    """Two layers use the same constants; a third, which has no kernel, does too."""
    conv, shape = Conv(8, weight_type=weight_type), (1, 9, 9, 4)
    writer = ModelWriter()
    inputs = [writer.tensor(shape) for _ in range(3)]
    weights, bias = conv.constants(4)
    assert bias is not None
    constants = [writer.constant(weights), writer.constant(bias)]
    stranger = Conv(**{**vars(conv), "stride": (3, 3)})
    layers = [conv, conv, stranger]
    outputs = [
        writer.conv(x, shape, layer, constants=constants)[0]
        for x, layer in zip(inputs, layers, strict=True)
    ]
    library = build_delegate(single_conv(shape, conv))
    delegate = interpreter_api.load_delegate(str(library))
    interpreter = interpreter_api.open(writer.finish(inputs, outputs), delegate)
    values = random_inputs(interpreter)
    for layer, x, y in zip(layers, values, run(interpreter, values), strict=True):
        check_conv(layer, x, y)
    report = read_report(library, delegate)
    assert (report["claimed"], report["unknown"]) == (2, 1)


def test_dequantized_constant_that_is_an_output(
    interpreter_api: InterpreterApi, build_delegate: BuildDelegate
) -> None:
    # Without XNNPACK, which fails at any dequantized constant that only the caller reads.
    conv, shape = Conv(8, weight_type="float16"), (1, 9, 9, 4)
    writer = ModelWriter()
    x = writer.tensor(shape)
    weights, bias = conv.constants(4)
    assert bias is not None
    constants = [writer.constant(weights), writer.constant(bias)]
    y, _ = writer.conv(x, shape, conv, constants=constants)
    model = writer.finish([x], [y, constants[0]])
    delegate = interpreter_api.load_delegate(str(build_delegate(single_conv(shape, conv))))
    interpreter = interpreter_api.open(model, delegate)
    values = random_inputs(interpreter)
    result, output = run(interpreter, values)
    check_conv(conv, values[0], result)
    assert np.array_equal(output, weights.astype(np.float32))


def test_float16_subnormals_and_extremes(
    litert: InterpreterApi, build_delegate: BuildDelegate
) -> None:
    """1x1 weights that are every kind of float16, read one by one through a unit image."""
    weights = np.array([0.0, -0.0, 2**-24, -3 * 2**-24, 2**-14, 1.0, -65504.0, 0.1], np.float16)
    writer = ModelWriter()
    x = writer.tensor((1, 1, 1, 1))
    constants = [writer.constant(weights.reshape(8, 1, 1, 1)), -1]
    y, _ = writer.conv(x, (1, 1, 1, 1), Conv(8, (1, 1)), constants=constants)
    model = writer.finish([x], [y])
    interpreter = litert.open(model, litert.load_delegate(str(build_delegate(model))))
    (result,) = run(interpreter, [np.ones((1, 1, 1, 1), np.float32)])
    assert np.array_equal(result.ravel(), weights.astype(np.float32))
    # The generic kernel reads the constants themselves.
    interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], (1, 1, 2, 1))
    (result,) = run(interpreter, [np.ones((1, 1, 2, 1), np.float32)])
    assert np.array_equal(result[0, 0, 1], weights.astype(np.float32))


@pytest.mark.parametrize("kind", ["grouped", "run-time weights", "tanh"])
def test_layers_that_are_not_for_us(
    litert: InterpreterApi, build_delegate: BuildDelegate, kind: str
) -> None:
    """They stay with TFLite; only groups could have had a kernel."""
    shape, conv = (1, 8, 8, 4), Conv(8)
    library = build_delegate(single_conv(shape, conv))
    writer = ModelWriter()
    inputs = [writer.tensor(shape)]
    _, bias = conv.constants(4)
    assert bias is not None
    weights = np.random.default_rng(0).uniform(-1, 1, (8, 3, 3, 4)).astype(np.float32)
    if kind == "grouped":
        constants = [writer.constant(weights[..., :2])]
    elif kind == "run-time weights":
        inputs.append(writer.tensor(weights.shape))
        constants = inputs[1:]
    else:
        conv = Conv(8, activation="tanh")
        constants = [writer.constant(weights)]
    y, _ = writer.conv(inputs[0], shape, conv, constants=[*constants, writer.constant(bias)])
    model = writer.finish(inputs, [y])
    delegate = litert.load_delegate(str(library))
    interpreter, builtin = litert.open(model, delegate), litert.open(model)
    values = random_inputs(interpreter)
    assert np.array_equal(run(interpreter, values)[0], run(builtin, values)[0])
    report = read_report(library, delegate)
    unknown = int(kind == "grouped")
    assert (report["claimed"], report["unknown"], report["layers"]) == (0, unknown, [])


# Models that the delegate was not compiled for


def test_other_model(
    interpreter_api: InterpreterApi,
    build_delegate: BuildDelegate,
    trained_models: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    library = build_delegate(trained_models / "resnet8_float.tflite")
    path = trained_models / "mobilenet_96_float.tflite"
    delegate = interpreter_api.load_delegate(str(library))
    interpreter, builtin = interpreter_api.open(path, delegate), interpreter_api.open(path)
    values = random_inputs(interpreter)
    assert np.array_equal(run(interpreter, values)[0], run(builtin, values)[0])
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("leanconv")]
    assert lines == [
        "leanconv: 28 of 28 convolutions, depthwise and fully-connected layers have no "
        "kernel in this delegate (compiled for resnet8_float.tflite) and stay with TFLite"
    ]


def test_processor_without_the_features(
    litert: InterpreterApi, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    foreign = {"x86_64": "dotprod", "aarch64": "avx2"}[HOST.arch]
    model = tmp_path / "model.tflite"
    model.write_bytes(single_conv((1, 6, 6, 4), Conv(8)))
    library = tmp_path / "lib.so"
    build(model, library, replace(HOST, name="other", features=HOST.features | {foreign}))
    delegate = litert.load_delegate(str(library))
    interpreter = litert.open(model, delegate)
    values = random_inputs(interpreter)
    check_conv(Conv(8), values[0], run(interpreter, values)[0])
    assert read_report(library, delegate)["claimed"] == 0
    assert capfd.readouterr().err.count("leanconv") == 1
    interpreter = litert.open(model, delegate)
    assert (
        f"leanconv: compiled for other, this processor lacks {foreign}: all layers stay with TFLite"
        in capfd.readouterr().err
    )


# Memory


def test_live_bytes_return_to_zero(
    interpreter_api: InterpreterApi, build_delegate: BuildDelegate, trained_models: Path
) -> None:
    path = trained_models / "resnet8_float.tflite"
    library = build_delegate(path)
    delegate = interpreter_api.load_delegate(str(library))
    first = interpreter_api.open(path, delegate)
    one = read_report(library, delegate)["live_bytes"]
    assert one == sum(layer["packed_bytes"] for layer in read_report(library, delegate)["layers"])
    second = interpreter_api.open(path, delegate)
    assert read_report(library, delegate)["live_bytes"] == 2 * one
    del first
    gc.collect()
    assert read_report(library, delegate)["live_bytes"] == one
    second.allocate_tensors()
    del second
    gc.collect()
    report = read_report(library, delegate)
    assert (report["live_bytes"], report["layers"]) == (0, [])


@pytest.mark.parametrize("num_threads", [1, 3])
def test_workspace_is_in_the_arena(
    interpreter_api: InterpreterApi, build_delegate: BuildDelegate, num_threads: int
) -> None:
    model = chain((1, 12, 12, 8), [Conv(8), Conv(8, (5, 5))])
    library = build_delegate(model, ["im2col_tiled"])
    delegate = interpreter_api.load_delegate(str(library))
    interpreter = interpreter_api.open(model, delegate, num_threads=num_threads)
    interpreter.allocate_tensors()
    tensors = [t for t in interpreter.get_tensor_details() if t["name"] == "leanconv/workspace"]
    arena = sorted(int(np.prod(t["shape"])) for t in tensors)
    layers = read_report(library, delegate)["layers"]
    assert arena == sorted(layer["workspace_bytes"] for layer in layers)
    assert all(size % num_threads == 0 and size > 0 for size in arena)


# Threads


@pytest.mark.parametrize("algorithm", REGISTRY.names())
def test_thread_counts_agree(
    interpreter_api: InterpreterApi, zoo_delegate: Path, algorithm: str
) -> None:
    model, results = zoo_model(), []
    for num_threads in (1, 2, 3):
        delegate = interpreter_api.load_delegate(str(zoo_delegate), {"algorithm": algorithm})
        interpreter = interpreter_api.open(model, delegate, num_threads=num_threads)
        inputs = random_inputs(interpreter)
        results.append([run(interpreter, inputs) for _ in range(5)])
        assert read_report(zoo_delegate, delegate)["threads"] == num_threads
    for repeated in results:
        for outputs in repeated:
            for name, y, expected in zip(ZOO, outputs, results[0][0], strict=True):
                assert name not in served(algorithm) or np.array_equal(y, expected)


def test_option_overrides_the_interpreters_threads(
    litert: InterpreterApi, zoo_delegate: Path
) -> None:
    delegate = litert.load_delegate(str(zoo_delegate), {"num_threads": 2})
    interpreter = litert.open(zoo_model(), delegate, num_threads=4)
    interpreter.allocate_tensors()
    assert read_report(zoo_delegate, delegate)["threads"] == 2


def test_interpreters_in_threads(interpreter_api: InterpreterApi, zoo_delegate: Path) -> None:
    """Several interpreters use one delegate, and its pool, at the same time."""
    model = zoo_model()
    delegate = interpreter_api.load_delegate(str(zoo_delegate), {"algorithm": "im2col"})
    interpreters = [
        interpreter_api.open(model, delegate, num_threads=threads) for threads in (1, 2, 3, 2)
    ]
    inputs = random_inputs(interpreters[0])
    expected = run(interpreters[0], inputs)
    wrong: list[int] = []

    def work(number: int, interpreter: Any) -> None:
        for _ in range(20):
            outputs = run(interpreter, inputs)
            if not all(map(np.array_equal, outputs, expected)):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=pair) for pair in enumerate(interpreters)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


FORK = """
import os, sys
import numpy as np
from tests.tflite_delegate.conftest import _litert, random_inputs, run

api = _litert()
delegate = api.load_delegate(sys.argv[2])
interpreter = api.open(open(sys.argv[1], "rb").read(), delegate, num_threads=2)
inputs = random_inputs(interpreter)
expected = run(interpreter, inputs)
for _ in range(5):
    child = os.fork()
    same = all(np.array_equal(a, b) for a, b in zip(run(interpreter, inputs), expected))
    if child == 0:
        # The parent's threads do not exist here: the child starts its own, and ends them.
        threads = len(os.listdir("/proc/self/task"))
        del interpreter, delegate
        left = len(os.listdir("/proc/self/task"))
        os._exit(0 if same and threads > left == 1 else 1)
    assert same and os.waitpid(child, 0)[1] == 0
print("survived")
"""


def test_fork(build_delegate: BuildDelegate, tmp_path: Path, repo_root: Path) -> None:
    model = tmp_path / "model.tflite"
    model.write_bytes(single_conv((1, 32, 32, 16), Conv(32)))
    library = build_delegate(model)
    result = subprocess.run(
        [sys.executable, "-c", FORK, str(model), str(library)],
        cwd=repo_root, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert result.stdout == "survived\n", result.stderr


def test_threads_end_with_the_last_delegate(litert: InterpreterApi, zoo_delegate: Path) -> None:
    def thread_count() -> int:
        return len(list(Path("/proc/self/task").iterdir()))

    gc.collect()
    before = thread_count()
    delegate = litert.load_delegate(str(zoo_delegate))
    interpreter = litert.open(zoo_model(), delegate, num_threads=3)
    run(interpreter, random_inputs(interpreter))
    assert thread_count() >= before + 2
    del interpreter, delegate
    gc.collect()
    assert thread_count() == before


# Options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"nosuch": 1},
            "unknown option 'nosuch' (value '1'); known: num_threads, verbose, one_node, "
            "verify, memory_limit, algorithm",
        ),
        ({"num_threads": 0}, "option num_threads: '0' is not a number from 1 to 64"),
        ({"num_threads": 65}, "option num_threads: '65' is not a number from 1 to 64"),
        ({"num_threads": "two"}, "option num_threads: 'two' is not a number from 1 to 64"),
        ({"num_threads": ""}, "option num_threads: '' is not a number from 1 to 64"),
        ({"num_threads": "9" * 99}, f"option num_threads: '{'9' * 40}' is not a number"),
        ({"verbose": -1}, "option verbose: '-1' is not a number from 0 to 2"),
        ({"algorithm": "fft"}, "option algorithm: 'fft' is not compiled in; known: "),
        ({"verbose": 1, "x" * 500: 1}, f"unknown option '{'x' * 40}'"),
    ],
)
def test_wrong_options(
    interpreter_api: InterpreterApi, zoo_delegate: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match="leanconv: ") as caught:
        interpreter_api.load_delegate(str(zoo_delegate), options)
    assert message in str(caught.value)


def test_wrong_option_lists_the_algorithms(litert: InterpreterApi, zoo_delegate: Path) -> None:
    with pytest.raises(ValueError, match="known: ") as caught:
        litert.load_delegate(str(zoo_delegate), {"algorithm": "fft"})
    _, _, known = str(caught.value).partition("known: ")
    assert set(known.split(", ")) == set(REGISTRY.names())


def test_host_that_does_not_listen(zoo_delegate: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Without report_error the result must not be NULL: old C hosts do not look at it."""
    import ctypes

    library = ctypes.CDLL(str(zoo_delegate))
    create = library.tflite_plugin_create_delegate
    create.restype = ctypes.c_void_p
    text = ctypes.c_char_p * 1
    delegate = create(text(b"nosuch"), text(b"1"), ctypes.c_size_t(1), None)
    assert delegate
    assert "leanconv: unknown option 'nosuch'" in capfd.readouterr().err
    library.tflite_plugin_destroy_delegate(ctypes.c_void_p(delegate))


def test_verbose(
    litert: InterpreterApi, build_delegate: BuildDelegate, capfd: pytest.CaptureFixture[str]
) -> None:
    library = build_delegate(single_conv((1, 8, 8, 4), Conv(8)), ["im2col"])
    model = chain((1, 8, 8, 4), [Conv(8), Conv(8)])
    delegate = litert.load_delegate(str(library), {"verbose": 2})
    litert.open(model, delegate)
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("leanconv")]
    assert lines[0].startswith("leanconv: node 0: leanconv/im2col conv3x3 8x8x4->8: ")
    assert lines[1] == "leanconv: node 1: conv3x3 8x8x8->8 stays with TFLite: no kernel"


# The report


def test_report_without_a_delegate(zoo_delegate: Path) -> None:
    report = read_report(zoo_delegate, None)
    assert set(report) == {"leanconv", "target", "model", "kernels"}
    assert report["target"] == "host"


def test_report_is_cut_like_snprintf(litert: InterpreterApi, zoo_delegate: Path) -> None:
    import ctypes

    function = ctypes.CDLL(str(zoo_delegate)).leanconv_report
    function.restype = ctypes.c_size_t
    whole = function(None, None, ctypes.c_size_t(0))
    buffer = ctypes.create_string_buffer(b"#" * 32)
    assert function(None, buffer, ctypes.c_size_t(10)) == whole
    assert buffer.raw[:11] == b'{"leanconv'[:9] + b"\0#"


def test_report_escapes_names(litert: InterpreterApi, tmp_path: Path) -> None:
    model = tmp_path / 'a "model"\\ with\ttrouble ??= é.tflite'
    model.write_bytes(single_conv((1, 6, 6, 4), Conv(8)))
    build(model, tmp_path / "lib.so", HOST)
    assert read_report(tmp_path / "lib.so", None)["model"] == model.name


def test_version(zoo_delegate: Path) -> None:
    import ctypes

    from schedules import __version__

    function = ctypes.CDLL(str(zoo_delegate)).leanconv_version
    function.restype = ctypes.c_char_p
    assert function().decode() == __version__
