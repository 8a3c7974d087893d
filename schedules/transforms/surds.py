"""Exact numbers ``a + b sqrt(d)`` with rational ``a`` and ``b``: a quadratic field."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from schedules.errors import LeanconvError


@dataclass(frozen=True)
class Surd:
    """``rational + irrational * sqrt(radicand)``, exact under ``+ - * /`` and integer powers.

    Numbers with different radicands do not mix; a rational number mixes with all.
    """

    rational: Fraction
    irrational: Fraction = Fraction(0)
    radicand: int = 0

    def __post_init__(self) -> None:
        if self.irrational == 0:
            object.__setattr__(self, "radicand", 0)
        elif self.radicand < 2 or math.isqrt(self.radicand) ** 2 == self.radicand:
            raise LeanconvError(f"{self.radicand} is no radicand: 2, 3, 5, 6, …")

    @classmethod
    def of(cls, value: Number) -> Surd:
        """An integer or a fraction as a surd; surds as they are."""
        return value if isinstance(value, Surd) else cls(Fraction(value))

    def __bool__(self) -> bool:
        return bool(self.rational or self.irrational)

    def _with(self, rational: Fraction, irrational: Fraction, other: Surd) -> Surd:
        if self.radicand and other.radicand and self.radicand != other.radicand:
            raise LeanconvError(f"sqrt({self.radicand}) and sqrt({other.radicand}) do not mix")
        return Surd(rational, irrational, self.radicand or other.radicand)

    def __add__(self, value: Number) -> Surd:
        other = Surd.of(value)
        return self._with(self.rational + other.rational, self.irrational + other.irrational, other)

    def __neg__(self) -> Surd:
        return Surd(-self.rational, -self.irrational, self.radicand)

    def __sub__(self, value: Number) -> Surd:
        return self + -Surd.of(value)

    def __mul__(self, value: Number) -> Surd:
        other = Surd.of(value)
        if not (self.irrational or other.irrational):
            return Surd(self.rational * other.rational)
        radicand = self.radicand or other.radicand
        return self._with(
            self.rational * other.rational + self.irrational * other.irrational * radicand,
            self.rational * other.irrational + self.irrational * other.rational,
            other,
        )

    __radd__ = __add__
    __rmul__ = __mul__

    def __truediv__(self, value: Number) -> Surd:
        other = Surd.of(value)
        norm = other.rational**2 - other.irrational**2 * other.radicand
        return self * Surd(other.rational / norm, -other.irrational / norm, other.radicand)

    def __pow__(self, exponent: int) -> Surd:
        base = self if exponent >= 0 else Surd.of(1) / self
        return math.prod([base] * abs(exponent), start=Surd.of(1))

    def __float__(self) -> float:
        if not self.irrational:
            return float(self.rational)
        # Rounded once: 200 bits of the square root are exact enough for any 53 of the sum.
        scale = 1 << 200
        root = Fraction(math.isqrt(self.radicand * scale * scale), scale)
        return float(self.rational + self.irrational * root)

    def __str__(self) -> str:
        if not self.irrational:
            return str(self.rational)
        size = abs(self.irrational)
        numerator = "" if size.numerator == 1 else str(size.numerator)
        root = f"{numerator}√{self.radicand}"
        if size.denominator > 1:
            root += f"/{size.denominator}"
        sign = "-" if self.irrational < 0 else "+" * bool(self.rational)
        return (str(self.rational) if self.rational else "") + sign + root


#: What a :class:`Surd` can be calculated with.
Number = Surd | Fraction | int


def sqrt(radicand: int) -> Surd:
    """The square root of a positive integer that is no square."""
    return Surd(Fraction(0), Fraction(1), radicand)
