"""Where tensors lie in TFLite's arena: its planner, to the byte.

ArenaPlanner and SimpleMemoryArena (LiteRT 2.3) place what lives all the time first, then the rest
by size, the largest first: each at the lowest place of the gap that fits it best, on a cache line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from schedules.lower.memory import align


@dataclass(frozen=True)
class Life:
    """Bytes that are needed from step ``first`` to step ``last``."""

    first: int
    last: int
    bytes: int


def place(lives: Sequence[Life], steps: int) -> list[int]:
    """The offset of each of these in an arena for steps 0 to ``steps``."""
    always = [number for number, life in enumerate(lives) if life.first == 0 and life.last >= steps]
    others = sorted(
        set(range(len(lives))) - set(always),
        key=lambda number: (-lives[number].bytes, lives[number].first, number),
    )
    offsets = [0] * len(lives)
    # What is placed already, by the steps in which it lives: offset, rank, and which one it is.
    living: list[list[tuple[int, int, int]]] = [[] for _ in range(steps + 1)]
    for rank, number in enumerate([*always, *others]):
        life = lives[number]
        if life.bytes:
            around = living[life.first : life.last + 1]
            placed = sorted({other for step in around for other in step})
            offsets[number] = _offset(life.bytes, [(o, lives[n].bytes) for o, _, n in placed])
            for step in around:
                step.append((offsets[number], rank, number))
    return offsets


def height(lives: Sequence[Life], offsets: Sequence[int]) -> int:
    """Bytes of the arena that holds them all."""
    return align(max((o + life.bytes for o, life in zip(offsets, lives, strict=True)), default=0))


def _offset(size: int, placed: Sequence[tuple[int, int]]) -> int:
    """Where the gap begins that fits best between what lives at the same time: offsets, bytes."""
    best, best_fit, current = None, 0, 0
    for offset, taken in placed:
        start = align(current)
        if start + size <= offset and (best is None or offset - start < best_fit):
            best, best_fit = start, offset - current
        current = max(current, offset + taken)
    return align(current) if best is None else best
