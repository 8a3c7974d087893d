"""Operators of float16 on the emulated board, against TFLite's own kernels of float32.

All in one model: an operator's inputs come from layers that copy them, and its outputs go to layers
that do. Between these everything is float16, which numbers of float16 pass unchanged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from schedules.target.simd import PRESETS
from scripts.board.board import Board
from scripts.board.count import invoke
from tests.support.tflite_writer import ModelWriter
from tests.tflite_delegate.conftest import InterpreterApi, random_inputs, run
from tests.tflite_delegate.csrc.operators import test_movement, test_operators
from tests.tflite_delegate.csrc.operators.operator_cases import (
    WIDE,
    Case,
    Shape,
    X,
    floats,
    fused,
    identity,
    ints,
    single,
)
from tflite_delegate.build import build
from tflite_delegate.targeted import read_for

#: Of one rounding to float16, relative; and of the smallest numbers.
UNIT, TINY = 2.0**-11, 2.0**-25
#: How often results are rounded; where that is not once.
ROUNDINGS = {"HARD_SWISH": 4, "LEAKY_RELU": 2, "SQUARED_DIFFERENCE": 3, "RSQRT": 2}
#: Every output is filled up to this image, which one layer copies.
OUTPUT = (1, 64, 64, 1)
CASES = {
    "logistic": single("LOGISTIC", WIDE),
    "tanh": single("TANH", WIDE),
    "exp": single("EXP", X),
    "square": single("SQUARE", X),
    "sqrt": single("SQRT", X),
    "rsqrt": single("RSQRT", X),
    "neg": single("NEG", X),
    "abs": single("ABS", X),
    "squared difference": Case("SQUARED_DIFFERENCE", [X, X], X),
    "softmax": single("SOFTMAX", X, beta=1.0),
    "softmax of many": single("SOFTMAX", WIDE, (10, 231), beta=0.5),
    "mul float16": Case("MUL", [X, floats(12).astype(np.float16)], X, fused("none")),
    "concatenate a constant": Case(
        "CONCATENATION", [X, X, X, X, floats(1, 9, 7, 3)], (1, 9, 7, 51), {"axis": -1}
    ),
    "mean of several": Case("MEAN", [X, ints(0, 2)], (3, 3, 4), reshaped=(3, 3, 7, 3, 4)),
    **test_operators.CASES,
    **test_movement.CASES,
}


@dataclass(frozen=True)
class Checked:
    """An output, the largest of its operator's constants, and how often it is rounded."""

    largest: float
    roundings: int

    def bound(self, expected: np.ndarray) -> np.ndarray:
        # Constants are rounded, too; sums of float32 and TFLite's functions are much nearer.
        total = (self.roundings + 0.1) * abs(expected) + 2 * self.largest
        return np.asarray(UNIT * (total + 0.01) + TINY)


def add_case(writer: ModelWriter, case: Case) -> tuple[list[int], list[int], list[Checked]]:
    """The case's inputs of the model, its outputs, and what these are checked by."""
    first = next(value for value in case.inputs if not isinstance(value, np.ndarray))
    inputs, operands, constants = [], [], [0.0]
    for value in case.inputs:
        if value == first if isinstance(value, tuple) else False:
            inputs.append(writer.tensor(first))
            shape = case.reshaped or first
            copied = identity(writer, inputs[-1], first)
            # Layers take in operators that follow, but no new shape.
            wanted = writer.constant(ints(*shape))
            operands.append(writer.node("RESHAPE", [copied, wanted], shape))
            continue
        array = value if isinstance(value, np.ndarray) else floats(*value)
        if array.dtype.kind == "f":
            constants.append(float(abs(array).max()))
        operands.append(writer.constant(array))
    outputs = writer.splitting_node(case.name, operands, case.outputs, **case.options)
    filled = [fill(writer, y, shape) for y, shape in zip(outputs, case.outputs, strict=True)]
    checked = Checked(max(constants), ROUNDINGS.get(case.name, 1))
    return inputs, filled, [checked] * len(filled)


def fill(writer: ModelWriter, tensor: int, shape: Shape) -> int:
    """A layer's copy of a tensor, with zeros behind it."""
    count, most = int(np.prod(shape)), int(np.prod(OUTPUT))
    flat = writer.node("RESHAPE", [tensor, writer.constant(ints(1, count))], (1, count))
    paddings = writer.constant(ints([0, 0], [0, most - count]))
    padded = writer.node("PAD", [flat, paddings], (1, most))
    image = writer.node("RESHAPE", [padded, writer.constant(ints(*OUTPUT))], OUTPUT)
    return identity(writer, image, OUTPUT)


def model_of(cases: Sequence[Case]) -> tuple[bytes, list[Checked]]:
    writer = ModelWriter()
    inputs: list[int] = []
    outputs: list[int] = []
    checked: list[Checked] = []
    for case in cases:
        case_inputs, case_outputs, case_checked = add_case(writer, case)
        inputs += case_inputs
        outputs += case_outputs
        checked += case_checked
    return writer.finish(inputs, outputs), checked


def test_operators_between_layers_of_float16(
    arm_board: Board, litert: InterpreterApi, tmp_path: Path
) -> None:
    most = np.prod(OUTPUT)
    small = [c for c in CASES.values() if all(np.prod(y) <= most for y in c.outputs)]
    assert len(small) > 120
    content, checked = model_of(small)
    model, library, simd = tmp_path / "m.tflite", tmp_path / "m.so", PRESETS["cortex-a76"]
    model.write_bytes(content)
    # Every layer has one copy, of what the model's caller writes or reads.
    layers = read_for(model, simd, precision="fp16").layers
    assert {len(layer.copied_bytes) for layer in layers} == {1}
    report = build(model, library, simd, algorithms=("indirect",), precision="fp16")
    builtin = litert.open(content)
    inputs = [x.astype(np.float16).astype(np.float32) for x in random_inputs(builtin)]
    expected = run(builtin, inputs)
    ran = invoke(
        arm_board, model, mode="builtin", cpu="cortex-a76", delegate=library, inputs=inputs
    )
    for case, y, exact in zip(checked, ran.outputs, expected, strict=True):
        assert np.array_equal(np.isnan(y), np.isnan(exact))
        with np.errstate(invalid="ignore"):
            near = (y == exact) | (abs(y - exact) <= case.bound(exact))
        assert (near | np.isnan(exact)).all(), case
    told = {layer["node"]: layer["workspace_bytes"] for layer in ran.report["layers"]}
    assert told == {layer.index: layer.workspace_bytes for layer in report.layers}
    nodes = [entry for entry in ran.report["operators"] if "RESHAPE" not in entry["name"]]
    assert len(nodes) == len(checked) + sum(case.name != "RESHAPE" for case in small)
