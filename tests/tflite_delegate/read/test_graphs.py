"""Layers with their neighbours, chains of layers, what a network holds, what is left of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from schedules.budget.arena import held_bytes
from schedules.errors import LeanconvError
from schedules.layer.workload import Conv2dWorkload
from schedules.plan.planner import Limits
from schedules.select.report import peak_bytes
from schedules.select.selection import Selection
from schedules.target.simd import Simd
from tests.support.tflite_schema import ACTIVATIONS
from tests.support.tflite_writer import Conv, ModelWriter
from tflite_delegate.read.model import Layer, Model, read
from tflite_delegate.read.supported import between, partitions
from tflite_delegate.selection import select

HOST = Simd.named("host")
SHAPE = (1, 8, 8, 6)
Op = schema.BuiltinOperator
#: A kernel for each layer, and no workspace.
SEPARATE = ("indirect", "depthwise")


class Writer(ModelWriter):
    """Nodes around a convolution; each method returns the output tensor."""

    def unary(self, code: int, x: int, shape: Sequence[int] = SHAPE) -> int:
        y = self.tensor(shape)
        self.operator(code, [x], [y])
        return y

    def sum_of(self, a: int, b: int, shape: Sequence[int] = SHAPE, activation: str = "none") -> int:
        options, y = schema.AddOptionsT(), self.tensor(shape)
        options.fusedActivationFunction = ACTIVATIONS[activation]
        self.operator(Op.ADD, [a, b], [y], options, schema.BuiltinOptions.AddOptions)
        return y

    def padded(self, x: int, amounts: Sequence[Sequence[int]], shape: Sequence[int]) -> int:
        padded = [size + sum(both) for size, both in zip(shape, amounts, strict=True)]
        y = self.tensor(padded)
        self.operator(Op.PAD, [x, self.constant(np.array(amounts, np.int32))], [y])
        return y

    def pointwise(self, x: int, inputs: int, outputs: int, activation: str = "none") -> int:
        y, _ = self.conv(x, (*SHAPE[:3], inputs), Conv(outputs, (1, 1), activation=activation))
        return y

    def depthwise_3x3(self, x: int, channels: int, activation: str = "relu6") -> int:
        options, y = schema.DepthwiseConv2DOptionsT(), self.tensor((*SHAPE[:3], channels))
        options.strideH = options.strideW = options.depthMultiplier = 1
        options.dilationHFactor = options.dilationWFactor = 1
        options.fusedActivationFunction = ACTIVATIONS[activation]
        kind = schema.BuiltinOptions.DepthwiseConv2DOptions
        weights = self.constant(np.ones((1, 3, 3, channels), np.float32))
        self.operator(Op.DEPTHWISE_CONV_2D, [x, weights, -1], [y], options, kind)
        return y

    def fully_connected(self, x: int, depth: int, units: int, rows: int = 1) -> int:
        options, y = schema.FullyConnectedOptionsT(), self.tensor((rows, units))
        weights = self.constant(np.ones((units, depth), np.float32))
        kind = schema.BuiltinOptions.FullyConnectedOptions
        self.operator(Op.FULLY_CONNECTED, [x, weights, -1], [y], options, kind)
        return y


@pytest.fixture
def model(tmp_path: Path) -> Callable[..., Model]:
    def make(writer: Writer, inputs: Sequence[int], outputs: Sequence[int]) -> Model:
        path = tmp_path / "model.tflite"
        path.write_bytes(writer.finish(inputs, outputs))
        return read(path)

    return make


def taken(layer: Layer) -> Conv2dWorkload:
    assert layer.workload is not None
    return layer.workload


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (Op.RELU, "relu"),
        (Op.RELU6, "relu6"),
        (Op.RELU_N1_TO_1, "relu_n1_to_1"),
        (Op.HARD_SWISH, "hard_swish"),
    ],
)
def test_an_activation_behind(model: Callable[..., Model], code: int, name: str) -> None:
    writer = Writer()
    x = writer.tensor(SHAPE)
    y = writer.unary(code, writer.pointwise(x, 6, 6))
    (layer,) = model(writer, [x], [y]).layers
    assert taken(layer).activation == name
    assert (layer.nodes, layer.input, layer.output) == ((0, 1), x, y)


@pytest.mark.parametrize(
    ("fused", "code", "expected"),
    [
        ("relu", Op.RELU6, ("relu6", (0, 1))),
        ("relu6", Op.RELU, ("relu6", (0, 1))),
        ("relu", Op.RELU_N1_TO_1, ("relu", (0,))),
        ("relu", Op.HARD_SWISH, ("relu", (0,))),
    ],
)
def test_a_fused_activation_before_a_separate_one(
    model: Callable[..., Model], fused: str, code: int, expected: tuple[str, tuple[int, ...]]
) -> None:
    """They are one where both together are one of the activations."""
    writer = Writer()
    x = writer.tensor(SHAPE)
    y = writer.unary(code, writer.pointwise(x, 6, 6, fused))
    (layer,) = model(writer, [x], [y]).layers
    assert (taken(layer).activation, layer.nodes) == expected


@pytest.mark.parametrize("swapped", [False, True])
def test_a_residual_and_its_activation(model: Callable[..., Model], swapped: bool) -> None:
    writer = Writer()
    x = writer.tensor(SHAPE)
    z = writer.unary(Op.RELU6, writer.pointwise(x, 6, 6))
    y = writer.unary(Op.RELU, writer.sum_of(x, z) if swapped else writer.sum_of(z, x))
    (layer,) = model(writer, [x], [y]).layers
    workload = taken(layer)
    assert (workload.activation, workload.residual, workload.output_activation) == (
        "relu6", True, "relu",
    )  # fmt: skip
    assert (layer.nodes, layer.output) == ((0, 1, 2, 3), y)
    assert layer.geometry == "conv1x1 8x8x6->6 relu6 + relu"


def test_the_later_of_two_layers_takes_the_sum(model: Callable[..., Model]) -> None:
    writer = Writer()
    x = writer.tensor(SHAPE)
    a, b = writer.pointwise(x, 6, 6), writer.pointwise(x, 6, 6)
    first, second = model(writer, [x], [writer.sum_of(a, b, activation="relu")]).layers
    assert (first.nodes, second.nodes) == ((0,), (1, 2))
    assert taken(second).output_activation == "relu"


def broadcast(writer: Writer, x: int, y: int) -> int:
    return writer.sum_of(y, writer.constant(np.ones(6, np.float32)))


def not_yet_there(writer: Writer, x: int, y: int) -> int:
    return writer.sum_of(y, writer.unary(Op.RELU, x))


def doubled(writer: Writer, x: int, y: int) -> int:
    return writer.sum_of(y, y)


def read_twice(writer: Writer, x: int, y: int) -> int:
    writer.unary(Op.LOGISTIC, y)
    return writer.sum_of(y, x)


@pytest.mark.parametrize("what", [broadcast, not_yet_there, doubled, read_twice])
def test_no_residual(model: Callable[..., Model], what: Callable[[Writer, int, int], int]) -> None:
    writer = Writer()
    x = writer.tensor(SHAPE)
    (layer,) = model(writer, [x], [what(writer, x, writer.pointwise(x, 6, 6))]).layers
    assert not taken(layer).residual
    assert layer.nodes == (0,)


def test_an_output_of_the_graph_stays_one(model: Callable[..., Model]) -> None:
    writer = Writer()
    x = writer.tensor(SHAPE)
    y = writer.pointwise(x, 6, 6)
    (layer,) = model(writer, [x], [y, writer.unary(Op.RELU, y)]).layers
    assert layer.nodes == (0,)


def test_padding_in_front(model: Callable[..., Model]) -> None:
    writer = Writer()
    x = writer.tensor(SHAPE)
    padded = writer.padded(x, [(0, 0), (1, 2), (3, 0), (0, 0)], SHAPE)
    y, shape = writer.conv(padded, (1, 11, 11, 6), Conv(4, padding="VALID"))
    (layer,) = model(writer, [x], [y]).layers
    workload = taken(layer)
    assert (workload.pad_top, workload.pad_bottom) == (1, 2)
    assert (workload.pad_left, workload.pad_right) == (3, 0)
    assert (workload.input_shape, workload.output_shape) == (SHAPE, shape)
    assert (layer.nodes, layer.input) == ((0, 1), x)


@pytest.mark.parametrize(
    "amounts", [[(0, 0), (1, 1), (1, 1), (0, 2)], [(1, 0), (0, 0), (0, 0), (0, 0)]]
)
def test_padding_of_batch_or_channels_stays(
    model: Callable[..., Model], amounts: Sequence[Sequence[int]]
) -> None:
    writer = Writer()
    x = writer.tensor(SHAPE)
    padded = writer.padded(x, amounts, SHAPE)
    shape = [size + sum(both) for size, both in zip(SHAPE, amounts, strict=True)]
    y, _ = writer.conv(padded, shape, Conv(4, padding="VALID"))
    (layer,) = model(writer, [x], [y]).layers
    assert (layer.nodes, taken(layer).is_padded) == ((1,), False)


def test_padding_before_same_stays(model: Callable[..., Model]) -> None:
    writer = Writer()
    x = writer.tensor(SHAPE)
    padded = writer.padded(x, [(0, 0), (1, 1), (1, 1), (0, 0)], SHAPE)
    y, _ = writer.conv(padded, (1, 10, 10, 6), Conv(4))
    (layer,) = model(writer, [x], [y]).layers
    assert layer.nodes == (1,)


def test_fully_connected(model: Callable[..., Model]) -> None:
    writer = Writer()
    x = writer.tensor((5, 12))
    (layer,) = model(writer, [x], [writer.fully_connected(x, 12, 7, rows=5)]).layers
    assert taken(layer) == Conv2dWorkload(1, 5, 12, 7, 1, 1)
    assert (layer.geometry, layer.weight_order) == ("dense 5x12->7", "rows")


def test_fully_connected_that_does_not_fit(model: Callable[..., Model]) -> None:
    writer = Writer()
    x = writer.tensor((5, 11))
    (layer,) = model(writer, [x], [writer.fully_connected(x, 12, 7)]).layers
    assert layer.reason == "malformed node: input [5, 11], weights for 12"


def test_depthwise(model: Callable[..., Model]) -> None:
    writer = Writer()
    x = writer.tensor(SHAPE)
    (layer,) = model(writer, [x], [writer.depthwise_3x3(x, 6)]).layers
    assert taken(layer).is_depthwise
    assert (layer.geometry, layer.weight_order) == ("dwconv3x3 8x8x6 relu6", "taps")


def inverted_residual(writer: Writer, x: int, channels: int = 6, factor: int = 4) -> int:
    wide = channels * factor
    y = writer.depthwise_3x3(writer.pointwise(x, channels, wide, "relu6"), wide)
    return writer.sum_of(writer.pointwise(y, wide, channels), x)


def test_chains(model: Callable[..., Model]) -> None:
    writer = Writer()
    x = writer.tensor(SHAPE)
    y = inverted_residual(writer, inverted_residual(writer, x))
    found = model(writer, [x], [writer.depthwise_3x3(y, 6)])
    assert found.chains == ((0, 1, 2), (1, 2), (3, 4, 5), (4, 5))


def test_no_chain_through_what_others_read(model: Callable[..., Model]) -> None:
    writer = Writer()
    x = writer.tensor(SHAPE)
    wide = writer.depthwise_3x3(writer.pointwise(x, 6, 12), 12)
    y = writer.pointwise(wide, 12, 6)
    assert model(writer, [x], [y, writer.unary(Op.LOGISTIC, wide, (*SHAPE[:3], 12))]).chains == ()


def test_no_chain_of_layers_that_contradict_each_other(model: Callable[..., Model]) -> None:
    writer = Writer()
    x = writer.tensor(SHAPE)
    wide = writer.depthwise_3x3(x, 6)
    y = writer.pointwise(wide, 6, 4)
    writer.tensors[wide].shape = [1, 9, 8, 6]
    network = model(writer, [x], [y])
    assert network.chains == ()
    assert len(planned(network).kernels) == 2


def small_network(writer: Writer, x: int) -> int:
    y = inverted_residual(writer, x)
    z = writer.tensor((1, SHAPE[1] * SHAPE[2] * SHAPE[3]))
    writer.operator(Op.RESHAPE, [y], [z])
    return writer.unary(Op.COS, writer.fully_connected(z, 384, 10), (1, 10))


def test_what_a_network_holds(model: Callable[..., Model]) -> None:
    """Input 1.5 KiB (held all the time, as TFLite does), and what lives beside it."""
    writer = Writer()
    x = writer.tensor(SHAPE)
    network = model(writer, [x], [small_network(writer, x)])
    image, wide = 8 * 8 * 6 * 4, 8 * 8 * 24 * 4
    selection = planned(network, algorithms=SEPARATE)
    plans = {chain: kernel.plan for chain, kernel in selection.units.items()}
    assert all(plan.workspace_bytes == 0 for plan in plans.values())
    held = held_bytes(network, plans)
    # expand, depthwise, project and add, reshape (in the same place), dense, cos
    assert held == [
        image + wide, image + 2 * wide, 2 * image + wide, 2 * image, 2 * image + 64, image + 128,
    ]  # fmt: skip


def planned(
    network: Model, objective: str = "time", algorithms: Sequence[str] = ("auto",)
) -> Selection:
    return select(network.path, HOST, algorithms, Limits(), objective)[0]


def test_memory_as_the_objective_fuses_where_the_network_holds_most(
    model: Callable[..., Model],
) -> None:
    writer = Writer()
    x = writer.tensor(SHAPE)
    network = model(writer, [x], [small_network(writer, x)])
    selection = planned(network, objective="memory")
    ((chain, kernel),) = selection.blocks.items()
    assert chain == (0, 1, 2)
    assert "of the whole network" in kernel.plan.why
    separate = planned(network, algorithms=SEPARATE)
    assert peak_bytes(selection) < peak_bytes(separate)


def test_an_unknown_objective(model: Callable[..., Model]) -> None:
    writer = Writer()
    x = writer.tensor(SHAPE)
    network = model(writer, [x], [writer.pointwise(x, 6, 6)])
    with pytest.raises(
        LeanconvError, match="unknown objective 'speed': one of time, memory, least"
    ):
        planned(network, objective="speed")


def test_what_is_left(model: Callable[..., Model]) -> None:
    writer = Writer()
    x = writer.tensor(SHAPE)
    first = writer.unary(Op.SIN, x)
    network = model(writer, [x], [small_network(writer, first)])
    compiled = [node for layer in network.layers for node in layer.nodes]
    others = between(network, compiled)
    assert [network.steps[step.index].code for step in others] == [Op.RESHAPE]
    left = partitions(network, [*compiled, *(step.index for step in others)])
    assert [partition.operators for partition in left] == [("SIN",), ("COS",)]
    assert left[0].nodes == (0,)
    assert 0 < left[1].share < left[0].share < 1
