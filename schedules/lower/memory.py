"""How buffers lie in memory."""

from __future__ import annotations

#: Buffers that are ours start at a multiple of this many bytes: a cache line.
ALIGNMENT = 64


def align(size: int) -> int:
    """``size`` rounded up to the next multiple of :data:`ALIGNMENT`."""
    return -(-size // ALIGNMENT) * ALIGNMENT
