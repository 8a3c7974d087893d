"""What the probe reads out of interpreters agrees with what the runtimes publish themselves."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import tflite

from scripts.benchmarks.harness.inference import heap_bytes, random_inputs
from tvmc.running.interpreter import Session, runtime

RUNTIMES = ("litert", "tensorflow")


@pytest.mark.parametrize("name", RUNTIMES)
def test_arena_is_the_span_of_the_tensors_that_are_no_constants(
    trained_models: Path, name: str
) -> None:
    graph = trained_models / "mobilenet_96_float.tflite"
    session = Session(graph, runtime(name), xnnpack=False)
    arena = session.probe().arena_bytes()
    interpreter = session.interpreter
    tensors = {index for op in interpreter._get_ops_details() for index in op["outputs"]}
    tensors |= {details["index"] for details in session.inputs()}
    # Scratch tensors that kernels have added stand behind those of the file.
    in_file = tflite.Model.GetRootAs(graph.read_bytes(), 0).Subgraphs(0).TensorsLength()
    spans = []
    for details in interpreter.get_tensor_details():
        if details["index"] in tensors or details["index"] >= in_file:
            array = interpreter.tensor(details["index"])()
            spans.append((array.ctypes.data, array.ctypes.data + array.nbytes))
    assert arena == max(end for _, end in spans) - min(start for start, _ in spans)


@pytest.mark.parametrize("name", RUNTIMES)
@pytest.mark.parametrize("xnnpack", [False, True])
def test_every_node_is_timed_and_the_outputs_stay(
    trained_models: Path, name: str, xnnpack: bool
) -> None:
    graph = trained_models / "resnet8_float.tflite"
    session = Session(graph, runtime(name), xnnpack=xnnpack)
    values = random_inputs(session)
    expected = session.run(values)
    probe = session.probe()
    names = [node.name for node in probe.nodes]
    if xnnpack:
        assert names == ["TfLiteXNNPackDelegate"]
    else:
        assert names == [op["op_name"] for op in session.interpreter._get_ops_details()]
    start = time.perf_counter()
    with probe.timing():
        for _ in range(3):
            session.run(values)
    whole = time.perf_counter() - start
    assert [len(node.seconds) for node in probe.nodes] == [3] * len(names)
    assert 0 < sum(sum(node.seconds) for node in probe.nodes) < whole
    np.testing.assert_array_equal(session.run(values)[0], expected[0])
    assert [len(node.seconds) for node in probe.nodes] == [3] * len(names)


def test_the_heap_holds_the_arena(trained_models: Path) -> None:
    before = heap_bytes()
    session = Session(
        trained_models / "mobilenet_96_float.tflite", runtime("litert"), xnnpack=False
    )
    after = heap_bytes()
    assert before is not None
    assert after is not None
    arena = session.probe().arena_bytes()
    assert arena <= after - before < arena + (1 << 20)
