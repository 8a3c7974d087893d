"""Operators that write over an input: where TFLite lets them, and never what is still needed.

The reference for the values is the same library in an interpreter that preserves all tensors, where
no two share memory: the results must be equal to the last bit. One library serves all models, each
of which begins with a convolution that copies.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.tflite_writer import Conv, ModelWriter
from tests.tflite_delegate.conftest import InterpreterApi, random_inputs, read_report, run

SMALL, LARGE = (1, 9, 7, 12), (1, 60, 61, 12)  # the large one is shared by threads
NONE = {"fusedActivationFunction": "none"}


class Graph:
    """A model that begins with a copied image, and what is written of it so far."""

    def __init__(self, shape: tuple[int, ...] = SMALL) -> None:
        self.writer = ModelWriter()
        self.shape = shape
        self.inputs = [self.writer.tensor(shape)]
        self.x = self.copy(self.inputs[0])

    def copy(self, tensor: int) -> int:
        """A 1x1 convolution that copies: every product but one is zero."""
        channels = self.shape[3]
        weights = np.eye(channels, dtype=np.float32).reshape(channels, 1, 1, channels)
        constants = [self.writer.constant(weights)]
        constants.append(self.writer.constant(np.zeros(channels, np.float32)))
        return self.writer.conv(tensor, self.shape, Conv(channels, (1, 1)), constants=constants)[0]

    def node(self, name: str, *inputs: int, shape: tuple[int, ...] | None = None) -> int:
        """An operator without a fused activation."""
        fields = NONE if name in ("ADD", "SUB", "MUL", "DIV") else {}
        return self.writer.node(name, inputs, self.shape if shape is None else shape, **fields)

    def reshape(self, tensor: int, *shape: int, batch: bool = True) -> int:
        """A RESHAPE; its first size is told as -1, so that batches may follow."""
        wanted = (-1, *shape[1:]) if batch else shape
        constant = self.writer.constant(np.array(wanted, np.int32))
        return self.writer.node("RESHAPE", [tensor, constant], shape)


@pytest.fixture(scope="module")
def library(build_delegate: Callable[..., Path]) -> Path:
    writer = ModelWriter()
    inputs, outputs = [], []
    for shape in (SMALL, LARGE):
        graph = Graph(shape)
        inputs.append(writer.tensor(shape))
        weights = np.eye(12, dtype=np.float32).reshape(12, 1, 1, 12)
        constants = [writer.constant(weights), writer.constant(np.zeros(12, np.float32))]
        outputs.append(writer.conv(inputs[-1], graph.shape, Conv(12, (1, 1)), False, constants)[0])
    return build_delegate(writer.finish(inputs, outputs))


class Ran:
    """Results of a model, and which of its tensors share memory."""

    def __init__(
        self, api: InterpreterApi, library: Path, model: bytes, batch: int = 1, threads: int = 1
    ) -> None:
        def open_one(**options: Any) -> Any:
            interpreter = api.open(
                model, api.load_delegate(str(library)), num_threads=threads, **options
            )
            for detail in interpreter.get_input_details():
                shape = [batch * detail["shape"][0], *detail["shape"][1:]]
                interpreter.resize_tensor_input(detail["index"], shape)
            return interpreter

        self.interpreter = open_one()
        values = [4 * value for value in random_inputs(self.interpreter)]
        self.results = run(self.interpreter, values)
        self.apart = run(open_one(experimental_preserve_all_tensors=True), values)
        self.again = run(self.interpreter, values)
        self.inputs = [
            self.interpreter.get_tensor(detail["index"]).copy()
            for detail in self.interpreter.get_input_details()
        ]
        self.values = values

    def check(self) -> None:
        """Results, also of a second run, are right, and inputs are what they were."""
        assert len(self.results) == len(self.apart) > 0
        for result, again, expected in zip(self.results, self.again, self.apart, strict=True):
            assert np.array_equal(result, expected)
            assert np.array_equal(again, expected)
        for value, given in zip(self.inputs, self.values, strict=True):
            assert np.array_equal(value, given)

    def place(self, tensor: int) -> int:
        """Where a tensor's memory begins."""
        return int(self.interpreter.tensor(tensor)().ctypes.data)

    def share(self, *tensors: int) -> bool:
        """Whether all have the same memory."""
        return len({self.place(tensor) for tensor in tensors}) == 1


@pytest.mark.parametrize("shape", [SMALL, LARGE])
@pytest.mark.parametrize(("batch", "threads"), [(1, 1), (3, 2)])
def test_a_chain_has_one_place(
    interpreter_api: InterpreterApi,
    library: Path,
    shape: tuple[int, ...],
    batch: int,
    threads: int,
) -> None:
    graph = Graph(shape)
    chain = [graph.x]
    for name in ("RELU6", "HARD_SWISH", "LOGISTIC"):
        chain.append(graph.node(name, chain[-1]))
    factors = graph.writer.constant(np.linspace(-2, 2, 12, dtype=np.float32))
    chain.append(graph.node("MUL", chain[-1], factors))
    chain.append(graph.node("SUB", factors, chain[-1]))
    chain.append(graph.node("PRELU", chain[-1], factors))
    chain.append(graph.reshape(chain[-1], 1, 12 * shape[1], shape[2]))
    chain.append(graph.reshape(chain[-1], *shape))
    chain.append(graph.node("SOFTMAX", chain[-1]))
    output = graph.node("RELU", chain[-1])
    ran = Ran(interpreter_api, library, graph.writer.finish(graph.inputs, [output]), batch, threads)
    ran.check()
    assert ran.share(*chain)
    assert not ran.share(chain[-1], output)
    assert not ran.share(graph.inputs[0], chain[0])


