"""Layers in the Winograd domain as .tflite files: what is in them, and what LiteRT makes of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from flatbuffers import flexbuffers  # type: ignore[import-untyped]

from schedules.errors import LeanconvError
from schedules.layer.workload import Conv2dWorkload
from scripts.prune.convolution import Convolution
from scripts.prune.export import CUSTOM_NAME, one_layer
from tests.support.reference import conv2d
from tests.support.winograd_domain import winograd_conv2d

#: Layer, N, H, W, C, O: tiles that fit and reach beyond, one tile, one channel, 5x5, every form.
CASES = {
    "beyond": (Convolution(4, 3, False, "SAME", "RELU"), (2, 13, 9, 8, 10)),
    "fit": (Convolution(4, 3, True, "SAME", "RELU6"), (1, 8, 12, 5, 7)),
    "valid": (Convolution(2, 3, True, "VALID", "NONE"), (3, 7, 9, 3, 5)),
    "valid_fit": (Convolution(4, 3, False, "VALID", "RELU"), (1, 10, 6, 4, 8)),
    "5x5": (Convolution(2, 5, False, "SAME", "NONE"), (2, 7, 5, 6, 3)),
    "one_channel": (Convolution(4, 3, False, "SAME", "RELU"), (1, 6, 7, 1, 1)),
    "one_tile": (Convolution(4, 3, True, "SAME", "NONE"), (1, 3, 2, 2, 3)),
}
Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]


def arrays(case: str) -> Arrays:
    """An image, weights of which most are zeros, and a bias."""
    layer, (batch, height, width, channels, filters) = CASES[case]
    rng = np.random.default_rng(len(case))
    weights = rng.standard_normal((layer.n**2, channels, filters), np.float32)
    weights *= rng.random(weights.shape) < 0.4
    x = rng.standard_normal((batch, height, width, channels), np.float32)
    return x, weights, rng.standard_normal(filters, np.float32)


def exported(case: str, way: str) -> tuple[bytes, Arrays]:
    x, weights, bias = arrays(case)
    return one_layer(x.shape, weights, bias, CASES[case][0], way), (x, weights, bias)


def run(model: bytes, x: np.ndarray) -> np.ndarray:
    interpreter = Interpreter(model_content=model, num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


class Node:
    """An operator as a reader of the file sees it."""

    def __init__(self, model: Any, operator: Any) -> None:
        graph, code = model.subgraphs[0], model.operatorCodes[operator.opcodeIndex]
        names = {value: name for name, value in vars(schema.BuiltinOperator).items()}
        self.name = (code.customCode or names[code.builtinCode].encode()).decode()
        self.options = operator.builtinOptions
        self.custom_options = operator.customOptions
        tensors = [graph.tensors[index] for index in operator.inputs if index >= 0]
        self.constants = {
            number: np.frombuffer(bytes(model.buffers[tensor.buffer].data), TYPES[tensor.type])
            .reshape(tensor.shape)
            for number, tensor in enumerate(tensors)
            if model.buffers[tensor.buffer].data is not None
        }  # fmt: skip
        self.shape = tuple(int(size) for size in graph.tensors[operator.outputs[0]].shape)


TYPES = {schema.TensorType.FLOAT32: "float32", schema.TensorType.INT32: "int32"}


def nodes(data: bytes) -> list[Node]:
    model = schema.ModelT.InitFromPackedBuf(data, 0)
    return [Node(model, operator) for operator in model.subgraphs[0].operators]


@pytest.mark.parametrize("case", CASES)
def test_litert_runs_the_composite(case: str) -> None:
    model, (x, weights, bias) = exported(case, "composite")
    expected, bound = winograd_conv2d(x, weights, bias, CASES[case][0])
    result = run(model, x)
    assert result.shape == expected.shape
    assert (abs(result - expected) <= bound).all()
    wrong, _ = winograd_conv2d(x, weights[::-1], bias, CASES[case][0])
    assert (abs(result - wrong) > bound).any()


@pytest.mark.parametrize("case", ["beyond", "fit", "valid_fit", "5x5"])
def test_the_composite_is_what_its_contract_says(case: str) -> None:
    layer, (batch, height, width, channels, filters) = CASES[case]
    model, (_, weights, bias) = exported(case, "composite")
    found = {node.name: node for node in nodes(model)}
    m, n, points = layer.m, layer.n, layer.n**2
    rows, columns = layer.tiling(height), layer.tiling(width)
    count = batch * rows.tiles * columns.tiles
    grid = (batch, rows.tiles, columns.tiles)
    whole = (batch, rows.tiles * m, columns.tiles * m, filters)
    output = (batch, rows.outputs, columns.outputs, filters)
    padded = (batch, rows.tiles * m + layer.r - 1, columns.tiles * m + layer.r - 1, channels)
    sequence = [
        ("PAD", padded),
        ("DEPTHWISE_CONV_2D", (*grid, channels * points)),
        ("RESHAPE", (count, channels, points)),
        ("TRANSPOSE", (points, count, channels)),
        ("BATCH_MATMUL", (points, count, filters)),
        ("TRANSPOSE", (count, filters, points)),
        ("FULLY_CONNECTED", (count, filters, m * m)),
        ("TRANSPOSE", (count, m * m, filters)),
        ("RESHAPE", (*grid, m * m * filters)),
        ("DEPTH_TO_SPACE", whole),
        ("SLICE", output),
        ("ADD", output),
    ]
    depthwise, product = found["DEPTHWISE_CONV_2D"], found["BATCH_MATMUL"]
    folded = depthwise.options.padding == schema.Padding.SAME
    assert folded == (case in ("5x5", "fit"))
    missing = {"PAD"} if folded or case == "valid_fit" else set()
    missing |= {"SLICE"} if whole == output else set()
    assert [(node.name, node.shape) for node in nodes(model)] == [
        step for step in sequence if step[0] not in missing
    ]
    transform = depthwise.constants[1].reshape(n, n, channels, points)
    assert (transform == layer.image_transform[:, :, None]).all()
    assert not depthwise.constants[2].any()
    assert depthwise.options.depthMultiplier == points
    assert (depthwise.options.strideH, depthwise.options.strideW) == (m, m)
    assert depthwise.options.fusedActivationFunction == int(layer.winograd_relu)
    assert (product.constants[1] == weights).all()
    assert not product.options.adjX and not product.options.adjY
    final = found["FULLY_CONNECTED"]
    assert (final.constants[1] == layer.output_transform).all()
    assert len(final.constants) == 1 and final.options.keepNumDims
    assert final.options.fusedActivationFunction == schema.ActivationFunctionType.NONE
    assert (found["ADD"].constants[1] == bias).all()
    activation = getattr(schema.ActivationFunctionType, layer.activation)
    assert found["ADD"].options.fusedActivationFunction == activation
    turns = [tuple(node.constants[1]) for node in nodes(model) if node.name == "TRANSPOSE"]
    assert turns == [(2, 0, 1), (1, 2, 0), (0, 2, 1)]


@pytest.mark.parametrize("case", ["beyond", "fit", "valid"])
def test_the_custom_operator_says_the_same(case: str) -> None:
    """What is read back, computed in float64, is what LiteRT makes of the composite."""
    model, (x, weights, bias) = exported(case, "custom")
    (node,) = nodes(model)
    assert node.name == CUSTOM_NAME
    assert len(model) < weights.nbytes + bias.nbytes + 2000
    options = flexbuffers.Loads(bytes(node.custom_options))
    read = Convolution(**{**options, "winograd_relu": bool(options["winograd_relu"])})
    assert read == CASES[case][0]
    assert options["winograd_relu"] in (0, 1)
    expected, bound = winograd_conv2d(x, node.constants[1], node.constants[2], read)
    assert node.shape == expected.shape
    assert (abs(run(exported(case, "composite")[0], x) - expected) <= bound).all()


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_transformed_kernels_compute_the_convolution(padding: str) -> None:
    """The reference above agrees with the one of every other test."""
    layer = Convolution(4, 3, padding=padding, activation="RELU")
    rng = np.random.default_rng(0)
    x, kernel = rng.standard_normal((2, 9, 7, 3)), rng.standard_normal((3, 3, 3, 4))
    bias = rng.standard_normal(4)
    workload = Conv2dWorkload(
        batch=2, in_height=9, in_width=7, in_channels=3, out_channels=4, kernel_height=3,
        kernel_width=3, activation="relu", **({} if padding == "VALID" else SAME),
    )  # fmt: skip
    expected, _ = conv2d(workload, x, kernel.transpose(3, 0, 1, 2), bias)
    result, _ = winograd_conv2d(x, layer.transformed(kernel), bias, layer)
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-12)


SAME: dict[str, Any] = dict.fromkeys(("pad_top", "pad_left", "pad_bottom", "pad_right"), 1)


@pytest.mark.parametrize(
    "change, complaint",
    [
        ({"padding": "FULL"}, "padding 'FULL' is not SAME or VALID"),
        ({"activation": "TANH"}, "activation 'TANH': not of NONE, RELU, RELU6"),
        ({"m": 20}, "no points are known for 22 inputs"),
    ],
)
def test_what_is_no_layer_is_refused(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(LeanconvError, match=complaint):
        Convolution(**change)


def test_shapes_that_do_not_fit_are_refused() -> None:
    weights, bias = np.zeros((36, 3, 4), np.float32), np.zeros(4, np.float32)
    with pytest.raises(LeanconvError, match="do not fit an input"):
        one_layer((1, 8, 8, 2), weights, bias, Convolution())
    with pytest.raises(LeanconvError, match="hold no 3x3 kernel"):
        Convolution(padding="VALID").tiling(2)
