"""The parts of a condition."""

from __future__ import annotations

from tvm import tirx


def conjuncts(condition: tirx.Expr) -> list[tirx.Expr]:
    """What must all hold for ``condition`` to hold."""
    if isinstance(condition, tirx.And):
        return [*conjuncts(condition.a), *conjuncts(condition.b)]
    return [condition]
