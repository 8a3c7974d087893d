"""Layers that take in the nodes around them: padding, activations, residual additions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schedules.target.simd import Simd
from tests.support.tflite_writer import Conv, Dense, ModelWriter
from tests.support.units import Unit
from tests.tflite_delegate.conftest import InterpreterApi, random_inputs, read_report, run
from tflite_delegate.read import model as tflite_model

BuildDelegate = Callable[..., Path]
HOST = Simd.named("host")
VALID = Conv(10, stride=(2, 2), padding="VALID")

#: Input shape and unit. The first dimension is the batch, except of dense layers.
ZOO: dict[str, tuple[tuple[int, ...], Unit]] = {
    "pad": ((1, 11, 9, 3), Unit(VALID, (0, 1, 0, 1))),
    "pad and activation": ((1, 8, 9, 4), Unit(VALID, (3, 2, 1, 0), "RELU6")),
    "hard swish": ((1, 7, 7, 6), Unit(Conv(9), activation="HARD_SWISH")),
    "residual": ((1, 6, 7, 8), Unit(Conv(8, (1, 1), activation="relu"), residual="relu_n1_to_1")),
    "all": (
        (1, 9, 9, 5),
        Unit(Conv(7, padding="VALID"), (1, 1, 2, 0), "RELU_N1_TO_1", "none", "RELU"),
    ),
    "pad, 1x1": ((1, 5, 6, 7), Unit(Conv(5, (1, 1), (2, 2)), (2, 0, 0, 1))),
    "float16": ((1, 5, 6, 8), Unit(Conv(8, weight_type="float16"), None, "RELU", "relu6")),
    "depthwise": ((1, 10, 9, 13), Unit(Conv(13, depthwise=True, activation="relu6"))),
    "depthwise, padded": (
        (1, 9, 9, 16),
        Unit(replace(VALID, out_channels=16, depthwise=True), (0, 1, 0, 1), "HARD_SWISH"),
    ),
    "depthwise, residual": (
        (1, 8, 8, 6), Unit(Conv(12, depthwise=True, bias=False), residual="none"),
    ),
    "depthwise, float16": (
        (1, 8, 7, 9), Unit(Conv(9, (5, 3), depthwise=True, weight_type="float16")),
    ),
    "depthwise, one channel": ((1, 8, 7, 1), Unit(Conv(9, depthwise=True, activation="relu"))),
    "swish": ((1, 7, 7, 6), Unit(Conv(9, padding="VALID"), (0, 1, 2, 1), "SWISH")),
    "swish, residual": ((1, 5, 6, 8), Unit(Conv(8), None, "SWISH", "none", "SWISH")),
    "depthwise, swish": ((1, 9, 8, 13), Unit(Conv(13, depthwise=True), activation="SWISH")),
    "dense": ((4, 37), Unit(Dense(21, "relu"))),
    "dense, one row": (
        (1, 70), Unit(Dense(10, bias=False, weight_type="float16"), activation="RELU"),
    ),
    "dense, rank 3": ((2, 3, 16), Unit(Dense(5, keep_num_dims=True), residual="none")),
    "dense, image": ((2, 3, 4, 8), Unit(Dense(6, depth=96))),
}  # fmt: skip


def zoo_model() -> bytes:
    """All of :data:`ZOO` side by side; every residual is an input of its own."""
    writer = ModelWriter()
    inputs, outputs = [], []
    for shape, unit in ZOO.values():
        inputs.append(x := writer.tensor(shape))
        r = None
        if unit.residual is not None:
            inputs.append(r := writer.tensor(unit.output_shape(shape)))
        outputs.append(unit.add(writer, x, shape, r))
    return writer.finish(inputs, outputs)


@pytest.fixture(scope="module")
def zoo_delegate(build_delegate: BuildDelegate) -> Path:
    return build_delegate(zoo_model())


def check_zoo(inputs: list[np.ndarray], outputs: list[np.ndarray]) -> None:
    values = iter(inputs)
    for (_, unit), y in zip(ZOO.values(), outputs, strict=True):
        x = next(values)
        r = next(values) if unit.residual is not None else None
        unit.check(x, r, y, HOST, "auto")


def resize_zoo(interpreter: Any, more_images: int, more_rows: int) -> None:
    """More images than in :data:`ZOO`, or rows of dense layers, and more rows of each image."""
    details = iter(interpreter.get_input_details())
    for shape, unit in ZOO.values():
        rows = 0 if isinstance(unit.layer, Dense) else more_rows
        resized = (shape[0] + more_images, shape[1] + rows, *shape[2:])
        interpreter.resize_tensor_input(next(details)["index"], resized)
        if unit.residual is not None:
            interpreter.resize_tensor_input(next(details)["index"], unit.output_shape(resized))


def test_zoo(interpreter_api: InterpreterApi, zoo_delegate: Path) -> None:
    model = zoo_model()
    delegate = interpreter_api.load_delegate(str(zoo_delegate))
    interpreter = interpreter_api.open(model, delegate, num_threads=2)
    inputs = random_inputs(interpreter)
    outputs = run(interpreter, inputs)
    check_zoo(inputs, outputs)
    report = read_report(zoo_delegate, delegate)
    assert (report["claimed"], report["unknown"]) == (len(ZOO), 0)
    entries = dict(zip(ZOO, report["layers"], strict=True))
    for name, (shape, unit) in ZOO.items():
        entry = entries[name]
        assert len(entry["nodes"]) == unit.nodes, name
        assert entry["node"] in entry["nodes"]
        assert entry["layers"] == [unit.workload(shape).with_batch(1).describe()]
        assert (entry["calls"], entry["generic_calls"]) == (1, 0), name
    # Weights that are read where the model has them; a bias that it does not have is zeros.
    assert entries["depthwise"]["packed_bytes"] == 0
    assert entries["depthwise, residual"]["packed_bytes"] == 64  # 12 channels: a whole line
    assert entries["depthwise, float16"]["packed_bytes"] == 64  # and of 9


@pytest.mark.parametrize("num_threads", [1, 2])
def test_resized(litert: InterpreterApi, zoo_delegate: Path, num_threads: int) -> None:
    """Batches have kernels, other images have not; a kernel of one row serves any rows."""
    delegate = litert.load_delegate(str(zoo_delegate))
    interpreter = litert.open(zoo_model(), delegate, num_threads=num_threads)
    for more_images, more_rows in ((0, 0), (1, 0), (1, 2), (0, 0)):
        resize_zoo(interpreter, more_images, more_rows)
        inputs = random_inputs(interpreter, seed=more_rows)
        check_zoo(inputs, run(interpreter, inputs))
    for name, entry in zip(ZOO, read_report(zoo_delegate, delegate)["layers"], strict=True):
        images = len(ZOO[name][0]) == 4 and name != "dense, image"
        calls = (4, 0) if name == "dense, one row" else (3, 1) if images else (2, 2)
        assert (entry["calls"], entry["generic_calls"]) == calls, name


def test_residual_of_another_shape(litert: InterpreterApi, zoo_delegate: Path) -> None:
    delegate = litert.load_delegate(str(zoo_delegate))
    interpreter = litert.open(zoo_model(), delegate)
    names = [n for n, (_, unit) in ZOO.items() for _ in range(1 + (unit.residual is not None))]
    detail = interpreter.get_input_details()[names.index("residual") + 1]
    interpreter.resize_tensor_input(detail["index"], (1, 1, 7, 8))
    with pytest.raises(RuntimeError, match="the operands of its addition have different shapes"):
        interpreter.allocate_tensors()


def test_residual_of_one_image(litert: InterpreterApi, prefixes: Path) -> None:
    """TFLite adds it to every image of a batch: so does the delegate."""
    model = whole_model()
    delegate = litert.load_delegate(str(prefixes))
    results = []
    for interpreter in (litert.open(model, delegate), litert.open(model)):
        index = interpreter.get_input_details()[0]["index"]
        for shape in (SHAPE, (3, *SHAPE[1:]), (2, 9, 9, 4)):
            interpreter.resize_tensor_input(index, shape)
            if shape[1:] == SHAPE[1:]:
                results.append(run(interpreter, random_inputs(interpreter))[0])
        with pytest.raises(RuntimeError):  # the images are not of one size
            interpreter.allocate_tensors()
    for y, expected in zip(results[:2], results[2:], strict=True):
        assert y.shape == expected.shape
        assert np.allclose(y, expected, rtol=0, atol=1e-5)


# What is not merged

SHAPE = (1, 8, 8, 4)
CONV = Conv(4, padding="VALID")
WHOLE = Unit(CONV, (1, 1, 1, 1), "RELU", "none", "RELU6")


def whole_model() -> bytes:
    writer = ModelWriter()
    inputs = [writer.tensor(SHAPE), writer.tensor(SHAPE)]
    return writer.finish(inputs, [WHOLE.add(writer, inputs[0], SHAPE, inputs[1])])


def check_against_builtin(
    api: InterpreterApi, library: Path, model: bytes, **options: Any
) -> list[list[int]]:
    """Compare a model with and without the delegate; the nodes of every claimed layer."""
    delegate = api.load_delegate(str(library))
    interpreter, builtin = api.open(model, delegate, **options), api.open(model)
    inputs = random_inputs(interpreter)
    for y, expected in zip(run(interpreter, inputs), run(builtin, inputs), strict=True):
        assert np.allclose(y, expected, rtol=0, atol=1e-5)
    return [entry["nodes"] for entry in read_report(library, delegate)["layers"]]


def taken_by_both(api: InterpreterApi, build: BuildDelegate, model: bytes) -> list[int]:
    """How many neighbours each layer takes in, of which the reader and the delegate agree."""
    library = build(model, ["indirect"])
    claimed = check_against_builtin(api, library, model)
    layers = tflite_model.read(library.parent / f"model_{library.stem[3:]}.tflite").layers
    assert claimed == [list(layer.nodes) for layer in layers]
    return [len(nodes) - 1 for nodes in claimed]


@pytest.fixture(scope="module")
def prefixes(build_delegate: BuildDelegate) -> Path:
    """Kernels for every part of :data:`WHOLE` that may be all that can be merged."""
    writer = ModelWriter()
    inputs, outputs = [], []
    for pads in (WHOLE.pads, None):
        for parts in range(4):
            activation = WHOLE.activation if parts else None
            residual = WHOLE.residual if parts > 1 else None
            last = WHOLE.output_activation if parts > 2 else None
            shape = SHAPE if pads else (1, 10, 10, 4)
            unit = Unit(CONV, pads, activation, residual, last)
            inputs += [writer.tensor(shape)]
            if residual:
                inputs += [writer.tensor(SHAPE)]
            outputs.append(
                unit.add(writer, inputs[-2] if residual else inputs[-1], shape, inputs[-1])
            )
    return build_delegate(writer.finish(inputs, outputs), ["im2col"])


def test_activations_in_a_row(litert: InterpreterApi, build_delegate: BuildDelegate) -> None:
    """They are taken in as long as they make up one that there is; both readers agree."""
    operators = ("RELU", "RELU6", "RELU_N1_TO_1", "HARD_SWISH")
    writer = ModelWriter()
    x = writer.tensor(SHAPE)
    outputs = []
    for fused in ("none", "relu", "relu6", "relu_n1_to_1"):
        for operator in operators:
            y, shape = writer.conv(x, SHAPE, Conv(4, (1, 1), activation=fused))
            for name in (operator, "RELU"):
                y = writer.node(name, [y], shape)
            outputs.append(y)
    residual = Unit(Conv(4, (1, 1)), None, "RELU6", "relu", "RELU6")
    y = writer.node("RELU", [x], SHAPE)
    outputs.append(writer.node("RELU", [residual.add(writer, x, SHAPE, y)], SHAPE))
    taken = taken_by_both(litert, build_delegate, writer.finish([x], outputs))
    assert taken == [2, 2, 1, 1] + [2, 2, 0, 0] + [2, 2, 0, 0] + [0, 0, 1, 0] + [4]


def test_products_that_are_no_swish(litert: InterpreterApi, build_delegate: BuildDelegate) -> None:
    """Both readers agree on what is one."""
    writer = ModelWriter()
    x = writer.tensor(SHAPE)
    outputs = []
    taken = []

    def layer(is_swish: bool, activation: str = "none") -> tuple[int, int]:
        y, shape = writer.conv(x, SHAPE, Conv(4, (1, 1), activation=activation))
        taken.append(2 if is_swish else 0)
        return y, writer.node("LOGISTIC", [y], shape)

    def product(a: int, b: int, activation: str = "none") -> None:
        outputs.append(writer.node("MUL", [a, b], SHAPE, fusedActivationFunction=activation))

    y, gate = layer(True)
    product(gate, y)
    y, gate = layer(False)
    product(y, gate, "relu")
    y, gate = layer(False, "relu6")
    product(y, gate)
    y, gate = layer(False)
    product(gate, gate)
    outputs.append(y)
    for other in ("y", "gate"):
        y, gate = layer(False)
        product(y, gate)
        outputs.append(y if other == "y" else gate)
    y, gate = layer(False)
    product(y, gate)
    outputs.append(writer.node("NEG", [gate], SHAPE))
    assert taken_by_both(litert, build_delegate, writer.finish([x], outputs)) == taken


def test_neighbours_that_stay(litert: InterpreterApi, build_delegate: BuildDelegate) -> None:
    """A PAD of more than the image, or before a convolution that pads; a second sum."""
    writer = ModelWriter()
    x = writer.tensor(SHAPE)
    outputs = []
    layers = [
        ([(1, 0), (1, 1), (1, 1), (0, 0)], CONV),
        ([(0, 0), (1, 1), (1, 1), (0, 2)], CONV),
        ([(0, 0), (1, 1), (1, 1), (0, 0)], Conv(4)),
    ]
    for amounts, conv in layers:
        shape = tuple(size + sum(both) for size, both in zip(SHAPE, amounts, strict=True))
        padded = writer.node("PAD", [x, writer.constant(np.array(amounts, np.int32))], shape)
        outputs.append(writer.conv(padded, shape, conv)[0])
    y, _ = writer.conv(x, SHAPE, Conv(4, (1, 1)))
    for _ in range(2):
        y = writer.node("ADD", [y, x], SHAPE)
    outputs.append(y)
    model = writer.finish([x], outputs)
    assert taken_by_both(litert, build_delegate, model) == [0, 0, 0, 1]


@pytest.mark.parametrize(
    ("kept", "nodes"),
    [
        (None, [0, 1, 2, 3, 4]),
        (0, [1, 2, 3, 4]),
        (1, [0, 1]),
        (2, [0, 1, 2]),
        (3, [0, 1, 2, 3]),
    ],
)
@pytest.mark.parametrize("how", ["output", "read twice"])
def test_tensors_that_are_needed(
    litert: InterpreterApi, prefixes: Path, kept: int | None, nodes: list[int], how: str
) -> None:
    """Node ``kept`` computes what the caller, or another node too, reads: it is not taken in."""
    writer = ModelWriter()
    inputs = [writer.tensor(SHAPE), writer.tensor(SHAPE)]
    outputs = [WHOLE.add(writer, inputs[0], SHAPE, inputs[1])]
    if kept is not None:
        tensor = writer.operators[kept].outputs[0]
        shape = writer.tensors[tensor].shape
        outputs.append(tensor if how == "output" else writer.node("NEG", [tensor], shape))
    assert check_against_builtin(litert, prefixes, writer.finish(inputs, outputs)) == [nodes]


@pytest.mark.parametrize("kind", ["constant", "broadcast", "late", "itself", "int64 paddings"])
def test_additions_and_paddings(litert: InterpreterApi, prefixes: Path, kind: str) -> None:
    writer = ModelWriter()
    inputs = [x := writer.tensor(SHAPE), r := writer.tensor(SHAPE)]
    dtype = np.int64 if kind == "int64 paddings" else np.int32
    amounts = np.array([(0, 0), (1, 1), (1, 1), (0, 0)], dtype)
    padded = writer.node("PAD", [x, writer.constant(amounts)], (1, 10, 10, 4))
    y, _ = writer.conv(padded, (1, 10, 10, 4), CONV)
    y = writer.node("RELU", [y], SHAPE)
    expected = [0, 1, 2]
    if kind == "constant":
        r = writer.constant(np.ones(SHAPE, np.float32))
    elif kind == "broadcast":
        inputs.append(r := writer.tensor((1, 1, 1, 4)))
    elif kind == "late":
        r = writer.node("NEG", [r], SHAPE)
    elif kind == "itself":
        r = y
    else:
        expected = [0, 1, 2, 3, 4]
    y = writer.node("ADD", [y, r], SHAPE, fusedActivationFunction="none")
    y = writer.node("RELU6", [y], SHAPE)
    assert check_against_builtin(litert, prefixes, writer.finish(inputs, [y])) == [expected]


@pytest.mark.parametrize(("first", "nodes"), [("NEG", [1, 2, 3, 4, 5]), ("PAD", [2, 3, 4, 5])])
def test_layers_that_would_be_cut(
    litert: InterpreterApi, prefixes: Path, first: str, nodes: list[int]
) -> None:
    """TFLite's partitions begin with the plan's first node: a PAD there would not wait for r."""
    writer = ModelWriter()
    inputs = [x := writer.tensor(SHAPE), r := writer.tensor(SHAPE)]
    padded, shape = -1, (1, 10, 10, 4)
    for name in ("NEG", "PAD") if first == "NEG" else ("PAD", "NEG"):
        if name == "NEG":
            r = writer.node("NEG", [r], SHAPE)
        else:
            assert WHOLE.pads is not None
            padded, shape = writer.pad(x, SHAPE, WHOLE.pads)
    y = replace(WHOLE, pads=None).add(writer, padded, shape, r)
    assert check_against_builtin(litert, prefixes, writer.finish(inputs, [y])) == [nodes]


def test_operators_that_have_no_kernel(
    litert: InterpreterApi, build_delegate: BuildDelegate
) -> None:
    """A kernel for the convolution alone: what it could take in are operators of their own."""
    writer = ModelWriter()
    x = writer.tensor((1, 10, 10, 4))
    library = build_delegate(writer.finish([x], [writer.conv(x, (1, 10, 10, 4), CONV)[0]]))
    model = whole_model()
    assert check_against_builtin(litert, library, model) == [[1]]
    delegate = litert.load_delegate(str(library))
    interpreter = litert.open(model, delegate)
    interpreter.allocate_tensors()
    report = read_report(library, delegate)
    assert sorted(entry["node"] for entry in report["operators"]) == [0, 2, 3, 4]


def test_several_interpreters(litert: InterpreterApi, zoo_delegate: Path) -> None:
    delegate = litert.load_delegate(str(zoo_delegate))
    interpreters = [litert.open(zoo_model(), delegate, num_threads=n) for n in (1, 2)]
    inputs = random_inputs(interpreters[0])
    for _ in range(2):
        for interpreter in interpreters:
            check_zoo(inputs, run(interpreter, inputs))
    entries = read_report(zoo_delegate, delegate)["layers"]
    assert [entry["calls"] for entry in entries] == [2] * 2 * len(ZOO)


# Nodes that no converter writes


def damaged(kind: str) -> bytes:
    """One unit of :data:`ZOO` with something wrong in it."""
    name = kind.split(":")[0]
    shape, unit = ZOO[name]
    writer = ModelWriter()
    inputs = [x := writer.tensor(shape)]
    if unit.residual is not None:
        inputs.append(writer.tensor(unit.output_shape(shape)))
    y = unit.add(writer, x, shape, inputs[-1])
    first, last = writer.operators[0], writer.operators[-1]
    damage = kind.split(": ")[1]
    if damage == "weights in another order":
        writer.tensors[last.inputs[1]].shape.reverse()
    elif damage == "weights of rank 1":
        writer.tensors[last.inputs[1]].shape = [21 * 37]
    elif damage == "shuffled weights":
        last.builtinOptions.weightsFormat = 1
    elif damage == "stride 0":
        last.builtinOptions.strideH = 0
    elif damage == "rows that do not divide":
        writer.tensors[x].shape = [3, 13]
    elif damage == "paddings of rank 1":
        writer.tensors[first.inputs[1]].shape = [8]
    elif damage == "three paddings":
        writer.tensors[first.inputs[1]].shape = [3, 2]
    else:
        amounts = {"negative": (1, -1), "channels": (3, 1)}[damage]
        data = writer.buffers[writer.tensors[first.inputs[1]].buffer].data.view(np.int32).copy()
        data[2 * amounts[0]] = amounts[1]
        writer.buffers[writer.tensors[first.inputs[1]].buffer].data = data.view(np.uint8)
    return writer.finish(inputs, [y])


@pytest.mark.parametrize(
    "kind",
    [
        *(f"depthwise: {d}" for d in ("weights in another order", "stride 0")),
        *(f"dense: {d}" for d in ("weights of rank 1", "shuffled weights")),
        "dense: rows that do not divide",
        *(f"pad: {d}" for d in ("paddings of rank 1", "three paddings", "negative", "channels")),
    ],
)
def test_damaged_nodes(
    litert: InterpreterApi, zoo_delegate: Path, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """They are left to TFLite, which refuses most of them."""
    delegate = litert.load_delegate(str(zoo_delegate), {"verbose": 2})
    litert.open(damaged(kind), delegate)
    assert capfd.readouterr().err.count("stays with TFLite: ") == 1
