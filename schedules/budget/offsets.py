"""Where tensors lie in TFLite's arena: its planner, to the byte.

ArenaPlanner and SimpleMemoryArena (LiteRT 2.3) place what lives all the time first, then the rest
by size, the largest first: each at the lowest place of the gap that fits it best, on a cache line.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass

from schedules.lower.memory import align


@dataclass(frozen=True)
class Life:
    """Bytes that are needed from step ``first`` to step ``last``."""

    first: int
    last: int
    bytes: int


def arena_height(lives: Sequence[Life], steps: int) -> int:
    """Bytes of the arena in which these lie during steps 0 to ``steps``."""
    always = [life for life in lives if life.first == 0 and life.last >= steps]
    others = [life for life in lives if life not in always]
    others.sort(key=lambda life: (-life.bytes, life.first))
    placed: list[tuple[int, int, Life]] = []  # offset, number
    for number, life in enumerate([*always, *others]):
        if life.bytes:
            bisect.insort(placed, (_offset(life, placed), number, life))
    return align(max((offset + life.bytes for offset, _, life in placed), default=0))


def _offset(life: Life, placed: Sequence[tuple[int, int, Life]]) -> int:
    """Where the gap begins that fits best between those that live at the same time."""
    best, best_fit, current = None, 0, 0
    for offset, _, other in placed:
        if other.last < life.first or other.first > life.last:
            continue
        start = align(current)
        if start + life.bytes <= offset and (best is None or offset - start < best_fit):
            best, best_fit = start, offset - current
        current = max(current, offset + other.bytes)
    return align(current) if best is None else best
