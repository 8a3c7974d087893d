"""What a plan holds where TFLite's arena has gaps."""

from __future__ import annotations

import pytest

from schedules.budget import promise
from schedules.budget.problem import Solution
from schedules.layer.network import Network


@pytest.fixture
def gaps(monkeypatch: pytest.MonkeyPatch) -> dict[int, int]:
    """Bytes of gaps, by the arena that is asked for."""
    found: dict[int, int] = {}

    def held(_network: Network, solution: Solution) -> int:
        return solution.bytes + found.get(solution.arena, 0)

    monkeypatch.setattr(promise, "held_bytes", held)
    return found


NETWORK = Network("n", (), (), (), (), (), {})
#: Of 100, 150 and 400 bytes.
CURVE = [Solution(cost, size, 0, 0, ()) for cost, size in ((9, 100), (8, 150), (1, 400))]


def test_the_least_is_what_is_held_with_gaps(gaps: dict[int, int]) -> None:
    assert promise.least(NETWORK, CURVE) == (CURVE[0], 100)
    gaps[100] = 30
    assert promise.least(NETWORK, CURVE) == (CURVE[0], 130)
    gaps[100] = 70
    assert promise.least(NETWORK, CURVE) == (CURVE[1], 150)
    gaps |= {100: 700, 150: 600}
    assert promise.least(NETWORK, CURVE) == (CURVE[2], 400)
