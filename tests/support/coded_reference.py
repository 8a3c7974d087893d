"""What operators on codes of 8 bits compute, in real numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tests.support.coded_operators import Array, CodedCase, Codes
from tests.support.operator_models import Constant

Numbers = NDArray[np.float64]
_BOUNDS = {"none": (-np.inf, np.inf), "relu": (0, np.inf), "relu6": (0, 6), "relu_n1_to_1": (-1, 1)}


def _activated(case: CodedCase, x: Numbers) -> Numbers:
    return np.clip(x, *_BOUNDS[case.options.get("fusedActivationFunction", "none")])


def _leaky(case: CodedCase, x: Numbers) -> Numbers:
    return np.where(x >= 0, x, x * case.options["alpha"])


def _mean(case: CodedCase, x: Numbers) -> Numbers:
    axes = case.inputs[1]
    assert isinstance(axes, np.ndarray)
    return np.asarray(x.mean(axis=tuple(axes), keepdims=case.options["keepDims"]))


def _softmax(case: CodedCase, x: Numbers) -> Numbers:
    powers = np.exp(case.options["beta"] * (x - x.max(axis=-1, keepdims=True)))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


#: Numbers of the operands -> those of the output, before its codes end.
FUNCTIONS: Mapping[str, Callable[..., Numbers]] = {
    "ADD": lambda case, a, b: _activated(case, a + b),
    "SUB": lambda case, a, b: _activated(case, a - b),
    "MUL": lambda case, a, b: _activated(case, a * b),
    "PRELU": lambda _, a, b: np.where(a >= 0, a, a * b),
    "LOGISTIC": lambda _, x: 1 / (1 + np.exp(-x)),
    "LEAKY_RELU": _leaky,
    "HARD_SWISH": lambda _, x: x * np.clip(x + 3, 0, 6) / 6,
    "RELU": lambda _, x: np.clip(x, 0, np.inf),
    "RELU6": lambda _, x: np.clip(x, 0, 6),
    "RELU_N1_TO_1": lambda _, x: np.clip(x, -1, 1),
    "MEAN": _mean,
    "SOFTMAX": _softmax,
    "QUANTIZE": lambda _, x: x,
    "DEQUANTIZE": lambda _, x: x,
}


def _numbers(operand: Codes | Constant, value: Array, is_seed: bool) -> Numbers:
    if isinstance(operand, Codes) and (operand.scale is None or is_seed):
        return value.astype(np.float64)
    quantization = operand.quantization
    assert quantization is not None
    return (value.astype(np.float64) - quantization.zero_point) * quantization.scale


def differences(case: CodedCase, inputs: Sequence[Array], found: Array) -> float:
    """The largest distance of a code from the exact one, which is no integer.

    Of numbers, in units of the input's scale.
    """
    given = iter(inputs)
    operands = []
    for number, operand in enumerate(case.inputs):
        if isinstance(operand, np.ndarray):
            continue  # such as axes
        value = operand.codes if isinstance(operand, Constant) else next(given)
        operands.append(_numbers(operand, value, number == case.data))
    exact = FUNCTIONS[case.operator](case, *operands)
    (output,) = case.outputs
    if output.scale is None:
        (x,) = case.inputs
        assert isinstance(x, Codes) and x.scale is not None
        return float(np.abs(found - exact).max() / x.scale)
    limits = np.iinfo(output.dtype)
    codes = np.clip(exact / output.scale + output.zero, limits.min, limits.max)
    return float(np.abs(found - codes).max())
