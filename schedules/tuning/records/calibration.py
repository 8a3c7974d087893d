"""What a board's cores do in a second: multiply-adds, bytes from each cache, waiting for others."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from schedules.target.simd import Simd

#: Where bytes are read from, nearest first; a core without a third cache has no ``l3``.
LEVELS = ("l1", "l2", "l3", "memory")


#: Facts are rounded to powers of this, so that noise in them hardly ever changes a choice.
STEP = 1.1
#: Kernels get this part of the bytes a second from memory that a loop gets which reads many streams
#: and does nothing else. On a Zen 4 whatever is above .55 ranks the kernels of 70 layers alike;
#: with .45, the 90th percentile of what the planner's choices lose is 14 %, not 5.
KERNELS_SHARE = 0.7


def coarse(value: float) -> float:
    """The power of :data:`STEP` next to ``value``."""
    return float(STEP ** round(math.log(value, STEP)))


@dataclass(frozen=True)
class Bandwidth:
    """Bytes a second that are read of a buffer of ``bytes``, by one thread and by all together."""

    bytes: int
    one: float
    all: float


@dataclass(frozen=True)
class Calibration:
    """One board's figures.

    Parameters
    ----------
    threads : int
        All of them: a core of the fastest kind each.
    macs : float
        Multiply-adds of float32 a second, of one thread, in registers.
    barrier_s : float
        Seconds from the last thread's arrival until all go on.
    bandwidths : mapping of str to Bandwidth
        By :data:`LEVELS`.
    """

    threads: int
    macs: float
    barrier_s: float
    bandwidths: Mapping[str, Bandwidth]

    def macs_of(self, level: str, size: int) -> float:
        """Multiply-adds in the time of reading ``size`` bytes from a level, or the next one."""
        levels = LEVELS[LEVELS.index(level) :]
        return (
            self.macs
            * size
            / next(self.bandwidths[name].one for name in levels if name in self.bandwidths)
        )

    def difference(self, other: Calibration) -> float:
        """Largest part by which two measurements differ in what decides for one thread."""
        return max(
            max(mine, its) / min(mine, its) - 1
            for mine, its in zip(self._read(), other._read(), strict=True)
        )

    def _read(self) -> list[float]:
        levels = ("l3", "memory")
        return [self.macs, *(b.one for level, b in self.bandwidths.items() if level in levels)]

    def applied_to(self, simd: Simd) -> Simd:
        """``simd`` with what was measured for its clock and its bytes a cycle, in coarse steps."""
        clock_hz = self.macs / (simd.fmas * simd.lanes("float32"))
        l3, memory = self.bandwidths.get("l3"), self.bandwidths["memory"]
        return replace(
            simd,
            clock_hz=coarse(clock_hz),
            l3_bandwidth=coarse(l3.one / clock_hz) if l3 else simd.l3_bandwidth,
            memory_bandwidth=coarse(KERNELS_SHARE * memory.one / clock_hz),
            memory_cores=coarse(max(1.0, memory.all / memory.one)),
            barrier_cycles=coarse(self.barrier_s * clock_hz),
        )

    def __str__(self) -> str:
        reads = (
            f"{b.one / 1e9:.3g} GB/s from {level if level == 'memory' else level.upper()}"
            for level, b in self.bandwidths.items()
        )
        macs = f"{self.macs / 1e9:.3g} G multiply-adds a second"
        return f"measured: {macs}, {', '.join(reads)}, of one thread"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Calibration:
        """The reverse; raises KeyError, TypeError or ValueError for anything else."""
        bandwidths = {
            name: Bandwidth(int(v["bytes"]), float(v["one"]), float(v["all"]))
            for name, v in values["bandwidths"].items()
        }
        made = cls(
            int(values["threads"]), float(values["macs"]), float(values["barrier_s"]), bandwidths
        )
        rates = [rate for b in bandwidths.values() for rate in (b.one, b.all)]
        least = min(made.macs, made.barrier_s, *rates)
        if not {"l1", "memory"} <= set(bandwidths) <= set(LEVELS) or least <= 0:
            raise ValueError("no calibration")
        return made
