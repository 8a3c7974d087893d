"""Surds: exact arithmetic, conversion to float, and what does not mix."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from schedules.errors import LeanconvError
from schedules.transforms.surds import Surd, sqrt

fractions = st.fractions(-50, 50, max_denominator=40)
surds_of_3 = st.builds(lambda a, b: a + b * sqrt(3), fractions, fractions)


def sign(value: Surd) -> int:
    """Of ``a + b sqrt(d)``, without square roots: the larger of ``a^2`` and ``b^2 d`` decides."""
    a, b = value.rational, value.irrational
    larger = a if a**2 > b**2 * value.radicand else b
    return (larger > 0) - (larger < 0)


@given(surds_of_3, surds_of_3, surds_of_3)
def test_the_field(a: Surd, b: Surd, c: Surd) -> None:
    assert a + b == b + a
    assert a * b == b * a
    assert a + b - b == a
    assert a * (b + c) == a * b + a * c
    assert a + -a == Surd.of(0)
    assert a**3 == a * a * a
    assert a**0 == Surd.of(1)
    assume(b != Surd.of(0))
    assert a / b * b == a
    assert b**-2 * b**2 == Surd.of(1)


@given(surds_of_3, surds_of_3, fractions)
def test_against_floats(a: Surd, b: Surd, q: Fraction) -> None:
    x, y, z = float(a), float(b), float(q)
    slack = 1e-13 * (1 + abs(x)) * (1 + abs(y)) * (1 + abs(z))
    assert float(a + b) == pytest.approx(x + y, abs=slack)
    assert float(a - q) == pytest.approx(x - z, abs=slack)
    assert float(q * a * b) == pytest.approx(x * y * z, abs=slack)
    assert float(q + a) == pytest.approx(z + x, abs=slack)


@given(surds_of_3.filter(lambda value: value != Surd.of(0)))
def test_floats_are_the_nearest(value: Surd) -> None:
    nearest = float(value)
    for neighbour in (math.nextafter(nearest, -math.inf), math.nextafter(nearest, math.inf)):
        middle = (Fraction(nearest) + Fraction(neighbour)) / 2
        assert sign(value - middle) != (1 if neighbour > nearest else -1)


def test_floats_of_differences_that_cancel() -> None:
    """A convergent of the square root of 2: off by less than 1 in 10^12."""
    tiny = -543339720 * sqrt(2) + 768398401
    assert float(tiny) == pytest.approx(1 / (768398401 + 543339720 * math.sqrt(2)), rel=1e-15)
    assert float(sqrt(2)) == math.sqrt(2)
    assert float(Surd.of(Fraction(1, 3))) == 1 / 3


def test_equal_values_are_equal_whatever_made_them() -> None:
    two = sqrt(2) * sqrt(2)
    assert two == Surd.of(2) == Surd.of(two)
    assert hash(two) == hash(Surd.of(Fraction(4, 2)))
    assert sqrt(2) - sqrt(2) + sqrt(3) == sqrt(3)


def test_what_does_not_mix() -> None:
    for mixed in (lambda: sqrt(2) + sqrt(3), lambda: sqrt(2) * sqrt(3), lambda: sqrt(2) / sqrt(3)):
        with pytest.raises(LeanconvError, match=r"sqrt\(2\) and sqrt\(3\) do not mix"):
            mixed()
    for square in (-1, 0, 1, 4, 9):
        with pytest.raises(LeanconvError, match=f"^{square} is no radicand"):
            sqrt(square)
    with pytest.raises(ZeroDivisionError):
        sqrt(2) / 0


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Surd.of(0), "0"),
        (Surd.of(Fraction(-1, 2)), "-1/2"),
        (sqrt(2), "√2"),
        (-sqrt(2) / 2, "-√2/2"),
        (3 * sqrt(2) / 4, "3√2/4"),
        (1 + sqrt(5), "1+√5"),
        (-2 * sqrt(3) + Fraction(1, 2), "1/2-2√3"),
    ],
)
def test_text(value: Surd, text: str) -> None:
    assert str(value) == text
