"""Objectives as points of a curve."""

from __future__ import annotations

import pytest

from schedules.budget.points import point
from schedules.budget.problem import Solution

CURVE = [
    Solution(cost, arena, 0, 0, ())
    for arena, cost in ((100, 200), (110, 190), (200, 120), (400, 105), (1000, 100))
]


@pytest.mark.parametrize(
    ("objective", "arena"), [("time", 1000), ("memory", 200), ("least-memory", 100)]
)
def test_ends_and_knee(objective: str, arena: int) -> None:
    assert point(CURVE, objective).arena == arena


@pytest.mark.parametrize("objective", ["time", "memory", "least-memory"])
def test_of_few_plans(objective: str) -> None:
    """Of two, none is nearer to the line between them: the knee is the one with fewer bytes."""
    assert point(CURVE[:1], objective) is CURVE[0]
    assert point(CURVE[1:3], objective) is CURVE[2 if objective == "time" else 1]
