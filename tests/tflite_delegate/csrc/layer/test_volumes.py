"""Convolutions of volumes inside TFLite: what is claimed, and what is computed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from schedules.plan.planner import plan_kernel
from schedules.target.simd import Simd
from tests.support.reference import conv2d
from tests.support.tflite_schema import PADDINGS
from tests.support.tflite_writer import ModelWriter, packed
from tests.support.volume_bound import volume_bound
from tests.support.volumes import VOLUMES, Volume, volume_model
from tests.tflite_delegate.conftest import InterpreterApi, random_inputs, read_report, run
from tflite_delegate.read import model as tflite_model

LAYERS = [VOLUMES[name] for name in ("strides", "dilated and padded", "images", "float16")]


@pytest.fixture(scope="module")
def volumes(build_delegate: Callable[..., Path]) -> Path:
    return build_delegate(volume_model(LAYERS))


def check(model: bytes, library: Path, api: InterpreterApi, shapes: list[tuple[int, ...]]) -> None:
    """Both TFLite's kernels and ours are within the bound of float64."""
    delegate = api.load_delegate(str(library), {"verbose": "0"})
    builtin, ours = api.open(model), api.open(model, delegate)
    for interpreter in (builtin, ours):
        for detail, shape in zip(interpreter.get_input_details(), shapes, strict=True):
            interpreter.resize_tensor_input(detail["index"], shape)
        interpreter.allocate_tensors()
    claimed = [layer["layers"] for layer in read_report(library, delegate)["layers"]]
    assert claimed == [
        [layer.workload((1, *shape[1:])).describe()]
        for shape, (_, layer) in zip(shapes, LAYERS, strict=True)
    ]
    inputs = random_inputs(builtin)
    pairs = zip(run(builtin, inputs), run(ours, inputs), strict=True)
    for (builtin_y, y), x, (shape, layer) in zip(pairs, inputs, LAYERS, strict=True):
        expected, bound = conv2d(layer.workload(x.shape), x, *layer.constants(shape[-1]))
        assert y.shape == builtin_y.shape == expected.shape
        assert (abs(builtin_y - expected) <= bound).all()
        assert (abs(y - expected) <= bound).all()


def test_agrees_with_tflite(volumes: Path, litert: InterpreterApi) -> None:
    check(volume_model(LAYERS), volumes, litert, [shape for shape, _ in LAYERS])


@pytest.mark.parametrize("change", [(3, 0, 0, 0), (1, 1, 2, 3)])
def test_other_shapes(
    volumes: Path, litert: InterpreterApi, change: tuple[int, int, int, int]
) -> None:
    """More volumes, with the compiled kernel; larger ones without."""
    batch, *more = change
    shapes = [
        (batch, *(size + extra for size, extra in zip(shape[1:4], more, strict=True)), shape[4])
        for shape, _ in LAYERS
    ]
    check(volume_model(LAYERS), volumes, litert, shapes)


def test_packs_transformed_weights(
    build_delegate: Callable[..., Path], litert: InterpreterApi
) -> None:
    shape, layer = (2, 5, 8, 9, 12), Volume(20, (3, 2, 3), weight_type="float16")
    model = volume_model([(shape, layer)])
    library = build_delegate(model, ("winograd3d:outputs=4",))
    delegate = litert.load_delegate(str(library), {"verbose": "0"})
    ours = litert.open(model, delegate)
    ours.allocate_tensors()
    (x,) = random_inputs(ours)
    (y,) = run(ours, [x])
    (claimed,) = read_report(library, delegate)["layers"]
    assert claimed["algorithm"] == "winograd3d"
    workload, constants = layer.workload(shape), layer.constants(shape[-1])
    knobs = plan_kernel(workload, Simd.named("host"), "winograd3d:outputs=4").knobs
    expected, _ = conv2d(workload, x, *constants)
    assert (abs(y - expected) <= volume_bound(workload, knobs, x, *constants)).all()


def test_neighbours_are_merged(build_delegate: Callable[..., Path], litert: InterpreterApi) -> None:
    """A PAD of zeros around volumes, a residual and an activation."""
    shape = (1, 3, 6, 5, 8)
    writer = ModelWriter()
    x = writer.tensor(shape)
    padded_shape = (1, 5, 8, 7, 8)
    amounts = np.array([(0, 0), (2, 0), (0, 2), (1, 1), (0, 0)], np.int32)
    padded = writer.node("PAD", [x, writer.constant(amounts)], padded_shape)
    y = Volume(8, padding="VALID").add(writer, padded, padded_shape)
    total = writer.node("ADD", [y, x], shape, fusedActivationFunction="relu")
    model = writer.finish([x], [total])
    library = build_delegate(model)
    delegate = litert.load_delegate(str(library), {"verbose": "0"})
    builtin, ours = litert.open(model), litert.open(model, delegate)
    builtin.allocate_tensors()
    inputs = random_inputs(builtin)
    (expected,), (got,) = run(builtin, inputs), run(ours, inputs)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)
    (layer,) = read_report(library, delegate)["layers"]
    assert layer["layers"] == ["conv3x3x3 3x6x5x8->8 + relu"]
    assert len(layer["nodes"]) == 3


def _damaged(change: Callable[[Any, Any], None]) -> bytes:
    """A model of one CONV_3D with its graph and options changed."""
    shape = (1, 4, 5, 6, 3)
    model = schema.ModelT.InitFromPackedBuf(volume_model([(shape, Volume(2))]), 0)
    graph = model.subgraphs[0]
    change(graph, graph.operators[-1].builtinOptions)
    return packed(model)


def _no_stride(graph: Any, options: Any) -> None:
    options.strideD = 0


def _padding(graph: Any, options: Any) -> None:
    options.padding = max(PADDINGS.values()) + 1


def _channels(graph: Any, options: Any) -> None:
    graph.tensors[graph.inputs[0]].shape = [1, 4, 5, 6, 6]


def _flat(graph: Any, options: Any) -> None:
    graph.tensors[graph.inputs[0]].shape = [1, 20, 6, 3]


@pytest.mark.parametrize("change", [_no_stride, _padding, _channels, _flat])
def test_what_makes_no_sense_is_not_read(
    tmp_path: Path, change: Callable[[Any, Any], None]
) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(_damaged(change))
    (layer,) = tflite_model.read(path).layers
    assert layer.workload is None and layer.reason
