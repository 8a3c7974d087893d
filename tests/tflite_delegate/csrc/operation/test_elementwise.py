"""Functions of one element or two, against numpy in float64 and TFLite's own kernels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.support.tflite_writer import ModelWriter
from tests.tflite_delegate.conftest import InterpreterApi, run
from tests.tflite_delegate.csrc.operators.operator_cases import WIDE, X, identity, operators

Function = Callable[[np.ndarray], np.ndarray]
#: Each function, and its greatest relative error. Of the first three it is as exponential.h says,
#: where an ulp is 2^-23 at most (TANH's 6.5 are near one, where it is half of that).
FUNCTIONS: dict[str, tuple[Function, float]] = {
    "TANH": (np.tanh, 4 * 2.0**-23),
    "EXP": (np.exp, 2 * 2.0**-23),
    "LOGISTIC": (lambda x: 1 / (1 + np.exp(-x)), 4 * 2.0**-23),
    "SQUARE": (np.square, 2.0**-24),
    "SQRT": (np.sqrt, 2.0**-24),
    "RSQRT": (lambda x: 1 / np.sqrt(x), 2.0**-23),
    "NEG": (np.negative, 0.0),
    "ABS": (np.abs, 0.0),
}
SPECIAL = np.array(
    [0.0, -0.0, np.inf, -np.inf, np.nan, -np.nan, 1e-40, -1e-40, 1e38, -1e38, 3.4e38, -3.4e38,
     88.7, 88.73, -87.4, -103.0, -104.5, 9.0, -9.1, 1.0],
    np.float32,
)  # fmt: skip


def in_front(name: str, operands: int = 1) -> bytes:
    """The operator itself, whose output a convolution reads too: so the delegate takes it."""
    writer = ModelWriter()
    inputs = [writer.tensor(WIDE) for _ in range(operands)]
    y = writer.node(name, inputs, WIDE)
    return writer.finish(inputs, [y, identity(writer, y, WIDE)])


def run_both(
    litert: InterpreterApi, library: Path, model: bytes, inputs: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """What the delegate and TFLite's kernels compute."""
    delegate = litert.load_delegate(str(library))
    sessions = [litert.open(model, delegate), litert.open(model)]
    y, expected = (run(session, inputs)[0] for session in sessions)
    assert len(operators(library, delegate)) == 1
    return y, expected


@pytest.mark.parametrize("scale", [1e-6, 1.0, 20.0, 80.0])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_function(litert: InterpreterApi, library: Path, name: str, scale: float) -> None:
    function, error = FUNCTIONS[name]
    x = np.random.default_rng(0).uniform(-scale, scale, WIDE).astype(np.float32)
    if name.endswith("SQRT"):
        x = abs(x)
    y, builtin = run_both(litert, library, in_front(name), [x])
    expected = function(x.astype(np.float64))
    assert np.all(abs(y - expected) <= error * abs(expected))
    assert np.allclose(builtin, expected, rtol=2.0**-19, atol=2.0**-24)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_special_numbers(litert: InterpreterApi, library: Path, name: str) -> None:
    """NaN, infinities and zeros where TFLite has them, in vectors and in what is left of rows."""
    x = np.resize(SPECIAL, WIDE)
    y, builtin = run_both(litert, library, in_front(name), [x])
    for kind in (np.isnan, np.isposinf, np.isneginf):
        assert np.array_equal(kind(y), kind(builtin)), kind
    finite = np.isfinite(y)
    assert np.array_equal(np.signbit(y[finite]), np.signbit(builtin[finite]))
    assert np.allclose(y[finite], builtin[finite], rtol=2.0**-19, atol=2.0**-126)


def test_squared_difference(litert: InterpreterApi, library: Path) -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.uniform(-3, 3, WIDE).astype(np.float32) for _ in range(2))
    b[0, 0, 0, :6] = a[0, 0, 0, :6] = SPECIAL[:6]
    y, builtin = run_both(litert, library, in_front("SQUARED_DIFFERENCE", 2), [a, b])
    assert np.array_equal(y, builtin, equal_nan=True)


def test_layer_normalization(interpreter_api: InterpreterApi, library: Path) -> None:
    """As converters write it: all of it is the delegate's."""
    writer = ModelWriter()
    x = writer.tensor(X)
    first = identity(writer, x, X)
    axis = writer.constant(np.array([3], np.int32))
    row = (*X[:3], 1)
    none = {"fusedActivationFunction": "none"}
    mean = writer.node("MEAN", [first, axis], row, keepDims=True)
    squares = writer.node("SQUARED_DIFFERENCE", [first, mean], X)
    variance = writer.node("MEAN", [squares, axis], row, keepDims=True)
    shifted = writer.node(
        "ADD", [variance, writer.constant(np.array(1e-3, np.float32))], row, **none
    )
    scale = writer.node("RSQRT", [shifted], row)
    scaled = writer.node("MUL", [first, scale], X, **none)
    offset = writer.node("MUL", [mean, scale], row, **none)
    y = writer.node("SUB", [scaled, offset], X, **none)
    delegate = interpreter_api.load_delegate(str(library))
    interpreter = interpreter_api.open(writer.finish([x], [y]), delegate)
    value = np.random.default_rng(0).uniform(-1, 1, X).astype(np.float32)
    (result,) = run(interpreter, [value])
    exact = value.astype(np.float64)
    centered = exact - exact.mean(axis=3, keepdims=True)
    expected = centered / np.sqrt((centered**2).mean(axis=3, keepdims=True) + 1e-3)
    # Sums of twelve elements, and a dozen operations on numbers below four.
    assert np.all(abs(result - expected) <= 36 * 2.0**-24 * 4)
    assert len(operators(library, delegate)) == 8
