"""tvmc.load: what a model takes and gives, before anything is compiled."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

import tvmc
from schedules.errors import LeanconvError
from tests.support.hybrid_models import HybridLayer, model
from tests.support.tflite_writer import Conv, single_conv


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    path = tmp_path / "conv.tflite"
    path.write_bytes(single_conv((1, 6, 6, 8), Conv(12)))
    return path


def details(tensors: list[dict[str, Any]]) -> list[tuple[str, tuple[int, ...], str]]:
    """Tensors as TFLite's interpreter describes them."""
    return [
        (tensor["name"], tuple(map(int, tensor["shape"])), np.dtype(tensor["dtype"]).name)
        for tensor in tensors
    ]


def test_inputs_and_outputs_are_those_of_the_interpreter(
    trained_models: Path, made_model: Callable[[str], Path], graph: Path
) -> None:
    for path in (graph, made_model("small"), *sorted(trained_models.glob("*.tflite"))):
        model = tvmc.load(path)
        interpreter = Interpreter(str(path))
        assert model.path == path
        found = [(tensor.name, tensor.shape, tensor.dtype) for tensor in model.inputs]
        assert found == details(interpreter.get_input_details())
        found = [(tensor.name, tensor.shape, tensor.dtype) for tensor in model.outputs]
        assert found == details(interpreter.get_output_details())


def test_layers_say_why_they_are_left(tmp_path: Path, graph: Path) -> None:
    (layer,) = tvmc.load(str(graph)).layers
    assert (layer.op, layer.reason) == ("CONV_2D", None)
    path = tmp_path / "grouped.tflite"
    path.write_bytes(model([HybridLayer((1, 6, 6, 8), Conv(8, groups=2))]))
    (layer,) = tvmc.load(path).layers
    assert layer.reason == "int8 weights of groups whose image is quantised as a whole"


def test_shapes_are_for_inputs_that_there_are(graph: Path) -> None:
    assert tvmc.load(graph).input_shapes == {}
    (name,) = (tensor.name for tensor in tvmc.load(graph).inputs)
    assert tvmc.load(graph, {name: (2, 6, 6, 8)}).input_shapes == {name: (2, 6, 6, 8)}
    with pytest.raises(LeanconvError, match=f"has no input 'other': {name}"):
        tvmc.load(graph, {"other": (1, 2)})


def test_tune_takes_what_was_loaded(graph: Path, tmp_path: Path) -> None:
    options = {"trials": 1, "repeat": 1, "min_repeat_ms": 0.5, "parallel": 1}
    report = tvmc.tune(tvmc.load(graph), output=tmp_path / "logs", **options)  # type: ignore[arg-type]
    assert report.trials == 1


def test_damaged_models(graph: Path, tmp_path: Path) -> None:
    with pytest.raises(LeanconvError, match="does not exist"):
        tvmc.load(tmp_path / "missing.tflite")
    rng = random.Random(1)
    original, damaged = graph.read_bytes(), tmp_path / "damaged.tflite"
    for _ in range(500):
        data = bytearray(original[: rng.choice([len(original), rng.randrange(1, len(original))])])
        for _ in range(rng.randrange(1, 20)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        damaged.write_bytes(data)
        try:
            tvmc.load(damaged)
        except LeanconvError as error:
            assert "\n" not in str(error)
