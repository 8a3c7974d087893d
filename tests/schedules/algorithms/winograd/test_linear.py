"""Constant matrices times expressions: the right values, in no more operations than needed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import tvm
from hypothesis import given
from hypothesis import strategies as st
from tvm import tirx

from schedules.algorithms.winograd import linear
from schedules.transforms.cook_toom import ExactMatrix, as_floats, filtering
from schedules.transforms.surds import Surd
from scripts.benchmarks.winograd import float32
from tests.support.reference import gamma

FORMS = [(2, 3), (3, 3), (4, 3), (5, 3), (6, 3), (8, 3), (2, 5), (4, 5), (4, 2), (4, 4), (1, 2)]


def variables(count: int) -> list[tirx.Var]:
    return [tirx.Var(f"x{i}", "float32") for i in range(count)]


@pytest.mark.parametrize(("outputs", "taps"), FORMS)
@pytest.mark.parametrize("name", ["image", "output"])
def test_transforms(outputs: int, taps: int, name: str) -> None:
    matrix: ExactMatrix = getattr(filtering(outputs, taps), name)
    values = np.random.default_rng(0).standard_normal((len(matrix[0]), 100)).astype(np.float32)
    results = float32.multiply(matrix, list(values))
    floats = as_floats(matrix)
    # As in tests.support.reference: the length of the sum and 3 for constants and shared terms.
    bound = gamma(len(values) + 3) * (abs(floats) @ abs(values.astype(np.float64)))
    assert (abs(np.array(results) - floats @ values.astype(np.float64)) <= bound).all()


POWERS = st.sampled_from([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0])


@st.composite
def _matrices(draw: st.DrawFn) -> list[list[float]]:
    """Rows and columns often differ in signs alone, as those of opposite points do."""
    width = draw(st.integers(1, 6))
    row = st.lists(POWERS, min_size=width, max_size=width).filter(any)
    rows = draw(st.lists(row, min_size=1, max_size=4))
    signs = draw(st.lists(st.sampled_from([1, -1]), min_size=width, max_size=width))
    rows += [[a * sign for a, sign in zip(row, signs, strict=True)] for row in rows]
    return rows


@given(_matrices(), st.randoms(use_true_random=False))
def test_any_matrix(rows: list[list[float]], numbers: Any) -> None:
    """Without any rounding: powers of two and small integers."""
    matrix = tuple(tuple(Surd.of(int(2 * a)) / 2 for a in row) for row in rows)
    values = [np.float32(numbers.randint(-9, 9)) for _ in rows[0]]
    results = float32.multiply(matrix, [np.asarray(value) for value in values])
    np.testing.assert_array_equal(results, np.array(rows) @ values)


def operations(expressions: Sequence[Any]) -> Counter[str]:
    """Different operations; a term that is written twice counts once, changes of sign do not."""
    found: dict[str, str] = {}

    def visit(node: Any) -> None:
        kind = type(node).__name__
        if isinstance(node, tvm.ir.Call):
            kind = "fma"
            children = list(node.args)
        elif isinstance(node, tirx.Add | tirx.Sub | tirx.Mul):
            children = [node.a, node.b]
        else:
            return
        negation = kind == "Mul" and getattr(node.b, "value", None) == -1
        if not negation:
            found[str(node)] = "Add" if kind == "Sub" else kind
        for child in children:
            visit(child)

    for expression in expressions:
        visit(expression)
    return Counter(found.values())


@pytest.mark.parametrize(
    ("outputs", "name", "expected"),
    [
        # Lavin and Gray, section 4.1: 4 additions each.
        (2, "image", {"Add": 4}),
        (2, "output", {"Add": 4}),
        # Points p and -p: two terms and the two ways to put them together. Zero and infinity: two
        # of three coefficients are 1.
        (4, "image", {"fma": 2 * 4 + 2, "Add": 2}),
        # A sum and a difference for each pair; rows of 3, 2, 2 and 3 terms.
        (4, "output", {"Add": 4 + 2, "Mul": 2, "fma": 1 + 1 + 2}),
    ],
)
def test_opposite_points_share_their_terms(
    outputs: int, name: str, expected: dict[str, int]
) -> None:
    matrix: ExactMatrix = getattr(filtering(outputs, 3), name)
    rows = linear.multiply(matrix, variables(len(matrix[0])), "float32")
    assert operations(rows) == expected


def evaluate(node: Any, values: dict[str, np.float32]) -> Any:
    """Sums and products in float32."""
    if isinstance(node, tirx.Var):
        return values[node.name]
    if isinstance(node, tirx.FloatImm):
        return np.float32(node.value)
    a, b = evaluate(node.a, values), evaluate(node.b, values)
    return {tirx.Add: a + b, tirx.Sub: a - b, tirx.Mul: a * b}[type(node)]


@pytest.mark.parametrize(("outputs", "taps"), FORMS)
def test_light_kernels_without_fused_products(outputs: int, taps: int) -> None:
    matrix, unknown = filtering(outputs, taps).light.kernel, variables(taps)
    values = np.random.default_rng(0).standard_normal((taps, 100)).astype(np.float32)
    named = {variable.name: row for variable, row in zip(unknown, values, strict=True)}
    rows = linear.multiply(matrix, unknown, "float32", fused=False)
    results = np.array([np.broadcast_to(evaluate(row, named), 100) for row in rows])
    floats = as_floats(matrix)
    bound = gamma(taps + 3) * (abs(floats) @ abs(values.astype(np.float64)))
    assert (abs(results - floats @ values.astype(np.float64)) <= bound).all()


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        (2, {"Add": 3}),
        # Rows 2, ±√2, 1 and 1, ±√2, 2 begin with the same sum and share a product.
        (4, {"Add": 3 + 4, "Mul": 1}),
    ],
)
def test_light_kernels_share_sums_and_products(outputs: int, expected: dict[str, int]) -> None:
    matrix = filtering(outputs, 3).light.kernel
    rows = linear.multiply(matrix, variables(3), "float32", fused=False)
    assert operations(rows) == expected


def test_a_selected_row_is_that_row() -> None:
    matrix, values = filtering(4, 3).image, variables(6)
    row = tirx.Var("row", "int32")
    selected = linear.select_row(matrix, row, values, "float32")
    *others, last = linear.multiply(matrix, values, "float32")
    for index, expected in enumerate(others):
        assert isinstance(selected, tirx.Select)
        tvm.ir.assert_structural_equal(selected.condition, row == index, map_free_vars=False)
        tvm.ir.assert_structural_equal(selected.true_value, expected)
        selected = selected.false_value
    tvm.ir.assert_structural_equal(selected, last)
