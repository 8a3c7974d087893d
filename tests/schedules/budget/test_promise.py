"""What a plan holds where TFLite's arena has gaps."""

from __future__ import annotations

from dataclasses import replace

import pytest

from schedules.budget import promise
from schedules.budget.problem import Form, Solution, Unit
from schedules.layer.network import Network


@pytest.fixture
def gaps(monkeypatch: pytest.MonkeyPatch) -> dict[int, int]:
    """Bytes of gaps, by the arena that is asked for."""
    found: dict[int, int] = {}

    def with_gaps(_arenas: promise.Arenas, solution: Solution) -> Solution:
        return replace(solution, arena=solution.arena + found.get(solution.arena, 0))

    monkeypatch.setattr(promise.Arenas, "with_gaps", with_gaps)
    return found


NETWORK = Network("n", (), (), (), (), (), {})
#: Of 100, 150 and 400 bytes, and of different workspace.
CURVE = [
    Solution(cost, size, 0, 0, ((Unit(0, 0, 0, ()), Form(cost, size, 0)),))
    for cost, size in ((9, 100), (8, 150), (1, 400))
]


def held(network: Network = NETWORK) -> list[tuple[int, int]]:
    """Cost and bytes of the plans that no other beats."""
    return [(plan.cost, plan.bytes) for plan in promise.plans(network, CURVE)]


def test_plans_are_those_that_none_beats_with_gaps(gaps: dict[int, int]) -> None:
    assert held() == [(9, 100), (8, 150), (1, 400)]
    gaps[100] = 30
    assert held() == [(9, 130), (8, 150), (1, 400)]
    gaps[100] = 70
    assert held() == [(8, 150), (1, 400)]
    gaps |= {100: 700, 150: 600}
    assert held() == [(1, 400)]