def test_what_is_read_again_is_kept(litert: InterpreterApi, library: Path) -> None:
    """x logistic(x): the product takes the place of one of the factors."""
    graph = Graph()
    sigmoid = graph.node("LOGISTIC", graph.x)
    swish = graph.node("MUL", graph.x, sigmoid)
    ran = Ran(
        litert, library, graph.writer.finish(graph.inputs, [graph.node("RELU", swish)]), batch=2
    )
    ran.check()
    assert not ran.share(graph.x, sigmoid)
    assert ran.share(graph.x, swish) or ran.share(sigmoid, swish)


def test_a_tensor_with_itself(litert: InterpreterApi, library: Path) -> None:
    graph = Graph(LARGE)
    twice = graph.node("ADD", graph.x, graph.x)
    square = graph.node("MUL", twice, twice)
    model = graph.writer.finish(graph.inputs, [graph.node("RELU", square)])
    ran = Ran(litert, library, model, threads=2)
    ran.check()
    assert ran.share(graph.x, twice, square)
    assert np.array_equal(ran.results[0], np.square(ran.values[0] + ran.values[0]))


@pytest.mark.parametrize("first", [False, True])
def test_stretched_operands(litert: InterpreterApi, library: Path, first: bool) -> None:
    """Only the operand that has the output's shape gives its place."""
    graph = Graph()
    axes = graph.writer.constant(np.array([1, 2], np.int32))
    mean = graph.writer.node("MEAN", [graph.x, axes], (1, 1, 1, 12), keepDims=True)
    operands = [mean, graph.x] if first else [graph.x, mean]
    centred = graph.node("SUB", *operands)
    grown = graph.node("MAXIMUM", graph.node("RELU", mean, shape=(1, 1, 1, 12)), centred)
    model = graph.writer.finish(graph.inputs, [graph.node("RELU6", grown)])
    ran = Ran(litert, library, model, batch=2)
    ran.check()
    assert ran.share(centred, grown)
    assert not ran.share(graph.x, centred)  # two nodes read the image


def test_a_view_of_a_view(litert: InterpreterApi, library: Path) -> None:
    """TFLite looks at the readers of the first and the last tensor that share memory."""
    graph = Graph()
    between = graph.reshape(graph.x, 1, 63, 12)
    last = graph.reshape(between, 1, 756)
    overwriting = graph.node("RELU6", last, shape=(1, 756))
    later = graph.node("LOGISTIC", between, shape=(1, 63, 12))
    outputs = [
        graph.node("RELU", overwriting, shape=(1, 756)),
        graph.node("RELU", later, shape=(1, 63, 12)),
    ]
    ran = Ran(litert, library, graph.writer.finish(graph.inputs, outputs), batch=2)
    ran.check()
    assert ran.share(graph.x, between, last)
    assert not ran.share(last, overwriting)


def test_graph_outputs_and_inputs_stay(litert: InterpreterApi, library: Path) -> None:
    graph = Graph()
    graph.inputs.append(graph.writer.tensor(SMALL))
    total = graph.node("ADD", graph.inputs[1], graph.x)  # not in the input's place
    clipped = graph.node("RELU6", total)
    view = graph.reshape(clipped, 1, 756)
    outputs = [graph.x, total, clipped, graph.node("RELU_N1_TO_1", view, shape=(1, 756)), view]
    ran = Ran(litert, library, graph.writer.finish(graph.inputs, outputs), batch=2)
    ran.check()
    assert len({ran.place(tensor) for tensor in (*graph.inputs, *outputs)}) == 7


def test_variables_stay(litert: InterpreterApi, library: Path) -> None:
    """A variable tensor is zero at first, and nobody writes it here."""
    graph = Graph()
    variable = graph.writer.tensor(SMALL)
    graph.writer.tensors[variable].isVariable = True
    total = graph.node("ADD", variable, graph.x)
    model = graph.writer.finish(graph.inputs, [graph.node("RELU6", total)])
    ran = Ran(litert, library, model)
    ran.check()
    assert np.array_equal(ran.results[0], np.clip(ran.values[0], 0, 6))
    assert not ran.share(variable, total)


