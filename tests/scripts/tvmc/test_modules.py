"""Whole networks as modules for TVM's runtime, beside TFLite's built-in kernels.

**Float networks** agree within the bound of scripts/benchmarks/harness/bound.py.

**Hybrid ones** quantise activations as LiteRT does, to the bit
(tests/tflite_delegate/importer/test_hybrid.py), but a float operator in between may be off by its
rounding, which moves an activation by up to a step, 1/127 of the largest. How far such errors take
the outputs is computed in float64 (`rounding_deviations`), and a sum of many stays within `SPREAD`
deviations.

A network of which one filter is negated exceeds both of these bounds.

**int8 ones** are computed in the integer arithmetic of LiteRT's default interpreter, every node to
the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import tvmc
from scripts.benchmarks.harness.bound import network_bound
from scripts.benchmarks.harness.inference import max_difference, random_inputs
from tests.support.float64_graph import (
    Float64Graph,
    rounding_deviations,
    with_float_weights,
    with_negated_filter,
)
from tests.support.tflite_writer import with_outputs
from tvmc.comparing.rounding import SPREAD
from tvmc.running.interpreter import Arrays, Session, runtime

#: What `make test` runs of each kind; the others take longer to compile.
FLOAT = ("coverage", "small_fp16")
LARGE_FLOAT = (
    "resnet8_float",
    "mobilenet_96_float",
    "small",
    "mobilenet_v1",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "mobilenet_v3_large",
    "efficientnet_b0",
    "resnet50",
    "inception_v3",
    "vgg16",
)
HYBRID, LARGE_HYBRID = ("dscnn_hybrid",), ("small_dynamic_range",)
INT8 = ("small_int8", "dscnn_int8")
LARGE_INT8 = ("resnet8_int8", "mobilenet_96_int8")


def cases(names: Sequence[str], slow: Sequence[str]) -> list[Any]:
    return [*names, *(pytest.param(name, marks=pytest.mark.slow) for name in slow)]


@pytest.fixture
def find_graph(made_model: Callable[[str], Path], trained_models: Path) -> Callable[[str], Path]:
    def find(name: str) -> Path:
        trained = trained_models / f"{name}.tflite"
        return trained if trained.is_file() else made_model(name)

    return find


def compiled_and_run(
    graph: Path, values: Mapping[str, NDArray[Any]], folder: Path, output_format: str = "so"
) -> tuple[Arrays, dict[str, Any]]:
    """The outputs of the compiled module, and the report of its compilation."""
    module = folder / f"{graph.stem}.{output_format}"
    report = tvmc.compile(graph, output=module, output_format=output_format).to_dict()
    assert all(layer["claimed"] for layer in report["layers"])
    return list(tvmc.run(module, inputs=values).outputs.values()), report


def built_in(graph: Path) -> Session:
    return Session(graph, runtime("litert"), xnnpack=False)


def named(session: Session, values: Arrays) -> dict[str, NDArray[Any]]:
    """Inputs by name."""
    return {d["name"]: value for d, value in zip(session.inputs(), values, strict=True)}


def negated(graph: Path, outputs: Arrays, folder: Path) -> Path:
    """The same network, but what made the largest value of its last output is wrong."""
    path, last = folder / "negated.tflite", outputs[-1]
    path.write_bytes(with_negated_filter(graph, int(last.argmax()) % last.shape[-1]))
    return path


@pytest.mark.parametrize("name", cases(FLOAT, LARGE_FLOAT))
def test_float(find_graph: Callable[[str], Path], name: str, tmp_path: Path) -> None:
    graph = find_graph(name)
    session = built_in(graph)
    values = random_inputs(session)
    expected = session.run(values)
    outputs, report = compiled_and_run(graph, named(session, values), tmp_path)
    bound = network_bound(graph, report, session, expected)
    assert max_difference(outputs, expected) <= bound
    other = built_in(negated(graph, expected, tmp_path)).run(values)
    assert max_difference(outputs, other) > bound


@pytest.mark.parametrize("name", cases(HYBRID, LARGE_HYBRID))
def test_hybrid(find_graph: Callable[[str], Path], name: str, tmp_path: Path) -> None:
    graph, as_float = find_graph(name), tmp_path / "float.tflite"
    as_float.write_bytes(with_float_weights(graph))
    session = built_in(as_float)
    values = random_inputs(session)
    expected = session.run(values)
    outputs, report = compiled_and_run(graph, named(session, values), tmp_path, "tar")
    bound = network_bound(as_float, report, session, expected)
    (deviation,) = (rounding_deviations(graph, values)[t] for t in Float64Graph(graph).outputs)
    bounds = SPREAD * deviation + bound
    wrong = negated(graph, expected, tmp_path)
    want, other = (built_in(path).run(values) for path in (graph, wrong))
    assert (np.abs(outputs[0] - want[0]) <= bounds).all()
    assert (np.abs(outputs[0] - other[0]) > bounds).any()


@pytest.mark.parametrize("name", cases(INT8, LARGE_INT8))
def test_int8(find_graph: Callable[[str], Path], name: str, tmp_path: Path) -> None:
    graph = find_graph(name)
    nodes = Float64Graph(graph).nodes
    # As outputs of the network, the results of all nodes can be read.
    visible = tmp_path / "visible.tflite"
    visible.write_bytes(with_outputs(graph, [node.outputs[0] for node in nodes]))
    session = Session(visible, runtime("litert"))
    values = random_inputs(session)
    outputs, _ = compiled_and_run(visible, named(session, values), tmp_path)
    for ours, theirs in zip(outputs, session.run(values), strict=True):
        np.testing.assert_array_equal(ours, theirs)
