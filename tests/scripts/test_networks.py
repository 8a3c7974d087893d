"""Whole networks with the delegate, in LiteRT and in TensorFlow.

Every float CONV_2D is claimed, and two things are asked of the results.

**Each claimed layer**, given the input that it really had, against the exact result in float64,
by the bound of `tests.support.reference.conv2d`, or `winograd_bound`.

**The network's outputs** against TFLite's built-in kernels, by the bound of
scripts/benchmarks/harness/bound.py.

Of the networks of scripts/models/architectures.py, the six largest, and those like
another one, are left to `make test-all`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tflite
from numpy.typing import NDArray

from schedules.layer.block import Block
from scripts.benchmarks.harness.bound import network_bound, winograd_transforms
from scripts.benchmarks.harness.inference import max_difference, random_inputs
from scripts.models.architectures import ARCHITECTURES
from tests.conftest import Compiled
from tests.support import blocks
from tests.support.reference import conv2d, finish, winograd_bound
from tests.support.tflite_writer import with_outputs
from tflite_delegate.read import model as tflite_model
from tvmc.running.interpreter import Session, runtime

RUNTIMES = ("litert", "tensorflow")
LARGE = ("resnet18", "resnet50", "vgg16", "alexnet", "googlenet", "inception_v3")
#: MobileNetV2 and V3Small have their layers.
ALIKE = ("mobilenet_v1", "mobilenet_v3_large", "efficientnet_lite0")
OURS = ("coverage", "small_fp16")
TRAINED = ("resnet8_float", "mobilenet_96_float")
#: In LiteRT alone: TensorFlow's runtime has the same kernels.
ONCE = [name for name in ARCHITECTURES if name not in ("mobilenet_v2", "resnet50")]
CASES = [
    pytest.param(name, runtime_name, marks=[pytest.mark.slow] if name in LARGE + ALIKE else [])
    for name in (*TRAINED, *OURS, *ARCHITECTURES)
    for runtime_name in RUNTIMES
    if runtime_name == "litert" or name not in ONCE
]

#: Float16 weights, most of them zeros in the last one, which are not read one by one here.
SPARSE = "face_detection_full_range_sparse"
FACES = ("face_detection_front", SPARSE)
CASES += [pytest.param(FACES[0], "litert", marks=pytest.mark.slow), pytest.param(SPARSE, "litert")]

Find = Callable[[str], Path]


@pytest.fixture
def find_graph(made_model: Find, trained_models: Path, face_models: Path) -> Find:
    def find(name: str) -> Path:
        for folder in (trained_models, face_models):
            if (folder / f"{name}.tflite").is_file():
                return folder / f"{name}.tflite"
        return made_model(name)

    return find


@pytest.mark.parametrize(("name", "runtime_name"), CASES)
def test_network(
    find_graph: Find,
    compile_model: Callable[..., Compiled],
    name: str,
    runtime_name: str,
    tmp_path: Path,
) -> None:
    compiled = compile_model(find_graph(name))
    convolutions = [la for la in compiled.report["layers"] if la["op"] == "CONV_2D"]
    assert convolutions
    assert all(layer["claimed"] for layer in convolutions)

    chosen = runtime(runtime_name)
    expected_session = Session(compiled.graph, chosen, xnnpack=False)
    values = random_inputs(expected_session)
    expected = expected_session.run(values)
    bound = network_bound(compiled.graph, compiled.report, expected_session, expected)
    del expected_session

    session = Session(compiled.graph, chosen, delegate=compiled.library)
    report = session.report()
    assert report is not None
    assert report["claimed"] == len(kernels_of(compiled.report))
    assert len(report["operators"]) == len(compiled.report["between"])
    assert max_difference(session.run(values), expected) <= bound
    del session

    if name != SPARSE:
        check_layers(compiled, chosen, values, tmp_path)


def check_layers(compiled: Compiled, chosen: Any, values: list[NDArray[Any]], folder: Path) -> None:
    """Hold every kernel to the first bound at the top of this file."""
    model = tflite_model.read(compiled.graph)
    layers = {layer.index: layer for layer in model.layers}
    chains = [[layers[index] for index in indices] for indices in kernels_of(compiled.report)]
    ends = [tensor for chain in chains for tensor in (chain[0].input, chain[-1].output)]
    ends += [added_to(layer, model) for layer in model.layers if is_residual(layer)]
    # As outputs of the network, what lies between kernels can be read; what lies inside vanishes.
    graph = folder / "ends.tflite"
    graph.write_bytes(with_outputs(compiled.graph, filter(None, ends)))
    session = Session(graph, chosen, delegate=compiled.library, xnnpack=False)
    session.run(values)
    report = session.report()
    assert report is not None
    assert report["claimed"] == len(chains)
    tensor = session.interpreter.get_tensor
    nodes = {details["index"]: details for details in session.interpreter._get_ops_details()}
    for chain in chains:
        block = [layer.workload for layer in chain if layer.workload is not None]
        constants = [weights_of(layer, nodes[layer.index]["inputs"], tensor) for layer in chain]
        last = block[-1]
        residual = None
        if last.residual:
            residual = tensor(added_to(chain[-1], model)).reshape(last.output_shape)
        x = tensor(chain[0].input).reshape(block[0].input_shape)
        if len(chain) > 1:
            weights, offsets = zip(*constants, strict=True)
            exact, bound = blocks.chain(Block(tuple(block)), x, weights, offsets, residual)
        else:
            exact, bound = layer_bound(compiled.report, chain[0], x, *constants[0], residual)
        excess = np.abs(tensor(chain[-1].output).reshape(last.output_shape) - exact) - bound
        assert excess.max() <= 0, f"node {chain[-1].index}, {chain[-1].geometry}"


def is_residual(layer: tflite_model.Layer) -> bool:
    """Whether leanconv adds another tensor to what the layer computes."""
    return layer.workload is not None and layer.workload.residual


def kernels_of(report: dict[str, Any]) -> set[tuple[int, ...]]:
    """The layers that each kernel computes in one call."""
    claimed = [layer for layer in report["layers"] if layer["claimed"]]
    return {tuple(layer["block"]) or (layer["index"],) for layer in claimed}


def weights_of(
    layer: tflite_model.Layer, inputs: Sequence[int], tensor: Callable[[int], NDArray[Any]]
) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Weights (OHWI) and bias."""
    assert layer.workload is not None
    weights, *bias = (tensor(index) for index in inputs[1:] if index >= 0)
    if layer.op == "DEPTHWISE_CONV_2D":  # (1, K_h, K_w, M)
        weights = weights.transpose(3, 1, 2, 0)
    return weights.reshape(layer.workload.weight_shape), bias[0] if bias else None


