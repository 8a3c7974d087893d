"""Operators on codes of 8 bits: to the last bit what LiteRT computes, by each rule of rounding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support import coded_operators, coded_reference
from tests.support.coded_movements import MOVEMENTS, random_movements
from tests.support.coded_operators import OPERATORS, Array, CodedCase, Codes, random_cases
from tests.tflite_delegate.conftest import InterpreterApi, read_report, run
from tests.tflite_delegate.csrc.operators.operator_cases import convolutions
from tflite_delegate.table import ROUNDINGS

CASES = 200
#: How far a code may be from the exact one: half of one by rounding once, and as much by what is
#: rounded before. HARD_SWISH's factors are of 15 digits, of which the smaller loses some.
BOUNDS = {"HARD_SWISH": 2.0, "DEQUANTIZE": 1e-4}


def is_left(name: str, dtype: str, rounding: str) -> bool:
    """Whether TFLite keeps the operator, because nothing here rounds as it does."""
    if name == "SOFTMAX":
        return rounding == "reference"
    return (name, dtype) == ("RESIZE_BILINEAR", "uint8") and rounding != "xnnpack"


@pytest.fixture(scope="module", params=ROUNDINGS)
def rounding(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def coded_library(build_delegate: Callable[..., Path], rounding: str) -> Path:
    return build_delegate(convolutions(), rounding=rounding)


def open_litert(litert: InterpreterApi, content: bytes, rounding: str) -> Any:
    """LiteRT by one rule: its default, its kernels for this processor, or the reference kernels."""
    from ai_edge_litert.interpreter import OpResolverType

    resolvers = {
        "xnnpack": OpResolverType.AUTO,
        "builtin": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        "reference": OpResolverType.BUILTIN_REF,
    }
    return litert.interpreter(
        model_content=content, experimental_op_resolver_type=resolvers[rounding]
    )


def check(
    litert: InterpreterApi, library: Path, rounding: str, cases: Sequence[CodedCase]
) -> tuple[list[list[Array]], list[Array]]:
    """Inputs of each case, and all outputs, which are LiteRT's."""
    content = coded_operators.model(cases)
    rng = np.random.default_rng(1)
    inputs = [case.draw(rng) for case in cases]
    flat = [value for values in inputs for value in values]
    delegate = litert.load_delegate(str(library))
    interpreter = litert.open(content, delegate)
    found = run(interpreter, flat)
    expected = run(open_litert(litert, content, rounding), flat)
    calls = [entry["calls"] for entry in read_report(library, delegate)["operators"]]
    assert calls == [1] * sum(case.nodes for case in cases)
    owners = [case for case in cases for _ in case.outputs]
    wrong = [
        (case, np.count_nonzero(y != y_litert))
        for case, y, y_litert in zip(owners, found, expected, strict=True)
        if not np.array_equal(y, y_litert)
    ]
    assert not wrong
    return inputs, found


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("name", OPERATORS)
def test_operator(
    litert: InterpreterApi, coded_library: Path, rounding: str, name: str, dtype: str
) -> None:
    cases = random_cases(name, dtype, CASES)
    if is_left(name, dtype, rounding):
        model = coded_operators.model(cases[:3])
        delegate = litert.load_delegate(str(coded_library))
        interpreter = litert.open(model, delegate)
        interpreter.allocate_tensors()
        assert len(read_report(coded_library, delegate)["operators"]) == 3  # that make the codes
        return
    inputs, found = check(litert, coded_library, rounding, cases)
    is_known = cases[0].operator in coded_reference.FUNCTIONS
    if rounding == "xnnpack" and is_known:  # TFLite's own kernels wrap sums of 16 bits
        bound = BOUNDS.get(name, 1.0)
        for case, values, y in zip(cases, inputs, found, strict=True):
            assert coded_reference.differences(case, values, y) <= bound, case


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("name", MOVEMENTS)
def test_movement(
    litert: InterpreterApi, build_delegate: Callable[..., Path], name: str, dtype: str
) -> None:
    """Codes are copied, whatever the rule."""
    library = build_delegate(convolutions())
    check(litert, library, "xnnpack", random_movements(name, dtype, CASES // 5))


SHAPE = (1, 1, 1, 12)
X = Codes(SHAPE, "int8", 0.05, 3)


@pytest.mark.parametrize(
    "case",
    [
        CodedCase("TRANSPOSE", [X, np.arange(4, dtype=np.int32)], [replace(X, scale=0.06)]),
        CodedCase("TRANSPOSE", [X, np.arange(4, dtype=np.int32)], [replace(X, zero=4)]),
        CodedCase("RELU", [X], [replace(X, dtype="uint8")]),
        CodedCase("SOFTMAX", [X], [replace(X, scale=1 / 128, zero=-128)], {"beta": 1.0}),
        CodedCase("LOGISTIC", [X], [replace(X, scale=1 / 256, zero=0)]),
        CodedCase("ABS", [X], [X]),
        CodedCase("ADD", [X, replace(X, scale=None)], [X], {"fusedActivationFunction": "none"}),
    ],
    ids=lambda case: case.operator,
)
def test_what_is_left(
    litert: InterpreterApi, build_delegate: Callable[..., Path], case: CodedCase
) -> None:
    """Codes that change what they stand for where TFLite copies them, or that it refuses."""
    library = build_delegate(convolutions())
    delegate = litert.load_delegate(str(library))
    interpreter = litert.open(coded_operators.model([case]), delegate)
    assert interpreter is not None
    assert len(read_report(library, delegate)["operators"]) == 1  # the QUANTIZE in front
