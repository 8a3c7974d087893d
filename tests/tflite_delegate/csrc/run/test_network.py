"""The option one_node: a graph that is all ours as one node of TFLite, and what the log says."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.tflite_writer import Conv, Dense, ModelWriter
from tests.tflite_delegate.conftest import InterpreterApi, random_inputs, read_report, run
from tests.tflite_delegate.csrc.operators.operator_cases import fused, identity, ints, windows
from tvmc.running.probe import Probe

BuildDelegate = Callable[..., Path]
X = (1, 9, 7, 12)
ONE_NODE = {"one_node": 1}


def residual_network(dynamic_batch: bool = True, operand: str = "float16") -> bytes:
    """A residual block, float16 layers, operators between, and an output in the middle.

    One operator has a constant ``operand`` of that type.
    """
    writer = ModelWriter()
    x = writer.tensor(X, dynamic_batch=dynamic_batch)
    first, shape = writer.conv(x, X, Conv(12, activation="relu"))
    middle, shape = writer.conv(first, shape, Conv(12, depthwise=True, activation="relu6"))
    last, shape = writer.conv(middle, shape, Conv(12, (1, 1)))
    added = writer.node("ADD", [last, first], shape, **fused("relu"))
    half, shape = writer.conv(added, shape, Conv(20, (5, 3), weight_type="float16"))
    pooled = writer.node(
        "MAX_POOL_2D", [half], (1, 4, 3, 20), **windows((2, 2), (2, 2), "VALID")
    )  # fmt: skip
    flat = writer.node("RESHAPE", [pooled, writer.constant(ints(-1, 240))], (1, 240))
    scores, shape = writer.dense(flat, (1, 240), Dense(10))
    factors = writer.constant(np.linspace(0.5, 1.5, 10).astype(operand))
    scaled = writer.node("MUL", [scores, factors], (1, 10), **fused("none"))
    likely = writer.node("SOFTMAX", [scaled], (1, 10), beta=1.0)
    return writer.finish([x], [added, likely])


@pytest.fixture(scope="module")
def library(build_delegate: BuildDelegate) -> Path:
    return build_delegate(residual_network())


@pytest.fixture(scope="module")
def copies(build_delegate: BuildDelegate) -> Path:
    """Kernels of the layer that copies, alone and with a residual."""
    writer = ModelWriter()
    x = writer.tensor(X)
    alone = identity(writer, x, X)
    added = writer.node("ADD", [identity(writer, alone, X), x], X, **fused("none"))
    return build_delegate(writer.finish([x], [alone, added]))


def leanconv_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("leanconv: ")]


def round_up(size: int) -> int:
    return -(-size // 64) * 64


@pytest.mark.parametrize("threads", [1, 2])
def test_same_numbers_and_memory(
    interpreter_api: InterpreterApi, library: Path, threads: int
) -> None:
    model = residual_network()
    results, arenas, reports = [], [], []
    for options in ({}, ONE_NODE):
        delegate = interpreter_api.load_delegate(str(library), options)
        interpreter = interpreter_api.open(model, delegate, num_threads=threads)
        inputs = random_inputs(interpreter)
        results.append(run(interpreter, inputs))
        reports.append(read_report(library, delegate))
        probe = Probe(interpreter)
        arenas.append(probe.arena_bytes())
    assert all(map(np.array_equal, *results))
    # TFLite keeps the outputs while the node runs, which others could use until they are computed.
    assert arenas[1] <= arenas[0] + sum(round_up(output.nbytes) for output in results[0])
    # What TFLite dequantizes for the node of MUL alone lies in an arena of its own.
    operand = 10 * np.dtype(np.float32).itemsize
    measured = [report["memory"].pop("arena_bytes") for report in reports]
    assert measured == [arenas[0] - operand, arenas[1]]
    many, one = reports
    assert one == many
    ours = [*one["layers"], *one["operators"]]
    count = len(ours) + 1  # the operand that TFLite would dequantize
    assert [node.name for node in probe.nodes] == [f"leanconv/network {count} nodes"]
    assert [entry["calls"] for entry in ours] == [1] * len(ours)


def test_resizes(interpreter_api: InterpreterApi, library: Path) -> None:
    """A batch; another image, where no kernel fits; and back."""
    model = residual_network()
    delegate = interpreter_api.load_delegate(str(library), ONE_NODE)
    interpreter, builtin = interpreter_api.open(model, delegate), interpreter_api.open(model)
    for batch in (1, 3, 2, 1):
        for session in (interpreter, builtin):
            index = session.get_input_details()[0]["index"]
            session.resize_tensor_input(index, (batch, *X[1:]))
            session.allocate_tensors()
        inputs = random_inputs(interpreter, seed=batch)
        for y, expected in zip(run(interpreter, inputs), run(builtin, inputs), strict=True):
            assert y.shape == expected.shape
            np.testing.assert_allclose(y, expected, rtol=0, atol=1e-5)
    assert len(Probe(interpreter).nodes) == 1


def test_interpreters_in_threads(litert: InterpreterApi, library: Path) -> None:
    model = residual_network()
    delegate = litert.load_delegate(str(library), ONE_NODE)
    interpreters = [litert.open(model, delegate, num_threads=threads) for threads in (1, 2, 2)]
    inputs = random_inputs(interpreters[0])
    expected = run(interpreters[0], inputs)
    wrong: list[int] = []

    def work(number: int, interpreter: Any) -> None:
        for _ in range(20):
            if not all(map(np.array_equal, run(interpreter, inputs), expected)):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=pair) for pair in enumerate(interpreters)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def random_graph(seed: int) -> bytes:
    """Operators that may work in place, on tensors that others read as well or do not."""
    rng = np.random.default_rng(seed)
    writer = ModelWriter()
    inputs = [writer.tensor(X) for _ in range(2)]
    images = [identity(writer, x, X) for x in inputs]
    rows: list[int] = []
    for _ in range(14):
        kind = rng.choice(["ADD", "MAXIMUM", "SUB", "RELU6", "to rows", "to image", "CONV"])
        if kind == "to rows":
            wanted = writer.constant(ints(1, 756))
            rows.append(writer.node("RESHAPE", [int(rng.choice(images)), wanted], (1, 756)))
        elif kind == "to image" and rows:
            wanted = writer.constant(ints(*X))
            images.append(writer.node("RESHAPE", [int(rng.choice(rows)), wanted], X))
        elif kind == "CONV":
            images.append(identity(writer, int(rng.choice(images)), X))
        elif kind in ("ADD", "MAXIMUM", "SUB", "RELU6"):
            tensors, shape = (rows, (1, 756)) if rows and rng.random() < 0.3 else (images, X)
            operands = [int(rng.choice(tensors)) for _ in range(1 if kind == "RELU6" else 2)]
            options = fused("none") if kind in ("ADD", "SUB") else {}
            tensors.append(writer.node(str(kind), operands, shape, **options))
    read = {tensor for node in writer.operators for tensor in node.inputs}
    tensors = [*images, *rows]
    outputs = sorted({*tensors} - read | {*map(int, rng.choice(tensors, 2))})
    return writer.finish(inputs, outputs)


@pytest.mark.parametrize("seed", range(30))
def test_memory_in_random_graphs(litert: InterpreterApi, copies: Path, seed: int) -> None:
    """Nothing is written over that somebody still reads: every operator here is exact."""
    model = random_graph(seed)
    delegate = litert.load_delegate(str(copies), ONE_NODE)
    interpreter, builtin = litert.open(model, delegate), litert.open(model)
    inputs = random_inputs(interpreter)
    for y, expected in zip(run(interpreter, inputs), run(builtin, inputs), strict=True):
        assert np.array_equal(y, expected)
    assert len(Probe(interpreter).nodes) == 1


def with_operator_of_tflite() -> bytes:
    writer = ModelWriter()
    x = writer.tensor(X)
    y = identity(writer, writer.node("COS", [identity(writer, x, X)], X), X)
    return writer.finish([x], [y])


def test_graph_that_is_not_all_ours(
    litert: InterpreterApi, copies: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = with_operator_of_tflite()
    interpreter = litert.open(model, litert.load_delegate(str(copies), ONE_NODE))
    (x,) = random_inputs(interpreter)
    np.testing.assert_allclose(run(interpreter, [x])[0], np.cos(x), rtol=0, atol=1e-6)
    assert leanconv_lines(capfd.readouterr().err) == [
        "leanconv: one_node: node 1 (operator 108) is not for this delegate: a node for each layer"
    ]
    assert len(Probe(interpreter).nodes) == 3


def test_nothing_left_is_said(
    litert: InterpreterApi, library: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for options, hint in (({}, " (one_node:1 makes one node of the whole graph)"), (ONE_NODE, "")):
        model = residual_network(operand="float32")
        litert.open(model, litert.load_delegate(str(library), options))
        lines = leanconv_lines(capfd.readouterr().err)
        assert lines == [f"leanconv: no operator is left to TFLite{hint}"]


@pytest.mark.parametrize("options", [{}, ONE_NODE])
def test_another_delegate_came_first(
    litert: InterpreterApi,
    library: Path,
    capfd: pytest.CaptureFixture[str],
    options: dict[str, int],
) -> None:
    """As with the stock tool where it applies XNNPACK before: our name, and not our work."""
    model = residual_network(dynamic_batch=False)
    interpreter = litert.open(model, xnnpack=True)
    interpreter.allocate_tensors()  # which applies it
    capfd.readouterr()
    delegate = litert.load_delegate(str(library), options)
    pointer = delegate._get_native_delegate_pointer()
    interpreter._interpreter.ModifyGraphWithDelegate(pointer)
    assert leanconv_lines(capfd.readouterr().err) == [
        "leanconv: every node is taken by another delegate already: nothing runs here. Apply this "
        "delegate first"
    ]
    assert read_report(library, delegate)["claimed"] == 0
    del interpreter
