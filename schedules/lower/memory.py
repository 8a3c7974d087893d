"""How buffers lie in memory."""

from __future__ import annotations

#: Buffers that are ours start at a multiple of this many bytes: a cache line.
ALIGNMENT = 64


def align(size: int) -> int:
    """``size`` rounded up to the next multiple of :data:`ALIGNMENT`."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def join(*sizes: int) -> int:
    """Bytes of buffers one behind the other, those of no bytes left out."""
    end = 0
    for size in filter(None, sizes):
        end = align(end) + size
    return end