def layer_bound(
    report: dict[str, Any],
    layer: tflite_model.Layer,
    x: NDArray[Any],
    weights: NDArray[Any],
    offset: NDArray[Any] | None,
    residual: NDArray[Any] | None,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """The exact output of a single layer, and the first bound at the top of this file."""
    assert layer.workload is not None
    bare = replace(layer.workload, activation="none", residual=False, output_activation="none")
    exact, bound = conv2d(bare, x, weights, offset)
    entry = next(entry for entry in report["layers"] if entry["index"] == layer.index)
    transforms = winograd_transforms(entry, layer.workload)
    if transforms is not None:
        bound = winograd_bound(bare, transforms, x, weights, offset)
    return finish(layer.workload, exact, bound, residual)


def added_to(layer: tflite_model.Layer, model: tflite_model.Model) -> int:
    """The tensor that a layer's residual connection comes from."""
    steps = [step for step in model.steps if step.index in layer.nodes]
    (add,) = (step for step in steps if step.code == tflite.BuiltinOperator.ADD)
    inside = {tensor for step in steps for tensor in step.outputs}
    (outside,) = set(add.inputs) - inside
    return outside


@pytest.mark.parametrize("runtime_name", RUNTIMES)
@pytest.mark.parametrize(
    "name",
    [
        "resnet8_int8",
        "mobilenet_96_int8",
        "dscnn_int8",
        "dscnn_hybrid",  # float32 activations, int8 weights
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
    """The converter leaves small weights in float: layers of either kind are claimed.

    Float layers change the inputs of hybrid ones by rounding errors, and those may move a quantised
    value by one step, 1/127 of the largest.
    """
    compiled = compile_model(find_graph("small_dynamic_range"))
    claims = [la["claimed"] for la in compiled.report["layers"] if la["op"] == "CONV_2D"]
    assert (sum(claims), len(claims)) == (4, 4)
    chosen = runtime(runtime_name)
    expected = Session(compiled.graph, chosen, xnnpack=True)
    values = random_inputs(expected)
    session = Session(compiled.graph, chosen, delegate=compiled.library, xnnpack=False)
    report = session.report()
    assert report is not None
    assert report["claimed"] == len(kernels_of(compiled.report))
    wanted = expected.run(values)
    assert max_difference(session.run(values), wanted) <= np.abs(wanted[0]).max() / 127
