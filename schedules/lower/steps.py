"""Small scheduling steps that every schedule uses."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tvm import s_tir


def extent(schedule: s_tir.Schedule, loop: Any) -> int:
    """Iterations of ``loop``."""
    return int(schedule.get(loop).extent)


def unroll(schedule: s_tir.Schedule, loops: Iterable[Any]) -> None:
    """Unroll every one of ``loops``."""
    for loop in loops:
        schedule.unroll(loop)


def partition(schedule: s_tir.Schedule, loop: Any) -> None:
    """Split off the iterations of ``loop`` in which a mask or bound can fail."""
    schedule.annotate(loop, "pragma_loop_partition_hint", 1)
