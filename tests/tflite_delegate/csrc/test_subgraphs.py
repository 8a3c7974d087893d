"""Models of several graphs, and layers of one geometry with different kernels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from schedules.select.selection import Selection
from schedules.target.simd import Simd
from tests.support.tflite_graphs import join
from tests.support.tflite_writer import Conv, ModelWriter, chain
from tests.tflite_delegate.conftest import InterpreterApi, read_report, run
from tflite_delegate.build import build
from tflite_delegate.read.model import read
from tflite_delegate.selection import select

BuildDelegate = Callable[..., Path]
HOST = Simd.named("host")
X = (1, 9, 8, 6)
LOOPED = Conv(6, activation="relu6", seed=1)
CHOSEN = (Conv(7, (1, 1), seed=2), Conv(7, (5, 3), activation="relu", seed=3))
TURNS = 3


def main_graph() -> bytes:
    """A loop, and a condition on what comes out of it."""
    writer = ModelWriter()
    flag = writer.tensor((), "bool")
    x = writer.tensor(X)
    zero = writer.tensor((1,), "int32", np.zeros(1, np.int32))
    count, looped, y = writer.tensor((1,), "int32"), writer.tensor(X), writer.tensor((*X[:3], 7))
    turns, branches = schema.WhileOptionsT(), schema.IfOptionsT()
    turns.condSubgraphIndex, turns.bodySubgraphIndex = 1, 2
    branches.thenSubgraphIndex, branches.elseSubgraphIndex = 3, 4
    options, operators = schema.BuiltinOptions, schema.BuiltinOperator
    writer.operator(operators.WHILE, [zero, x], [count, looped], turns, options.WhileOptions)
    writer.operator(operators.IF, [flag, looped], [y], branches, options.IfOptions)
    return writer.finish([flag, x], [y])


def condition() -> bytes:
    writer = ModelWriter()
    count, x = writer.tensor((1,), "int32"), writer.tensor(X)
    limit = writer.tensor((1,), "int32", np.full(1, TURNS, np.int32))
    less = writer.tensor((1,), "bool")
    writer.operator(schema.BuiltinOperator.LESS, [count, limit], [less])
    return writer.finish([count, x], [less])


def body() -> bytes:
    writer = ModelWriter()
    count, x = writer.tensor((1,), "int32"), writer.tensor(X)
    one = writer.tensor((1,), "int32", np.ones(1, np.int32))
    next_count = writer.tensor((1,), "int32")
    options = schema.AddOptionsT()
    kind = schema.BuiltinOptions.AddOptions
    writer.operator(schema.BuiltinOperator.ADD, [count, one], [next_count], options, kind)
    return writer.finish([count, x], [next_count, writer.conv(x, X, LOOPED)[0]])


def branch(conv: Conv) -> bytes:
    writer = ModelWriter()
    x = writer.tensor(X)
    return writer.finish([x], [writer.conv(x, X, conv)[0]])


def looping_model() -> bytes:
    return join([main_graph(), condition(), body(), *map(branch, CHOSEN)])


@pytest.mark.parametrize("flag", [True, False])
@pytest.mark.parametrize("one_node", [0, 1])
def test_bodies(
    interpreter_api: InterpreterApi, build_delegate: BuildDelegate, flag: bool, one_node: int
) -> None:
    """Layers in a loop and behind a condition have kernels, and give what TFLite's give."""
    model = looping_model()
    library = build_delegate(model)
    delegate = interpreter_api.load_delegate(str(library), {"one_node": one_node})
    interpreter, builtin = interpreter_api.open(model, delegate), interpreter_api.open(model)
    x = np.random.default_rng(0).uniform(-1, 1, X).astype(np.float32)
    y, expected = (run(session, [np.array(flag), x])[0] for session in (interpreter, builtin))
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-5)
    report = read_report(library, delegate)
    calls = {entry["layers"][0]: entry["calls"] for entry in report["layers"]}
    assert report["unknown"] == 0
    assert calls == {
        "conv3x3 9x8x6->6 relu6": TURNS,
        "conv1x1 9x8x6->7": int(flag),
        "conv5x3 9x8x6->7 relu": int(not flag),
    }
    assert not any(entry["generic_calls"] for entry in report["layers"])


def test_what_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "loop.tflite"
    path.write_bytes(looping_model())
    report = build(path, tmp_path / "lib.so", HOST)
    assert report.layers == ()
    named = [
        (graph.subgraph, [layer.geometry for layer in graph.layers]) for graph in report.subgraphs
    ]
    assert named == [
        (1, []), (2, ["conv3x3 9x8x6->6 relu6"]), (3, ["conv1x1 9x8x6->7"]),
        (4, ["conv5x3 9x8x6->7 relu"]),
    ]  # fmt: skip


