"""Imported layers of floats with int8 weights, computed by TVM, against LiteRT."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from schedules.relax import network as relax_network
from tests.support.hybrid_models import HybridLayer, model, random_layers
from tests.support.imported import imported, outputs_of
from tests.support.tflite_writer import Conv
from tests.tflite_delegate.csrc.kernels.test_hybrid import RESOLVERS
from tflite_delegate.importer.relax import import_model


def test_layers_are_those_of_litert(tmp_path: Path) -> None:
    """Of hybrid ones every element; of others, whose sums have another order, nearly."""
    exact, others = random_layers(9, 5), random_layers(6, 6, dequantized=True)
    others = [replace(layer, sign="both") for layer in others]
    layers = [*exact, *others]
    content, images = model(layers), [layer.image() for layer in layers]
    expected = outputs_of(Interpreter(model_content=content), images)
    outputs = imported(content, tmp_path, images)
    for layer, image, ours, theirs in zip(layers, images, outputs, expected, strict=True):
        bound = layer.bound(image) if layer.dequantized else 0.0
        assert np.abs(ours - theirs).max() <= bound, layer


@pytest.mark.parametrize("rounding", ["builtin", "reference"])
def test_layers_are_those_of_its_own_kernels(rounding: str, tmp_path: Path) -> None:
    layers = random_layers(9, 12)
    assert {layer.asymmetric for layer in layers if layer.kind == "FULLY_CONNECTED"} == {
        True,
        False,
    }
    content, images = model(layers), [layer.image() for layer in layers]
    interpreter = Interpreter(
        model_content=content, experimental_op_resolver_type=RESOLVERS[rounding]
    )
    outputs = imported(content, tmp_path, images, rounding)
    for layer, ours, theirs in zip(layers, outputs, outputs_of(interpreter, images), strict=True):
        assert np.array_equal(ours, theirs), layer


def test_weights_stay_int8(tmp_path: Path) -> None:
    layers = [*random_layers(3, 5), *random_layers(3, 6, dequantized=True)]
    path = tmp_path / "model.tflite"
    path.write_bytes(model(layers))
    module = import_model(path)
    functions = {variable.name_hint: f for variable, f in module.functions_items()}
    found = relax_network.read("main", module["main"], functions).layers
    assert [layer.workload and layer.workload.weight_dtype for layer in found] == ["int8"] * 6
    assert [bool(layer.workload and layer.workload.rounding) for layer in found] == [True] * 3 + [
        False
    ] * 3


def test_groups_get_float_weights(tmp_path: Path) -> None:
    """Their image is quantised as a whole, which no kernel does."""
    path = tmp_path / "model.tflite"
    path.write_bytes(model([HybridLayer((1, 6, 6, 8), Conv(8, groups=2))]))
    module = import_model(path)
    (layer,) = relax_network.read("main", module["main"]).layers
    assert layer.workload is None or layer.workload.weight_dtype == "float32"
