"""Checks that take turns on several targets, so that each case is run once; slow tests run all.

Targets differ in little, and so do cases: together the turns meet every case, every target, and
every case beside every target before long.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

import pytest

Item = TypeVar("Item")
Target = TypeVar("Target")

#: Of a test's parameter ``turns``: whether cases take turns, or all are run on each target.
TURNS = pytest.mark.parametrize(
    "turns", [pytest.param(True, id="turns"), pytest.param(False, id="all", marks=pytest.mark.slow)]
)


def of_turn(
    cases: Iterable[Item], target: Target, targets: Sequence[Target], turns: bool = True
) -> list[Item]:
    """The cases that are run on ``target``, one of ``targets``: all where none take turns."""
    if not turns:
        return [*cases]
    return [*cases][targets.index(target) :: len(targets)]
