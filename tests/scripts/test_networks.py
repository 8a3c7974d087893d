"""Whole networks with the delegate, in LiteRT and in TensorFlow.

Every float CONV_2D is claimed, and two things are asked of the results, with u = 2^-24 the unit
roundoff of float32.

**Each claimed layer**, given the input that it really had, against the exact result in float64,
by the bound of `tests.support.reference.conv2d`, or `winograd_bound`.

**The network's outputs** against TFLite's built-in kernels. Rounding errors of a sum are random:
with probability 1 - d each, they add up to less than sqrt(2 ln(2 / d)) sqrt(K) u of the layer's
values (Higham and Mary 2019, theorem 2.4). Two implementations differ by twice that. The weights
are scaled such that a layer passes on a disturbance as it passes on its input, neither amplified
nor damped relative to the values, so the disturbances of all layers add:

    max |got - expected| <= 2 sqrt(2 ln(2 / d)) u (sum over layers of sqrt(K)) max |expected|,

where a final softmax p multiplies relative disturbances of its input z by at most twice the
largest |z|, which is at most ln(max p / min p). d is 1e-9. For a layer of Winograd's algorithm,
sqrt(K) becomes the amplification of its transforms times sqrt(C + 16): the errors of its sums over
C channels, and of 8 roundings on either side of them, as they arrive in the output.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from inference import Session, max_difference, random_inputs, runtime
from schedules.algorithms.winograd_domain import Domain
from schedules.cook_toom import Filtering
from tests.conftest import Compiled
from tests.support.reference import conv2d, winograd_bound
from tflite_delegate import model as tflite_model

UNIT_ROUNDOFF = 2.0**-24
FAILURE_PROBABILITY = 1e-9

RUNTIMES = ("litert", "tensorflow")
KERAS = ("mobilenet_v1", "mobilenet_v2", "mobilenet_v3_small", "resnet50", "vgg16")
OURS = ("coverage", "small_fp16")
TRAINED = ("resnet8_cifar10_float", "mobilenet_vww96_float")

Find = Callable[[str], Path]


@pytest.fixture
def find_graph(made_model: Find, shared_models: Path) -> Find:
    def find(name: str) -> Path:
        trained = shared_models / f"{name}.tflite"
        return trained if trained.is_file() else made_model(name)

    return find


@pytest.mark.parametrize("name", [*TRAINED, *OURS, *KERAS])
@pytest.mark.parametrize("runtime_name", RUNTIMES)
def test_network(
    find_graph: Find, compile_model: Callable[..., Compiled], name: str, runtime_name: str
) -> None:
    compiled = compile_model(find_graph(name))
    convolutions = [la for la in compiled.report["layers"] if la["op"] == "CONV_2D"]
    assert convolutions
    assert all(layer["claimed"] for layer in convolutions)

    chosen = runtime(runtime_name)
    expected_session = Session(compiled.graph, chosen, xnnpack=False)
    values = random_inputs(expected_session)
    expected = expected_session.run(values)
    del expected_session

    session = Session(compiled.graph, chosen, delegate=compiled.library)
    report = session.report()
    assert report is not None
    assert report["claimed"] == len(convolutions)
    bound = network_bound(compiled, expected)
    assert max_difference(session.run(values), expected) <= bound
    del session

    check_layers(compiled, chosen, values)


def winograd_transforms(
    compiled: Compiled, layer: tflite_model.Layer
) -> tuple[Filtering, Filtering] | None:
    """The F(m, r) of a layer, down and across, if it was compiled with Winograd's algorithm."""
    entry = next(entry for entry in compiled.report["layers"] if entry["index"] == layer.index)
    if entry["algorithm"] != "winograd":
        return None
    assert layer.workload is not None
    domain = Domain.of(layer.workload, entry["knobs"])
    return domain.rows, domain.columns


def sums_of(compiled: Compiled, layer: tflite_model.Layer) -> float:
    """The layer's term in the second bound at the top of this file."""
    assert layer.workload is not None
    transforms = winograd_transforms(compiled, layer)
    if transforms is None:
        return math.sqrt(layer.workload.reduction)
    amplification = math.prod(transform.amplification for transform in transforms)
    return amplification * math.sqrt(layer.workload.in_channels + 16)


