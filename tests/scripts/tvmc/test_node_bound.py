"""How far a node's results may be apart: enough for rounding, too little for another result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.reference import conv2d
from tests.support.tflite_writer import Conv, Dense, ModelWriter
from tvmc.comparing.node_bound import Inputs, Result, apply
from tvmc.comparing.tflite_graph import NotAlone, TfliteGraph
from tvmc.comparing.typical_inputs import typical_inputs
from tvmc.compiling.package import TensorInfo

SHAPE = (2, 6, 5, 8)
Build = Callable[[ModelWriter, int], int]


def made(path: Path, build: Build) -> TfliteGraph:
    writer = ModelWriter()
    image = writer.tensor(SHAPE)
    (path / "m.tflite").write_bytes(writer.finish([image], [build(writer, image)]))
    return TfliteGraph(path / "m.tflite")


def result(
    graph: TfliteGraph, x: NDArray[Any], error: NDArray[Any] | None = None, winograd: bool = False
) -> Result:
    """Of the only node."""
    (node,) = graph.nodes
    (image,) = graph.inputs
    constants = {t for t in node.inputs if t >= 0 and graph.is_constant(t)}
    inputs = Inputs({image: x}, {} if error is None else {image: error}, constants)
    (found,) = apply(graph, node, inputs, winograd)
    return found


def of(name: str, shape: tuple[int, ...] = SHAPE, kind: str = "float32", **options: Any) -> Build:
    return lambda writer, x: writer.node(name, [x], shape, kind, **options)


def mean(writer: ModelWriter, x: int) -> int:
    axes = writer.constant(np.array([1, 2], np.int32))
    return writer.node("MEAN", [x, axes], (2, 8))


BUILDS: Mapping[str, Build] = {
    "conv": lambda writer, x: writer.conv(x, SHAPE, Conv(16, (3, 3), activation="relu6"))[0],
    "depthwise": lambda writer, x: writer.conv(x, SHAPE, Conv(8, (3, 3), depthwise=True))[0],
    "relu": of("RELU"),
    "logistic": of("LOGISTIC"),
    "exp": of("EXP"),
    "softmax": of("SOFTMAX", beta=1.0),
    "mean": mean,
}


@pytest.mark.parametrize("name", BUILDS)
@pytest.mark.parametrize("size", [1e-4, 1e-2])
def test_errors_of_inputs_are_followed(tmp_path: Path, name: str, size: float) -> None:
    graph, rng = made(tmp_path, BUILDS[name]), np.random.default_rng(1)
    x = rng.standard_normal(SHAPE, np.float32)
    error = np.full(SHAPE, size)
    expected, exact = result(graph, x, error), result(graph, x)
    beyond = []
    for direction in (1.0, -1.0, rng.choice((-1, 1), SHAPE), rng.uniform(-1, 1, SHAPE)):
        moved = result(graph, (x + direction * error).astype(np.float32)).value
        difference = np.abs(moved.astype(np.float64) - expected.value)
        assert (difference <= expected.bound).all()
        beyond.append((difference > exact.bound).any())
    assert any(beyond)


def test_a_convolution_in_float64_is_within_the_bound(tmp_path: Path) -> None:
    conv = Conv(16, (3, 3))
    graph = made(tmp_path, lambda writer, x: writer.conv(x, SHAPE, conv)[0])
    x = np.random.default_rng(2).standard_normal(SHAPE, np.float32)
    exact, _ = conv2d(conv.workload(SHAPE), x, *conv.constants(8))
    direct, winograd = result(graph, x), result(graph, x, winograd=True)
    assert (np.abs(direct.value - exact) <= direct.bound).all()
    assert direct.bound.max() < 1e-3 * np.abs(exact).max()
    assert (winograd.bound > 2 * direct.bound).all()
    without_a_pixel = np.where(np.arange(5)[:, None] == 0, 0, x).astype(np.float32)
    assert (np.abs(result(graph, without_a_pixel).value - exact) > winograd.bound).any()


def test_another_option_is_beyond_the_bound(tmp_path: Path) -> None:
    x = np.random.default_rng(3).standard_normal(SHAPE, np.float32)
    for build, other in (
        (of("SOFTMAX", beta=1.0), of("SOFTMAX", beta=0.9)),
        (of("GELU", approximate=True), of("GELU", approximate=False)),
        (of("LEAKY_RELU", alpha=0.2), of("LEAKY_RELU", alpha=0.19)),
    ):
        right, wrong = result(made(tmp_path, build), x), result(made(tmp_path, other), x)
        assert (np.abs(right.value - wrong.value) > right.bound).any()


def test_integers_are_equal_or_a_tie(tmp_path: Path) -> None:
    def build(writer: ModelWriter, x: int) -> int:
        axis = writer.constant(np.array([3], np.int32))
        return writer.node("ARG_MAX", [x, axis], SHAPE[:3], "int64")

    graph = made(tmp_path, build)
    graph.nodes[0].builtinOptions.outputType = 4
    x = np.random.default_rng(4).standard_normal(SHAPE, np.float32)
    x[0, 0, 0, :2] = 9.0, 9.001
    assert not result(graph, x).bound.any()
    bound = result(graph, x, np.full(SHAPE, 1e-2)).bound
    assert bound[0, 0, 0] == np.inf
    assert (bound == 0).mean() > 0.5


def test_weights_may_be_computed_from_constants(tmp_path: Path) -> None:
    writer = ModelWriter()
    image = writer.tensor((1, 6))
    dense = Dense(4, weight_type="float16")
    output, _ = writer.dense(image, (1, 6), dense)
    (tmp_path / "m.tflite").write_bytes(writer.finish([image], [output]))
    graph = TfliteGraph(tmp_path / "m.tflite")
    values, constants = {image: np.ones((1, 6), np.float32)}, set[int]()
    for node in graph.nodes:
        own = {t for t in node.inputs if t >= 0 and graph.is_constant(t)} | constants
        for tensor, found in zip(
            node.outputs, apply(graph, node, Inputs(values, {}, own), False), strict=True
        ):
            values[tensor] = found.value
            if image not in node.inputs:
                assert not found.bound.any()
                constants.add(tensor)
    weights, bias = dense.constants(6)
    exact = weights.astype(np.float64).reshape(4, 6).sum(1) + (0 if bias is None else bias)
    assert (np.abs(values[output][0] - exact) <= found.bound[0]).all()


def test_what_litert_cannot_run(tmp_path: Path) -> None:
    graph = made(tmp_path, lambda writer, x: writer.node("ADD", [x, x, x], SHAPE))
    with pytest.raises(NotAlone):
        result(graph, np.zeros(SHAPE, np.float32))


def test_typical_inputs(tmp_path: Path) -> None:
    writer = ModelWriter()
    kinds = ("float32", "int8", "int32", "bool")
    tensors = [writer.tensor((4000,), kind) for kind in kinds]
    (tmp_path / "m.tflite").write_bytes(writer.finish(tensors, [tensors[0]]))
    graph = TfliteGraph(tmp_path / "m.tflite")
    infos = [TensorInfo("", (4000,), kind) for kind in kinds]
    normal, codes, ids, truths = typical_inputs(graph, infos, 5)
    assert abs(normal.std() - 1) < 0.1
    assert (codes.min(), codes.max()) == (-128, 127)
    assert set(ids.tolist()) == {0, 1}
    assert truths.dtype == bool
