"""Minimal filtering F(m, r) after Cook and Toom, generated exactly.

``m`` outputs of a filter with ``r`` taps, from ``n = m + r - 1`` inputs, take ``n`` products
instead of ``m r``::

    y = A^T [(G g) * (B^T d)],    y[i] = sum_k g[k] d[i + k]

It is interpolation at ``n`` points: ``n - 1`` finite ones, which are free to choose, and infinity
(Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", arXiv 1509.09308; Blahut,
"Fast Algorithms for Signal Processing", section 5.2). The points decide the rounding error:
Barabasz, Anderson, Soodhalter and Gregg, "Error Analysis and Improving the Accuracy of Winograd
Convolution for Deep Neural Networks" (arXiv 1803.10986).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache, cached_property

import numpy as np

from schedules.errors import LeanconvError
from schedules.transforms.surds import Number, Surd, sqrt

#: A small matrix of exact numbers, row by row.
ExactMatrix = tuple[tuple[Surd, ...], ...]


def opposite(*points: Number) -> tuple[Surd, ...]:
    """Every point with both signs: so half of each transform serves two rows."""
    return tuple(sign * Surd.of(point) for point in points for sign in (1, -1))


_ROOT = sqrt(2)
#: Finite points by their number, of nearly the least :attr:`Filtering.amplification` that pairs of
#: opposite points have. Fewer than seven lie nearer to one another than the usual 0, ±1, ±2, ±1/2;
#: seven are best as usual. Pairs without 0 serve even numbers better than 0 and a point alone.
POINTS: Mapping[int, tuple[Number, ...]] = {
    1: (0,),
    2: opposite(1),
    3: (0, *opposite(1)),
    4: opposite(Fraction(2, 5), Fraction(5, 4)),
    5: (0, *opposite(_ROOT / 2, _ROOT)),
    6: opposite(Fraction(2, 7), Fraction(6, 7), Fraction(7, 4)),
    7: (0, *opposite(1, 2, Fraction(1, 2))),
    8: opposite(Fraction(1, 4), Fraction(2, 3), Fraction(9, 8), 2),
    9: (0, *opposite(Fraction(4, 5), Fraction(5, 4), Fraction(2, 5), Fraction(5, 2))),
}


@dataclass(frozen=True)
class Filtering:
    """The matrices of one F(m, r).

    Parameters
    ----------
    outputs, taps : int
        ``m`` and ``r``.
    points : tuple of Surd
        The finite ones.
    output, kernel, image : ExactMatrix
        ``A^T`` (m, n), ``G`` (n, r) and ``B^T`` (n, n).
    """

    outputs: int
    taps: int
    points: tuple[Surd, ...]
    output: ExactMatrix
    kernel: ExactMatrix
    image: ExactMatrix

    @property
    def inputs(self) -> int:
        """``n = m + r - 1``."""
        return len(self.image)

    @cached_property
    def transform(self) -> tuple[tuple[float, ...], ...]:
        """``G`` as packed weights take it, each element rounded once."""
        return tuple(map(tuple, as_floats(self.kernel).tolist()))

    @cached_property
    def amplification(self) -> float:
        """How much the rounding errors of the ``n`` products grow: root mean square over outputs.

        ``sqrt(mean_i sum_j A[i, j]^2 |G[j]|^2 |B[j]|^2 / r)``: the error of a sum over channels in
        the transformed domain, as it arrives in the output, over its error without transforms,
        for independent data and rounding errors of zero mean. 1 for F(1, 1).
        """
        output, kernel, image = (as_floats(m) for m in (self.output, self.kernel, self.image))
        products = (kernel**2).sum(axis=1) * (image**2).sum(axis=1)
        return math.sqrt((output**2 @ products).mean() / self.taps)

    @cached_property
    def light(self) -> Filtering:
        """The same correlation with ``G`` of small numbers: ``A^T`` takes what scaled its rows.

        The smallest number of a row, but for zeros, is 1, and the first positive.
        """
        zero = Surd.of(0)
        scales = []
        for row in self.kernel:
            numbers = [g if float(g) > 0 else -g for g in row if g != zero]
            is_positive = float(next(g for g in row if g != zero)) > 0
            smallest = min(numbers, key=float)
            scales.append(smallest if is_positive else -smallest)
        return replace(
            self,
            kernel=tuple(
                tuple(g / scale for g in row)
                for row, scale in zip(self.kernel, scales, strict=True)
            ),
            output=tuple(
                tuple(a * scale for a, scale in zip(row, scales, strict=True))
                for row in self.output
            ),
        )

    def check(self) -> None:
        """Verify, exactly, that the matrices compute a correlation.

        Coefficient by coefficient: ``sum_j A[i, j] G[j, k] B[j, l]`` is 1 if ``l = i + k``, else 0.
        """
        n, zero = self.inputs, Surd.of(0)
        for i, k in np.ndindex(self.outputs, self.taps):
            factors = [self.output[i][j] * self.kernel[j][k] for j in range(n)]
            for at in range(n):
                used = (j for j in range(n) if factors[j] and self.image[j][at])
                total = sum((factors[j] * self.image[j][at] for j in used), zero)
                if total != Surd.of(int(at == i + k)):
                    raise LeanconvError(
                        f"F({self.outputs}, {self.taps}) at {', '.join(map(str, self.points))} "
                        "is no correlation"
                    )


@cache
def filtering(outputs: int, taps: int, points: tuple[Number, ...] | None = None) -> Filtering:
    """F(``outputs``, ``taps``), checked.

    Parameters
    ----------
    points : tuple of int, Fraction or Surd, optional
        ``outputs + taps - 2`` different finite points; by default those of :data:`POINTS`.

    Raises
    ------
    LeanconvError
        If the points are too few, too many or not different, or none are known.
    """
    n = outputs + taps - 1
    if n == 1:
        one: ExactMatrix = ((Surd.of(1),),)
        return Filtering(1, 1, (), one, one, one)
    if points is None:
        if n - 1 not in POINTS:
            raise LeanconvError(f"F({outputs}, {taps}): no points are known for {n} inputs")
        points = POINTS[n - 1]
    finite = tuple(Surd.of(point) for point in points)
    if len(set(finite)) != n - 1 or len(finite) != n - 1:
        raise LeanconvError(f"F({outputs}, {taps}) needs {n - 1} different finite points")

    def powers(point: Surd, count: int) -> list[Surd]:
        return [point**exponent for exponent in range(count)]

    one_, zero = Surd.of(1), Surd.of(0)
    columns = [powers(point, outputs) for point in finite] + [[zero] * (outputs - 1) + [one_]]
    kernel, image = [], []
    for point in finite:
        others = [other for other in finite if other != point]
        image.append([*_expand(others), zero])
        scale = math.prod((point - other for other in others), start=one_)
        kernel.append([power / scale for power in powers(point, taps)])
    image.append(_expand(finite))
    kernel.append([zero] * (taps - 1) + [one_])
    result = Filtering(
        outputs,
        taps,
        finite,
        tuple(tuple(column[i] for column in columns) for i in range(outputs)),
        tuple(map(tuple, kernel)),
        tuple(map(tuple, image)),
    )
    result.check()
    return result


def _expand(roots: Sequence[Surd]) -> list[Surd]:
    """Coefficients of ``prod (x - root)``, lowest power first."""
    coefficients = [Surd.of(1)]
    for root in roots:
        shifted = [Surd.of(0), *coefficients]
        scaled = [*(-root * value for value in coefficients), Surd.of(0)]
        coefficients = [a + b for a, b in zip(shifted, scaled, strict=True)]
    return coefficients


def as_floats(matrix: ExactMatrix) -> np.ndarray:
    """The matrix in float64, each element rounded once."""
    return np.array([[float(value) for value in row] for row in matrix])