def network_bound(compiled: Compiled, expected: list[NDArray[Any]]) -> float:
    """The second bound at the top of this file; the largest over all outputs."""
    layers = tflite_model.read(compiled.graph).layers
    depth = sum(sums_of(compiled, layer) for layer in layers if layer.workload is not None)
    spread = math.sqrt(2 * math.log(2 / FAILURE_PROBABILITY))
    relative = 2 * spread * UNIT_ROUNDOFF * depth
    bound = 0.0
    for output in expected:
        is_softmax = bool(output.min() >= 0 and abs(float(output.sum()) - 1) < 1e-3)
        tiny = np.finfo(np.float32).tiny
        logits = math.log(output.max() / max(output.min(), tiny)) if is_softmax else 0.5
        bound = max(bound, relative * 2 * logits * float(np.abs(output).max()))
    return bound


def check_layers(compiled: Compiled, chosen: Any, values: list[NDArray[Any]]) -> None:
    """Hold every claimed layer to the first bound at the top of this file."""
    session = Session(
        compiled.graph, chosen, delegate=compiled.library, xnnpack=False, keep_tensors=True
    )
    session.run(values)
    interpreter = session.interpreter
    nodes = {details["index"]: details for details in interpreter._get_ops_details()}
    for layer in tflite_model.read(compiled.graph).layers:
        if layer.workload is None:
            continue
        node = nodes[layer.index]
        x, weights = (interpreter.get_tensor(index) for index in node["inputs"][:2])
        bias = interpreter.get_tensor(node["inputs"][2]) if len(node["inputs"]) > 2 else None
        exact, bound = conv2d(layer.workload, x, weights, bias)
        transforms = winograd_transforms(compiled, layer)
        if transforms is not None:
            zeros = np.zeros(layer.workload.out_channels, np.float32)
            terms = (x, weights, zeros if bias is None else bias)
            bound = winograd_bound(layer.workload, transforms, *terms)
        excess = np.abs(interpreter.get_tensor(node["outputs"][0]) - exact) - bound
        assert excess.max() <= 0, f"node {layer.index}, {layer.geometry}"


@pytest.mark.parametrize("runtime_name", RUNTIMES)
@pytest.mark.parametrize(
    "name",
    [
        "resnet8_cifar10_int8",
        "mobilenet_vww96_int8",
        "dscnn_kws_int8",
        "dscnn_kws_float",  # float32 activations, int8 weights
        "small_int8",
    ],
)
def test_models_without_float_weights_run_as_if_there_were_no_delegate(
    find_graph: Find, compile_model: Callable[..., Compiled], name: str, runtime_name: str
) -> None:
    library = compile_model(find_graph(TRAINED[0])).library
    graph, chosen = find_graph(name), runtime(runtime_name)
    expected = Session(graph, chosen, xnnpack=False)
    values = random_inputs(expected)
    session = Session(graph, chosen, delegate=library, xnnpack=False)
    report = session.report()
    assert report is not None
    assert report["claimed"] == 0
    for got, want in zip(session.run(values), expected.run(values), strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("runtime_name", RUNTIMES)
def test_the_float_layers_of_a_hybrid_model(
    find_graph: Find, compile_model: Callable[..., Compiled], runtime_name: str
) -> None:
    """The converter leaves small weights in float: those layers are claimed, the others are not.

    What is claimed changes the inputs of hybrid layers by rounding errors, and those may move a
    quantised value by one step, 1/127 of the largest.
    """
    compiled = compile_model(find_graph("small_dynamic_range"))
    claims = [la["claimed"] for la in compiled.report["layers"] if la["op"] == "CONV_2D"]
    assert (sum(claims), len(claims)) == (2, 4)
    chosen = runtime(runtime_name)
    expected = Session(compiled.graph, chosen, xnnpack=False)
    values = random_inputs(expected)
    session = Session(compiled.graph, chosen, delegate=compiled.library, xnnpack=False)
    report = session.report()
    assert report is not None
    assert report["claimed"] == 2
    wanted = expected.run(values)
    assert max_difference(session.run(values), wanted) <= np.abs(wanted[0]).max() / 127
