"""Minimal filtering: exact for all points, the published matrices, the error, the refusals."""

from __future__ import annotations

import random
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schedules.errors import LeanconvError
from schedules.transforms.cook_toom import (
    POINTS,
    ExactMatrix,
    Filtering,
    as_floats,
    filtering,
    opposite,
)
from schedules.transforms.surds import Number, Surd, sqrt

SIZES = [(m, r) for m in range(1, 10) for r in range(1, 10) if m + r - 2 in POINTS]
#: B^T, G and A^T as Lavin and Gray print them (arXiv 1509.09308, section 4.1 and 4.3).
LAVIN_GRAY = {
    (2, (0, 1, -1)): (
        [[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]],
        [[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]],
        [[1, 1, 1, 0], [0, 1, -1, -1]],
    ),
    (4, (0, 1, -1, 2, -2)): (
        [
            [4, 0, -5, 0, 1, 0],
            [0, -4, -4, 1, 1, 0],
            [0, 4, -4, -1, 1, 0],
            [0, -2, -1, 2, 1, 0],
            [0, 2, -1, -2, 1, 0],
            [0, 4, 0, -5, 0, 1],
        ],
        [
            [1 / 4, 0, 0],
            [-1 / 6, -1 / 6, -1 / 6],
            [-1 / 6, 1 / 6, -1 / 6],
            [1 / 24, 1 / 12, 1 / 6],
            [1 / 24, -1 / 12, 1 / 6],
            [0, 0, 1],
        ],
        [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]],
    ),
}


def product(matrix: ExactMatrix, vector: list[Surd]) -> list[Surd]:
    return [sum((a * b for a, b in zip(row, vector, strict=True)), Surd.of(0)) for row in matrix]


def assert_filters(form: Filtering) -> None:
    """Exactly, for random numbers: what the definition gives, from as many products as inputs."""
    numbers = random.Random(0)
    taps = [Surd.of(numbers.randint(-99, 99)) for _ in range(form.taps)]
    pixels = [Surd.of(numbers.randint(-99, 99)) for _ in range(form.outputs + form.taps - 1)]
    assert form.inputs == len(pixels)
    kernel, image = product(form.kernel, taps), product(form.image, pixels)
    outputs = product(form.output, [a * b for a, b in zip(kernel, image, strict=True)])
    assert outputs == [
        sum((taps[k] * pixels[i + k] for k in range(form.taps)), Surd.of(0))
        for i in range(form.outputs)
    ]


@pytest.mark.parametrize(("outputs", "taps"), [(1, 1), *SIZES])
def test_known_points(outputs: int, taps: int) -> None:
    assert_filters(filtering(outputs, taps))


@st.composite
def _points(draw: st.DrawFn) -> tuple[int, int, tuple[Number, ...]]:
    outputs, taps = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    fractions = st.fractions(-3, 3, max_denominator=9)
    radicand = draw(st.sampled_from([2, 3, 5]))
    surds = st.builds(lambda a, b: a + b * sqrt(radicand), fractions, fractions)
    count = outputs + taps - 2
    points = draw(
        st.lists(fractions.map(Surd.of) | surds, min_size=count, max_size=count, unique=True)
    )
    return outputs, taps, tuple(points)


@settings(max_examples=25)
@given(_points())
def test_any_points(case: tuple[int, int, tuple[Number, ...]]) -> None:
    assert_filters(filtering(*case))


