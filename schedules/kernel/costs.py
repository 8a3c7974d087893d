"""What a kernel takes, in seconds: the planner's model of time, for one thread and for several.

A core multiplies and waits for bytes from beyond its L2 cache. One takes longer than the other, of
which :data:`SHOWN` adds to it where multiplying keeps a core busy; elsewhere all of it does. What a
network's layer needs first comes from memory, as other layers were computed since; what it needs
again comes from the nearest cache that holds it.

Threads that share a stage of a kernel wait for the one with the most of its work items, and meet
behind it. Memory serves so many cores at a time; what another core wrote takes longer than what the
third cache holds.

Cycles become seconds by the clock of :class:`Simd`, a nominal one unless the core was calibrated:
what takes how many times as long as something else does not depend on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from schedules.kernel.sharing import OTHER_CORE, Share
from schedules.kernel.tiles import stay_in_l2, vector_lanes
from schedules.layer.volume import Conv3dWorkload
from schedules.layer.workload import Conv2dWorkload
from schedules.target.simd import Simd

#: Multiply-accumulates in the time in which an element is copied or transformed in a cache. 4 to 10
#: were measured on x86-64 for what im2col, MEC and Winograd's transforms move.
MOVE_COST = 5
#: Of a tensor between layers that the L2 cache does not hold, every byte moves so often: it is
#: fetched to be written, written, and read.
SPILL_TRIPS = 3
#: Part of the shorter one of arithmetic and waiting that does not hide behind the longer one where
#: a full vector takes two halves: measured on a Zen 4. On a Sapphire Rapids nothing hides, as was
#: measured; nor on Arm's, by the model of the emulated board.
SHOWN = 0.25
#: How many times as long arithmetic takes on Arm with what goes beside it and misses of the L1
#: cache: modelled for a Cortex-A76, and for a Cortex-A53, which issues in order.
NEON_COST, IN_ORDER_COST = 1.5, 2.0


@dataclass(frozen=True)
class Work:
    """What one thread does, and what it waits for.

    Parameters
    ----------
    macs : float
        Multiply-accumulates, and what takes as long, in whole vectors.
    memory_bytes, l3_bytes : float
        What comes from memory, and from the third cache.
    """

    macs: float = 0.0
    memory_bytes: float = 0.0
    l3_bytes: float = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(
            self.macs + other.macs,
            self.memory_bytes + other.memory_bytes,
            self.l3_bytes + other.l3_bytes,
        )

    def __mul__(self, times: float) -> Work:
        return Work(self.macs * times, self.memory_bytes * times, self.l3_bytes * times)

    def seconds(self, simd: Simd, dtype: str) -> float:
        """How long it takes."""
        arithmetic = self.macs / (simd.fmas * simd.lanes(dtype))
        if simd.fma_by_element:
            arithmetic *= IN_ORDER_COST if simd.in_order else NEON_COST
        waiting = self.memory_bytes / simd.memory_bandwidth + self.l3_bytes / simd.l3_bandwidth
        shown = SHOWN if halves_vectors(simd, dtype) else 1.0
        cycles = max(arithmetic, waiting) + shown * min(arithmetic, waiting)
        return cycles / simd.clock_hz


def of_one_thread(work: Work, share: Share, threads: int, simd: Simd) -> Work:
    """What the thread with the most of the items does of ``work``, and gets from other cores.

    Weights that all threads read come from memory once; then the third cache has them.
    """
    part, busy = share.part(threads), min(threads, share.items)
    others, of_memory, fetched = 1 - 1 / busy, 1 / busy, work.memory_bytes
    if share.others_bytes:
        of_memory, fetched = part, float(OTHER_CORE * share.others_bytes)
    from_memory = _waits(busy, simd) * of_memory * work.memory_bytes
    return Work(part * work.macs, from_memory, part * work.l3_bytes + others * fetched)


def shared_seconds(
    works: Sequence[Work], shares: Sequence[Share], threads: int, simd: Simd, dtype: str
) -> float:
    """What so many threads take for ``works``, one after the other.

    If a kernel has several stages, the first of the works is shared as the first of them, where the
    image is brought into another form or weights into panels, and the others as the last. A stage
    of a single item takes one thread, which meets no other.
    """
    if threads == 1:
        return sum(work.seconds(simd, dtype) for work in works)
    meetings = sum(share.items > 1 for share in shares)
    seconds = meetings * simd.barrier_cycles / simd.clock_hz
    for place, work in enumerate(works):
        share = shares[-1 if place else 0]
        seconds += of_one_thread(work, share, threads, simd).seconds(simd, dtype)
    return seconds


def peak(simd: Simd, dtype: str) -> float:
    """Multiply-accumulates a second at most."""
    return simd.fmas * simd.lanes(dtype) * simd.clock_hz


def inside(layer: Conv2dWorkload) -> float:
    """Part of a layer's multiply-accumulates whose image element is no padding."""

    def along(axis: str, before: int) -> float:
        names = ("in", "kernel", "out", "stride", "dilation")
        size, kernel, out, stride, dilation = (getattr(layer, f"{n}_{axis}") for n in names)
        places = (o * stride + k * dilation - before for o in range(out) for k in range(kernel))
        return sum(0 <= place < size for place in places) / (out * kernel)

    depth = along("depth", layer.pad_front) if isinstance(layer, Conv3dWorkload) else 1.0
    return depth * along("height", layer.pad_top) * along("width", layer.pad_left)


def halves_vectors(simd: Simd, dtype: str) -> bool:
    """Whether a full vector takes the core twice the time of a half."""
    return vector_lanes(simd, dtype) < simd.lanes(dtype)


def reads(size: int, times: float, simd: Simd, beside: int = 0) -> Work:
    """Of ``size`` bytes, ``times`` from beyond the L2 cache, once unless they stay in it.

    That is where they stay if they and those ``beside`` them fit.
    """
    again = Work() if stay_in_l2(size + beside, simd) else _from_beyond(size, simd) * (times - 1)
    return Work(memory_bytes=size) + again


def moves(elements: float, simd: Simd, element_bytes: int, buffer_bytes: int) -> Work:
    """Of ``elements`` through a buffer of so many bytes, from one place to another."""
    work = Work(macs=MOVE_COST * elements)
    if stay_in_l2(buffer_bytes, simd):
        return work
    return work + _beyond(buffer_bytes, SPILL_TRIPS * elements * element_bytes, simd)


def spills(size: int, simd: Simd) -> Work:
    """Of a tensor of ``size`` bytes that one kernel writes and another one reads."""
    return Work() if size <= simd.l2_bytes else _from_beyond(size, simd) * SPILL_TRIPS


def spill_seconds(size: int, simd: Simd, dtype: str, threads: int = 1) -> float:
    """The same in seconds, of threads that each write and read their part."""
    own = spills(size // threads, simd)
    own = replace(own, memory_bytes=_waits(threads, simd) * own.memory_bytes)
    return own.seconds(simd, dtype)


def _waits(threads: int, simd: Simd) -> float:
    """How many times as long bytes take from memory if so many threads read."""
    return max(1.0, threads / simd.memory_cores)


def _from_beyond(size: int, simd: Simd) -> Work:
    """Of ``size`` bytes from where they lie if the L2 cache does not hold them."""
    return _beyond(size, size, simd)


def _beyond(size: int, moved: float, simd: Simd) -> Work:
    """Of ``moved`` bytes of a tensor of ``size``."""
    if size <= simd.l3_bytes:
        return Work(l3_bytes=moved)
    return Work(memory_bytes=moved)