def test_order_of_operands_and_of_tensors(litert: InterpreterApi, library: Path) -> None:
    """A delegate's node has its inputs by index: constants may come before, operands be swapped."""
    writer = ModelWriter()
    wanted = writer.constant(np.array([-1, 756], np.int32))
    graph = Graph()
    graph.writer, graph.inputs = writer, [writer.tensor(SMALL)]
    second, first = (writer.tensor(SMALL) for _ in range(2))
    x = graph.copy(graph.inputs[0])
    for name, output in (("RELU", first), ("HARD_SWISH", second)):
        produced = graph.node(name, x)
        writer.operators[-1].outputs = [output]
        assert produced > output
    ratio = graph.node("DIV", first, second)
    flat = writer.node("RESHAPE", [ratio, wanted], (1, 756))
    ran = Ran(litert, library, writer.finish(graph.inputs, [graph.node("RELU6", flat)]), batch=2)
    assert np.array_equal(ran.results[0], ran.apart[0], equal_nan=True)
    assert ran.share(second, ratio, flat)


def test_residuals(litert: InterpreterApi, library: Path) -> None:
    """A residual is computed in place, and nothing takes its place before it is added."""
    graph = Graph()
    clipped = graph.node("RELU6", graph.x)
    total = graph.node("ADD", graph.copy(clipped), clipped)
    swish = graph.node("HARD_SWISH", total)
    product = graph.node("MUL", swish, clipped)
    model = graph.writer.finish(graph.inputs, [graph.node("RELU", product)])
    ran = Ran(litert, library, model, batch=3, threads=2)
    ran.check()
    assert ran.share(graph.x, clipped)
    assert not ran.share(clipped, swish)


def random_graph(seed: int) -> tuple[Graph, dict[int, tuple[int, ...]]]:
    """Operators in any order on any tensors that are there; the shapes of these."""
    rng = np.random.default_rng(seed)
    graph = Graph()
    shapes: dict[int, tuple[int, ...]] = {graph.x: SMALL}
    for _ in range(14):
        x = int(rng.choice(list(shapes)[-5:]))
        alike = [tensor for tensor, shape in shapes.items() if shape == shapes[x]]
        kind = rng.integers(6)
        if kind < 2:
            shape = (SMALL, (1, 63, 12), (1, 756))[rng.integers(3)]
            shapes[graph.reshape(x, *shape)] = shape
        elif kind < 4:
            name = str(rng.choice(["ADD", "SUB", "MUL", "MAXIMUM", "MINIMUM"]))
            operands = [x, int(rng.choice(alike))]
            shapes[graph.node(name, *operands, shape=shapes[x])] = shapes[x]
        elif kind == 4 and shapes[x] == SMALL:
            shapes[graph.copy(x)] = SMALL
        else:
            name = str(rng.choice(["RELU6", "LOGISTIC", "HARD_SWISH", "SOFTMAX"]))
            shapes[graph.node(name, x, shape=shapes[x])] = shapes[x]
    return graph, shapes


@pytest.mark.parametrize("seed", range(24))
def test_random_graphs(litert: InterpreterApi, library: Path, seed: int) -> None:
    """Some tensors are outputs, and some nobody reads."""
    graph, shapes = random_graph(seed)
    *_, last = shapes
    others = np.random.default_rng(seed).choice(list(shapes), 2)
    outputs = sorted({last, *(int(tensor) for tensor in others)})
    ran = Ran(litert, library, graph.writer.finish(graph.inputs, outputs), batch=1 + seed % 2)
    ran.check()


@pytest.mark.parametrize("seed", range(24, 36))
def test_random_graphs_as_one_node(litert: InterpreterApi, library: Path, seed: int) -> None:
    """The delegate then places the tensors itself."""
    graph, shapes = random_graph(seed)
    read = {tensor for operator in graph.writer.operators for tensor in operator.inputs}
    outputs = [tensor for tensor in shapes if tensor not in read]
    model = graph.writer.finish(graph.inputs, outputs)
    delegate = litert.load_delegate(str(library), {"one_node": "1"})
    one = litert.open(model, delegate)
    many = litert.open(
        model, litert.load_delegate(str(library)), experimental_preserve_all_tensors=True
    )
    values = random_inputs(many)
    for result, expected in zip(run(one, values), run(many, values), strict=True):
        assert np.array_equal(result, expected)
    assert len(one._get_ops_details()) > len(shapes)  # TFLite has added a node


def test_what_nobody_reads_is_not_ours(interpreter_api: InterpreterApi, library: Path) -> None:
    """A delegate's node gets no memory for it."""
    graph = Graph()
    output = graph.node("RELU6", graph.x)
    graph.node("HARD_SWISH", graph.copy(graph.x))
    graph.copy(output)
    graph.reshape(graph.node("LOGISTIC", output), 1, 756)
    ran = Ran(interpreter_api, library, graph.writer.finish(graph.inputs, [output]))
    ran.check()
    assert np.array_equal(ran.results[0], np.clip(ran.values[0], 0, 6))


def test_the_operators_are_claimed(litert: InterpreterApi, library: Path) -> None:
    """Or nothing above would tell anything."""
    graph = Graph()
    view = graph.reshape(graph.node("RELU6", graph.x), 1, 756)
    delegate = litert.load_delegate(str(library))
    model = graph.writer.finish(graph.inputs, [view])
    interpreter = litert.open(model, delegate)
    run(interpreter, random_inputs(interpreter))
    entries = read_report(library, delegate)["operators"]
    assert [entry["calls"] for entry in entries] == [1, 1]
