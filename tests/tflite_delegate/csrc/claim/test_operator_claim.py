"""Which operators join the layers of a delegate: as it does it, and as reports predict it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.tflite_schema import Quantization
from tests.support.tflite_writer import ModelWriter
from tests.tflite_delegate.conftest import InterpreterApi, random_inputs, read_report, run
from tests.tflite_delegate.csrc.operators.operator_cases import X, floats, fused, identity, ints
from tflite_delegate.read.model import read
from tflite_delegate.read.supported import between, operator_name

#: Operators of ours that joined, as many convolutions as were claimed, and the model.
Graph = tuple[list[str], int, bytes]


def in_front() -> Graph:
    """What prepares the input of the first layer."""
    writer = ModelWriter()
    x = writer.tensor(X)
    scaled = writer.node("MUL", [x, writer.constant(floats(12))], X, **fused("none"))
    shifted = writer.node("SUB", [scaled, writer.constant(floats())], X, **fused("none"))
    return ["MUL", "SUB"], 1, writer.finish([x], [identity(writer, shifted, X)])


def a_branch() -> Graph:
    """Operators alone on one side of an addition, layers on the other."""
    writer = ModelWriter()
    x = writer.tensor(X)
    side = writer.node("LOGISTIC", [writer.node("MAXIMUM", [x, writer.constant(floats())], X)], X)
    first = identity(writer, x, X)
    y = writer.node("MUL", [first, side], X, **fused("none"))
    return ["MAXIMUM", "LOGISTIC", "MUL"], 1, writer.finish([x], [y])


def what_reads_the_same() -> Graph:
    """Neither reads what the other computes."""
    writer = ModelWriter()
    x = writer.tensor(X)
    side = writer.node("COS", [writer.node("RELU6", [x], X)], X)
    return [], 1, writer.finish([x], [identity(writer, x, X), side])


def between_others() -> Graph:
    """Operators between two of TFLite's would cut its nodes into more pieces."""
    writer = ModelWriter()
    x = writer.tensor(X)
    first = identity(writer, x, X)
    clipped = writer.node("RELU6", [first], X)
    cosine = writer.node("COS", [x], X)
    left = writer.node("LOGISTIC", [first], X)
    sine = writer.node("SIN", [cosine], X)
    last = writer.node("MAXIMUM", [sine, left], X)
    return ["RELU6", "MAXIMUM"], 2, writer.finish([x], [clipped, sine, identity(writer, last, X)])


def integers() -> Graph:
    """The operator is ours, the numbers are not."""
    writer = ModelWriter()
    x, shape = writer.tensor(X), writer.tensor((2,), "int32")
    y = writer.node("RESHAPE", [identity(writer, x, X), shape], (9, 84))
    wanted = writer.tensor((2,), "int32")
    options = {"fusedActivationFunction": "none"}
    total = writer.node("ADD", [shape, wanted], (2,), **options)
    writer.tensors[total].type = writer.tensors[shape].type
    return [], 1, writer.finish([x, shape, wanted], [y, total])


def codes() -> Graph:
    """From numbers to codes of 8 bits and back, beside a constant that becomes numbers once."""
    writer = ModelWriter()
    x, own = writer.tensor(X), Quantization(1 / 64, 3)

    def coded(name: str, inputs: list[int], shape: tuple[int, ...], **fields: Any) -> int:
        output = writer.tensor(shape, "int8", quantization=own)
        writer.add(name, inputs, [output], **fields)
        return output

    quantised = coded("QUANTIZE", [identity(writer, x, X)], X)
    moved = coded("TRANSPOSE", [quantised, writer.constant(ints(0, 2, 1, 3))], (1, 7, 9, 12))
    numbers = writer.node("DEQUANTIZE", [moved], (1, 7, 9, 12))
    weights = writer.constant(np.arange(12, dtype=np.int8), own)
    constant = writer.node("DEQUANTIZE", [weights], (12,))
    y = writer.node("ADD", [numbers, constant], (1, 7, 9, 12), **fused("none"))
    return ["QUANTIZE", "TRANSPOSE", "DEQUANTIZE", "ADD"], 1, writer.finish([x], [y])


GRAPHS = (in_front, a_branch, what_reads_the_same, between_others, integers, codes)


@pytest.mark.parametrize("graph", GRAPHS)
def test_what_joins(
    litert: InterpreterApi, library: Path, tmp_path: Path, graph: Callable[[], Graph]
) -> None:
    operators, convolutions, content = graph()
    delegate = litert.load_delegate(str(library))
    sessions = [litert.open(content, delegate), litert.open(content)]
    inputs = random_inputs(sessions[0])
    if graph is integers:
        inputs[1:] = [ints(84, 9), ints(1, 2)]
    results = [run(session, inputs) for session in sessions]
    for y, expected in zip(*results, strict=True):
        assert np.allclose(y, expected, rtol=0, atol=2.0**-21)
    report = read_report(library, delegate)
    claimed = [entry["name"].split()[0].removeprefix("leanconv/") for entry in report["operators"]]
    assert (sorted(claimed), report["claimed"]) == (sorted(operators), convolutions)

    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    model = read(path)
    compiled = [node for layer in model.layers for node in layer.nodes]
    assert [operator_name(step.code) for step in between(model, compiled)] == operators
