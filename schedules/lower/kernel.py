"""What a caller must know to run a compiled kernel: its functions, and the workspace they need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from schedules.lower.memory import align


@dataclass(frozen=True)
class Stage:
    """One C function: its symbol, and the number of work items that its threads share.

    Whether a thread had better take its share as a ``whole``: what does not depend on the work
    items, a pass over the weights, say, is repeated for every part of it.
    """

    symbol: str
    extent: int
    whole: bool = False


@dataclass(frozen=True)
class PlannedBuffer:
    """One intermediate buffer: place and size in bytes, in the shared part or a thread's slice."""

    name: str
    offset: int
    size: int
    per_thread: bool


@dataclass(frozen=True)
class CKernel:
    """What a caller must know to run one kernel.

    One without stages of its own is walked row by row: ``members`` compute a row each.
    """

    name: str
    stages: tuple[Stage, ...]
    buffers: tuple[PlannedBuffer, ...]
    members: tuple[CKernel, ...] = ()

    def _end(self, per_thread: bool) -> int:
        return max(
            (b.offset + b.size for b in self.buffers if b.per_thread == per_thread), default=0
        )

    @property
    def shared_bytes(self) -> int:
        """Bytes before the first thread's slice."""
        return align(self._end(per_thread=False))

    @property
    def thread_bytes(self) -> int:
        """Bytes from one thread's slice to the next."""
        return align(self._end(per_thread=True))

    @property
    def workspace_bytes(self) -> int:
        """Bytes that one thread needs, without the alignment behind the last buffer."""
        own = self._end(per_thread=True)
        return self.shared_bytes + own if own else self._end(per_thread=False)


@dataclass(frozen=True)
class KernelObject:
    """A compiled relocatable object (ELF) and the kernels in it by name."""

    data: bytes
    kernels: Mapping[str, CKernel]
