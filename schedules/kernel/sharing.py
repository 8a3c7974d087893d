"""What threads lose by sharing a layer: uneven shares, bytes of another core, weights read by all.

A thread that computes the pixels that it computed in the layer before finds them in its own caches,
but reads all weights; one that computes some output channels of all pixels reads only their
weights, but most pixels come from another core, in this layer and again in the next one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from schedules.layer.workload import Conv2dWorkload
from schedules.target.simd import Simd

#: Reading a byte that another core has written takes as long as so many bytes of the third cache:
#: 64 KiB to 4 MiB, one after the other, took 4.0 to 2.9 times as long on a Zen 4 (21 to 29 GB/s)
#: whose cores were far apart, with a cache line's round trip of 320 ns.
OTHER_CORE = 3
#: Shares of which the cores' time is used to this part or more are even.
EVEN = 0.97


@dataclass(frozen=True)
class Share:
    """How threads share a stage of a kernel.

    Parameters
    ----------
    items : int
        Work items: tiles, rows, strips, panels.
    others_bytes : int
        If items are output channels: bytes that all threads read, or will read, and of which each
        has written its part. If items are pixels, 0: every thread reads all weights instead.
    """

    items: int
    others_bytes: int = 0

    def part(self, threads: int) -> float:
        """What the thread with the most of the items has of all."""
        return 1 / (threads * evenness(self.items, threads))


def evenness(items: int, cores: int) -> float:
    """Part of the cores' time that is used when they share ``items``."""
    return items / (-(-items // cores) * cores)


def other_core_slots(size: int, simd: Simd) -> float:
    """Issue slots in which a core gets ``size`` bytes that another one has written."""
    return OTHER_CORE * simd.fmas * size / simd.l3_bandwidth


def loss_by_pixels(workload: Conv2dWorkload, simd: Simd, slots: float, items: int) -> float:
    """Slots that each thread loses when they share ``items`` of some pixels each.

    That is what it takes beyond its part of all ``slots``.
    """
    fetched = 0.0
    if workload.weight_bytes > simd.l2_bytes // 2:
        others = workload.weight_bytes * (simd.cores - 1) / simd.cores
        fetched = simd.fmas * others / simd.l3_bandwidth
    return _uneven(slots, items, simd) + fetched


def loss_by_channels(workload: Conv2dWorkload, simd: Simd, slots: float, items: int) -> float:
    """Likewise when they share ``items`` of some output channels each."""
    others = tensor_bytes(workload) * (simd.cores - 1) // simd.cores
    return _uneven(slots, items, simd) + other_core_slots(others, simd)


def tensor_bytes(workload: Conv2dWorkload) -> int:
    """Bytes of input and output: what threads that share channels write for each other."""
    output = math.prod(workload.output_shape) * workload.element_bytes
    read = workload.pixels * workload.reduction * workload.element_bytes  # strides leave out some
    return min(workload.input_bytes, read) + output


def _uneven(slots: float, items: int, simd: Simd) -> float:
    return slots / simd.cores * (1 / evenness(items, simd.cores) - 1)


def shared_pixels(rows: int, columns: int, cores: int) -> tuple[str, ...]:
    """Rows of tiles, or tiles if so many rows make uneven shares."""
    if rows == 1:
        return ("columns",)
    even = columns == 1 or evenness(rows, cores) >= EVEN
    return ("rows",) if even else ("rows", "columns")


def shared_loops(
    workload: Conv2dWorkload, simd: Simd, slots: float, order: str, tiles: tuple[int, int, int]
) -> tuple[str, ...]:
    """The loops over ``tiles`` that threads share, by name, outermost first.

    These are rows and columns of pixels, each thread's in the order of memory; or panels, if these
    lose less of all ``slots``. With panels beside pixels, threads also share the panels of a tile
    that lies between them: where shares of whole tiles would be uneven. On Arm these two loops take
    registers for addresses, and tiles spill.
    """
    rows, columns, panels = tiles
    pixels, items = shared_pixels(rows, columns, simd.cores), rows * columns
    uneven = panels > 1 and evenness(items, simd.cores) < EVEN and not simd.fma_by_element
    if uneven and (order.startswith("panels") or len(pixels) == 1):
        pixels, items = (*pixels, "panels"), items * panels
    by_channels = loss_by_channels(workload, simd, slots, panels)
    if by_channels < loss_by_pixels(workload, simd, slots, items):
        return ("panels",)
    return tuple(sorted(pixels, key=order.split(",").index))


def shared_evenly(panels: int, simd: Simd) -> bool:
    """Whether there are panels for every core."""
    return panels % simd.cores == 0 or panels >= 8 * simd.cores