def two_signatures() -> bytes:
    """Two graphs with one layer in common."""
    graphs = []
    for last in CHOSEN:
        writer = ModelWriter()
        x = writer.tensor(X)
        y, shape = writer.conv(x, X, LOOPED)
        graphs.append(writer.finish([x], [writer.conv(y, shape, last)[0]]))
    return join(graphs, {"first": 0, "second": 1})


def test_signatures(litert: InterpreterApi, tmp_path: Path) -> None:
    model = two_signatures()
    path, library = tmp_path / "two.tflite", tmp_path / "lib.so"
    path.write_bytes(model)
    assert [graph.signatures for graph in read(path).graphs] == [("first",), ("second",)]
    report = build(path, library, HOST, algorithms=["im2col"])
    assert [graph.signatures for graph in report.subgraphs] == [("second",)]
    assert read_report(library, None)["kernels"] == 3, "the common layer has one"
    delegate = litert.load_delegate(str(library))
    interpreter, builtin = litert.open(model, delegate), litert.open(model)
    x = np.random.default_rng(0).uniform(-1, 1, X).astype(np.float32)
    for key in ("first", "second"):
        runners = [session.get_signature_runner(key) for session in (interpreter, builtin)]
        (y,), (expected,) = (runner(tensor_0=x).values() for runner in runners)
        np.testing.assert_allclose(y, expected, rtol=0, atol=1e-5)
    entries = read_report(library, delegate)["layers"]
    assert [entry["calls"] for entry in entries] == [1, 1, 1, 1]


# Kernels by node


def algorithms_of(litert: InterpreterApi, library: Path, model: bytes, **options: str) -> list[str]:
    """Of each layer of a model, once what it computes is what TFLite's kernels compute."""
    delegate = litert.load_delegate(str(library), options)
    interpreter, builtin = litert.open(model, delegate), litert.open(model)
    for batch in (1, 2):
        for session in (interpreter, builtin):
            index = session.get_input_details()[0]["index"]
            session.resize_tensor_input(index, (batch, *X[1:]))
            session.allocate_tensors()
        x = np.random.default_rng(batch).uniform(-1, 1, (batch, *X[1:])).astype(np.float32)
        y, expected = (run(session, [x])[0] for session in (interpreter, builtin))
        np.testing.assert_allclose(y, expected, rtol=0, atol=1e-5)
    entries = read_report(library, delegate)["layers"]
    assert not any(entry["generic_calls"] for entry in entries)
    return [entry["algorithm"] for entry in entries]


def built_with(
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    model: bytes,
    algorithms: list[str],
    change: Callable[[Selection], Selection],
) -> Path:
    """A delegate for a selection that has been changed."""

    def changed(*arguments: Any) -> tuple[Selection, ...]:
        (selection,) = select(*arguments)
        return (change(selection),)

    path, library = folder / "model.tflite", folder / "lib.so"
    path.write_bytes(model)
    monkeypatch.setattr("tflite_delegate.build.select", changed)
    build(path, library, HOST, algorithms=algorithms)
    return library


def test_equal_layers_with_different_kernels(
    litert: InterpreterApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the place in the model that was compiled, by shape in any other."""

    def exchanged(selection: Selection) -> Selection:
        first, second = selection.layers
        second = replace(second, kernels=second.kernels[::-1])
        return replace(selection, layers=(first, second))

    two, three = (chain(X, [LOOPED] * count, dynamic_batch=True) for count in (2, 3))
    library = built_with(monkeypatch, tmp_path, two, ["im2col", "indirect"], exchanged)
    assert algorithms_of(litert, library, two) == ["im2col", "indirect"]
    assert algorithms_of(litert, library, two, one_node="1") == ["im2col", "indirect"]
    assert algorithms_of(litert, library, two, algorithm="indirect") == ["indirect"] * 2
    assert algorithms_of(litert, library, three) == ["im2col"] * 3


def test_equal_chains_as_a_block_and_layer_by_layer(
    litert: InterpreterApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = [
        Conv(24, (1, 1), activation="relu6"),
        Conv(24, depthwise=True, activation="relu6"),
        Conv(6, (1, 1)),
    ]

    def only_the_second(selection: Selection) -> Selection:
        (first, second) = selection.blocks
        assert (first, second) == ((0, 1, 2), (3, 4, 5))
        alone = tuple(replace(s, kernels=s.kernels[1:]) for s in selection.layers[:3])
        blocks = {second: selection.blocks[second]}
        return replace(selection, layers=(*alone, *selection.layers[3:]), blocks=blocks)

    model = chain(X, [*block, *block], dynamic_batch=True)
    names = ["fused_block", "indirect", "depthwise"]
    library = built_with(monkeypatch, tmp_path, model, names, only_the_second)
    expected = ["indirect", "depthwise", "indirect", "fused_block"]
    assert algorithms_of(litert, library, model) == expected
