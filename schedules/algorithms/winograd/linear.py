"""Multiply small constant matrices with vectors of expressions, in few operations."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence

from tvm import tirx

from schedules.transforms.cook_toom import ExactMatrix
from schedules.transforms.surds import Surd

_ZERO, _ONE, _TWO = (Surd.of(value) for value in range(3))


def select_row(
    matrix: ExactMatrix,
    row: tirx.Expr,
    values: Sequence[tirx.Expr],
    dtype: str,
    fused: bool = True,
) -> tirx.Expr:
    """Element ``row`` of ``matrix @ values``; unrolling ``row`` leaves that element alone."""
    *others, result = rows = multiply(matrix, values, dtype, fused)
    for index in range(len(others) - 1, -1, -1):
        result = tirx.Select(row == index, rows[index], result)
    return result


def multiply(
    matrix: ExactMatrix, values: Sequence[tirx.Expr], dtype: str, fused: bool = True
) -> list[tirx.Expr]:
    """``matrix @ values``, each element a sum of fused multiply-adds, or of products.

    The transforms of opposite points ``p`` and ``-p`` are sums and differences of the same two
    terms: two rows of ``B^T`` whose coefficients differ in sign alone, or two such columns of
    ``A^T``. Both terms are written alike wherever they occur, so that the compiler computes them
    once.

    Parameters
    ----------
    fused : bool
        Not for light matrices (:attr:`Filtering.light`): most of their products are shared or
        doublings, and where a multiply-add overwrites the sum, each fused one would need a copy.
    """
    matrix, values = _fold_columns(matrix, list(values))
    combine = _combine if fused else _add_up
    rows: list[tirx.Expr] = []
    for index, row in enumerate(matrix):
        partner = _partner(matrix, index, range(len(matrix)))
        if partner is None:
            rows.append(combine(row, values, dtype))
            continue
        pairs = list(zip(row, matrix[partner], strict=True))
        even = [a if a == b else _ZERO for a, b in pairs]
        odd = [a if a != b else _ZERO for a, b in pairs]
        scale = next(a for a in reversed(odd) if a != _ZERO)
        term = combine([a / scale for a in odd], values, dtype)
        total = combine(even, values, dtype)
        if fused:
            rows.append(_add(total, scale, term, dtype))
        else:
            product = _times(scale if float(scale) > 0 else -scale, term, dtype)
            rows.append(total + product if float(scale) > 0 else total - product)
    return rows


def _fold_columns(
    matrix: ExactMatrix, values: list[tirx.Expr]
) -> tuple[ExactMatrix, list[tirx.Expr]]:
    """Replace pairs of columns that differ in sign alone by those of the sum and the difference."""
    columns = list(zip(*matrix, strict=True))
    folded: list[tuple[tuple[Surd, ...], tirx.Expr]] = []
    paired: set[int] = set()
    for index, column in enumerate(columns):
        if index in paired:
            continue
        partner = _partner(columns, index, sorted(set(range(index, len(columns))) - paired))
        if partner is None:
            folded.append((column, values[index]))
            continue
        paired.add(partner)
        pairs = list(zip(column, columns[partner], strict=True))
        same = tuple(a if a == b else _ZERO for a, b in pairs)
        opposite = tuple(a if a != b else _ZERO for a, b in pairs)
        folded.append((same, values[index] + values[partner]))
        folded.append((opposite, values[index] - values[partner]))
    rows = tuple(zip(*(column for column, _ in folded), strict=True))
    return rows, [value for _, value in folded]


def _partner(vectors: Sequence[Sequence[Surd]], index: int, others: Sequence[int]) -> int | None:
    """One of ``others`` equal to ``vectors[index]`` up to the signs of some, not all, elements."""
    for other in others:
        pairs = [
            (a, b)
            for a, b in zip(vectors[index], vectors[other], strict=True)
            if (a, b) != (_ZERO, _ZERO)
        ]
        same = sum(a == b for a, b in pairs)
        opposite = sum(a == -b for a, b in pairs)
        if same and opposite and same + opposite == len(pairs):
            return other
    return None


def _combine(coefficients: Sequence[Surd], values: Sequence[tirx.Expr], dtype: str) -> tirx.Expr:
    """The sum of ``coefficient * value``, those with coefficient 1 first: all others are fused."""
    terms = [pair for pair in zip(coefficients, values, strict=True) if pair[0] != _ZERO]
    terms.sort(key=lambda pair: pair[0] != _ONE)
    (first, value), *rest = terms
    total = _times(first, value, dtype)
    for coefficient, value in rest:
        total = _add(total, coefficient, value, dtype)
    return total


def _add_up(coefficients: Sequence[Surd], values: Sequence[tirx.Expr], dtype: str) -> tirx.Expr:
    """The sum of ``coefficient * value``: doubled ones are added twice, behind all others.

    So sums with other values doubled begin alike.
    """
    terms = [pair for pair in zip(coefficients, values, strict=True) if pair[0] != _ZERO]
    parts = [_times(_ONE if a == _TWO else a, value, dtype) for a, value in terms]
    parts += [value for a, value in terms if a == _TWO]
    return functools.reduce(operator.add, parts)


def _times(coefficient: Surd, value: tirx.Expr, dtype: str) -> tirx.Expr:
    """``coefficient * value``."""
    return value if coefficient == _ONE else value * tirx.const(float(coefficient), dtype)


def _add(total: tirx.Expr, coefficient: Surd, value: tirx.Expr, dtype: str) -> tirx.Expr:
    """``total + coefficient * value``."""
    if coefficient in (_ONE, -_ONE):
        return total + value if coefficient == _ONE else total - value
    # Not left to the compiler: it turns a doubling into an addition, which it cannot fuse.
    size = tirx.const(abs(float(coefficient)), dtype)
    factor = value if float(coefficient) > 0 else -value
    return tirx.call_intrin(dtype, "tirx.fma", factor, size, total)