@pytest.mark.parametrize(("outputs", "points"), LAVIN_GRAY)
def test_the_published_matrices(outputs: int, points: tuple[int, ...]) -> None:
    """Up to factors of the rows that cancel: each point's part of the tensor is the same."""
    form = filtering(outputs, 3, points)
    image, kernel, output = (np.array(m) for m in LAVIN_GRAY[outputs, points])
    ours = [as_floats(m) for m in (form.output, form.kernel, form.image)]
    for j in range(form.inputs):
        parts = np.einsum("i,k,l->ikl", ours[0][:, j], ours[1][j], ours[2][j])
        expected = np.einsum("i,k,l->ikl", output[:, j], kernel[j], image[j])
        np.testing.assert_allclose(parts, expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize("matrix", ["output", "kernel", "image"])
def test_a_wrong_matrix_is_found(matrix: str) -> None:
    form = filtering(4, 3)
    form.check()
    rows = getattr(form, matrix)
    for i, j in np.ndindex(len(rows), len(rows[0])):
        wrong = [list(row) for row in rows]
        wrong[i][j] = wrong[i][j] + Fraction(1, 1000)
        changed: dict[str, Any] = {matrix: tuple(map(tuple, wrong))}
        with pytest.raises(LeanconvError, match=r"F\(4, 3\) at 0, √2/2, .* is no correlation"):
            replace(form, **changed).check()


@pytest.mark.parametrize(("outputs", "taps"), [(2, 3), (4, 3), (3, 3), (6, 3), (2, 5)])
def test_amplification_of_random_errors(outputs: int, taps: int) -> None:
    """Errors of random relative size in every product, against those in the definition's."""
    form, numbers = filtering(outputs, taps), np.random.default_rng(0)
    samples = 200_000
    output, kernel, image = (as_floats(m) for m in (form.output, form.kernel, form.image))
    products = kernel @ numbers.standard_normal((taps, samples))
    products *= image @ numbers.standard_normal((form.inputs, samples))
    errors = output @ (products * numbers.standard_normal(products.shape))
    assert form.amplification == pytest.approx(np.sqrt((errors**2).mean() / taps), rel=0.02)


@pytest.mark.parametrize(("outputs", "taps"), SIZES)
def test_light_kernels(outputs: int, taps: int) -> None:
    """The same correlation, which errs as much; the smallest number of each row of G is 1."""
    form = filtering(outputs, taps)
    light = form.light
    light.check()
    assert light.image == form.image
    assert light.amplification == pytest.approx(form.amplification)
    for row in as_floats(light.kernel):
        assert abs(row[row != 0]).min() == 1
        assert row[row != 0][0] > 0


def test_amplification_is_known() -> None:
    assert filtering(1, 1).amplification == 1
    # |G|^2 |B|^2 is 2 at 0 and infinity, of which each output takes one, and 3/2 at both of ±1.
    assert filtering(2, 3).amplification ** 2 == pytest.approx((2 + 3 / 2 + 3 / 2) / 3)


@pytest.mark.parametrize(("outputs", "taps"), SIZES)
def test_the_points_are_no_worse_than_the_usual(outputs: int, taps: int) -> None:
    count = outputs + taps - 2
    usual = [0, 1, -1, 2, -2, Fraction(1, 2), -Fraction(1, 2), 4, -Fraction(1, 4)][:count]
    worse = filtering(outputs, taps, tuple(usual)).amplification
    assert filtering(outputs, taps).amplification <= worse * (1 + 1e-12)


def test_opposite_points() -> None:
    assert opposite(2, sqrt(2)) == (Surd.of(2), Surd.of(-2), sqrt(2), -sqrt(2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((2, 3, (0, 1, 1)), r"F\(2, 3\) needs 3 different finite points"),
        ((2, 3, (0, 1, sqrt(2) * sqrt(2) / 2)), "different finite points"),
        ((2, 3, (0, 1)), "needs 3 different"),
        ((2, 3, (0, 1, -1, 2)), "needs 3 different"),
        ((8, 4), r"F\(8, 4\): no points are known for 11 inputs"),
        ((2, 3, (0, sqrt(2), sqrt(3))), "do not mix"),
    ],
)
def test_refusals(arguments: tuple[int, int, tuple[Number, ...]], message: str) -> None:
    with pytest.raises(LeanconvError, match=message):
        filtering(*arguments)
