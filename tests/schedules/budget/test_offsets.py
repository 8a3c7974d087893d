"""TFLite's arena planner, by hand."""

from __future__ import annotations

import pytest

from schedules.budget.offsets import Life, height, place


def arena(lives: list[Life], steps: int) -> int:
    return height(lives, place(lives, steps))


@pytest.mark.parametrize(
    ("lives", "expected"),
    [
        ([], 0),
        ([Life(0, 1, 64), Life(1, 2, 64)], 128),
        # What does not live at once shares its place.
        ([Life(0, 0, 640), Life(1, 1, 64), Life(1, 1, 128)], 640),
        # Offsets are on cache lines.
        ([Life(0, 2, 10), Life(0, 2, 20)], 128),
        # Nothing takes no place.
        ([Life(0, 3, 0), Life(0, 3, 100)], 128),
        # The largest first: 192 below 128 and, for the last, nothing but what is above both.
        ([Life(0, 1, 128), Life(1, 2, 192), Life(2, 3, 128), Life(0, 3, 64)], 384),
    ],
)
def test_height(lives: list[Life], expected: int) -> None:
    assert arena(lives, 4) == expected


def test_the_best_gap_is_taken_and_gaps_may_stay() -> None:
    """Two gaps: one of 128 bytes, one of 64. 64 bytes go into the smaller, though it is higher."""
    floor = [Life(0, 9, 320), Life(0, 1, 256), Life(0, 9, 192), Life(0, 1, 128), Life(0, 9, 96)]
    assert arena(floor, 9) == 1024
    assert arena([*floor, Life(5, 6, 64)], 9) == 1024
