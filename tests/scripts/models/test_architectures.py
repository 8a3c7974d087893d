"""Architectures and random weights: the published sizes, and values that stay in range."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from scripts.benchmarks.harness.inference import random_inputs
from scripts.models.architectures import ARCHITECTURES
from tflite_delegate.read import model as tflite_model
from tvmc.running.interpreter import Session, runtime

#: Millions of multiply-accumulates and of weights, as the papers and model zoos quote them; biases
#: and batch normalisation, which the .tflite files fold into biases, are below the last digit.
PUBLISHED = {
    "mobilenet_v1": (569, 4.2),
    "mobilenet_v2": (300, 3.5),
    "mobilenet_v3_small": (56, 2.5),
    "mobilenet_v3_large": (217, 5.4),
    "efficientnet_lite0": (385, 4.6),
    "squeezenet": (349, 1.23),
    "resnet18": (1814, 11.7),
    "resnet50": (3858, 25.5),
    "vgg16": (15470, 138),
    "alexnet": (724, 61),
    "googlenet": (1582, 7.0),
    "inception_v3": (5713, 23.8),
}
LARGE = ("resnet50", "vgg16", "alexnet", "inception_v3")


def test_all_twelve_are_here() -> None:
    assert list(PUBLISHED) == list(ARCHITECTURES)


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] if n in LARGE else []) for n in ARCHITECTURES],
)
def test_network(made_model: Callable[[str], Path], name: str) -> None:
    graph = made_model(name)
    layers = tflite_model.read(graph).layers
    macs, weights = PUBLISHED[name]
    assert sum(layer.macs for layer in layers) / 1e6 == pytest.approx(macs, rel=0.02)
    assert sum(layer.weight_bytes for layer in layers) / 4e6 == pytest.approx(weights, rel=0.02)

    session = Session(graph, runtime("litert"), xnnpack=False, keep_tensors=True)
    (output,) = session.run(random_inputs(session, seed=1))
    assert output.shape == (1, 1000)
    # Neither one class alone nor all alike: a tenth and ten times what each of 1000 would have.
    assert 0.01 < output.max() < 0.9
    assert np.quantile(output, 0.1) < 1e-3 / 2
    for node in session.interpreter._get_ops_details():
        for index in node["outputs"]:
            values = session.interpreter.get_tensor(index)
            if node["op_name"] != "SOFTMAX" and values.dtype == np.float32:
                root_mean_square = np.sqrt(np.mean(np.square(values, dtype=np.float64)))
                assert 0.05 < root_mean_square < 20, node["op_name"]
