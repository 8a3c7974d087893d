"""Layers of int8 and uint8 in the delegate: to the last bit what LiteRT computes, by every rule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.support.operator_models import Case, inputs_of, model
from tests.support.quantised_layers import OPERATORS, SHAPES, has_rule, random_layers
from tests.tflite_delegate.conftest import InterpreterApi, read_report, run
from tests.tflite_delegate.csrc.codes.test_codes import open_litert
from tflite_delegate.table import ROUNDINGS

#: Layers of an operator, a type and whose arithmetic, in the sweep.
CASES = 200


def wrong_layers(
    litert: InterpreterApi,
    build_delegate: Callable[..., Path],
    rounding: str,
    cases: Sequence[Case],
) -> list[tuple[int, int]]:
    """Numbers of the layers that are not LiteRT's, and of their elements that are not."""
    content = model(cases, litert.open)
    library = build_delegate(content, rounding=rounding)
    inputs = inputs_of(cases)
    delegate = litert.load_delegate(str(library))
    interpreter = litert.open(content, delegate)
    found = run(interpreter, inputs)
    expected = run(open_litert(litert, content, rounding), inputs)
    assert [entry["calls"] for entry in read_report(library, delegate)["layers"]] == [1] * len(
        cases
    )
    return [
        (number, int(np.count_nonzero(y != y_litert)))
        for number, (y, y_litert) in enumerate(zip(found, expected, strict=True))
        if not np.array_equal(y, y_litert)
    ]


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_layers_are_exact(
    litert: InterpreterApi, build_delegate: Callable[..., Path], rounding: str
) -> None:
    cases = [
        case
        for operator in OPERATORS
        for dtype in ("int8", "uint8")
        if has_rule(operator, dtype, rounding)
        for case in random_layers(operator, dtype, 10, shapes=2)
    ]
    for dtype in ("int8", "uint8"):
        cases += random_layers("DEPTHWISE_CONV_2D", dtype, 1)[-1:]  # of one channel
    assert not wrong_layers(litert, build_delegate, rounding, cases)


@pytest.mark.slow
@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("operator", OPERATORS)
def test_many_layers_are_exact(
    litert: InterpreterApi,
    build_delegate: Callable[..., Path],
    operator: str,
    dtype: str,
    rounding: str,
) -> None:
    if not has_rule(operator, dtype, rounding):
        return
    cases = random_layers(operator, dtype, -(-CASES // len(SHAPES[operator])))
    assert len(cases) >= CASES
    assert not wrong_layers(litert, build_delegate, rounding, cases)
