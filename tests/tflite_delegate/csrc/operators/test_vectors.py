"""Rows and matrices of many sizes, in vectors of every width that the machine has."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.support.tflite_writer import ModelWriter
from tests.tflite_delegate.conftest import InterpreterApi, run
from tests.tflite_delegate.csrc.operators.operator_cases import (
    UNIT,
    WIDE,
    X,
    convolutions,
    identity,
    ints,
    operators,
)

#: The target that decides on the width of C code's vectors.
TARGETS = ["host"] + ["x86-64-v3"] * (platform.machine() == "x86_64")


def matrices(image: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """All of as many elements as an image."""
    elements = int(np.prod(image))
    return ((rows, elements // rows) for rows in range(1, elements + 1) if elements % rows == 0)


def model(image: tuple[int, ...]) -> bytes:
    """Each matrix transposed, and the softmax of its rows."""
    writer = ModelWriter()
    x = writer.tensor(image)
    copied = identity(writer, x, image)
    outputs = []
    for rows, columns in matrices(image):
        shape = (rows, columns)
        matrix = writer.node("RESHAPE", [copied, writer.constant(ints(*shape))], shape)
        order = writer.constant(ints(1, 0))
        outputs.append(writer.node("TRANSPOSE", [matrix, order], (columns, rows)))
        outputs.append(writer.node("SOFTMAX", [matrix], shape, beta=1.0))
    return writer.finish([x], outputs)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("image", [X, WIDE])
def test_matrices(
    litert: InterpreterApi,
    build_delegate: Callable[..., Path],
    image: tuple[int, ...],
    target: str,
) -> None:
    library = build_delegate(convolutions(), target=target)
    delegate = litert.load_delegate(str(library))
    interpreter = litert.open(model(image), delegate)
    value = np.random.default_rng(0).uniform(-9, 9, image).astype(np.float32)
    results = run(interpreter, [value])
    shapes = list(matrices(image))
    assert len(operators(library, delegate)) == 3 * len(shapes)
    for (rows, columns), transposed, softened in zip(
        shapes, results[::2], results[1::2], strict=True
    ):
        matrix = value.reshape(rows, columns)
        assert np.array_equal(transposed, matrix.T), (rows, columns)
        powers = np.exp(matrix.astype(np.float64) - matrix.max(axis=1, keepdims=True))
        exact = powers / powers.sum(axis=1, keepdims=True)
        # The difference of numbers below 18, 2 ulp of the power, a sum of as many parts as there
        # are vectors of eight, a quotient and a product.
        bound = (18 + 4 + columns / 8 + 6) * UNIT
        assert np.all(abs(softened - exact) <= bound * exact), (rows, columns)
