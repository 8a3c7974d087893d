"""What is measured of one runtime on one network: as a table row, JSON and bars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from scripts.benchmarks.harness.charts import dot_chart
from scripts.benchmarks.harness.interleaving import Timing, milliseconds
from scripts.benchmarks.harness.memory import NetworkMemory
from scripts.benchmarks.harness.runners import XNNPACK
from tvmc.tables import format_bytes

NOT_INSTALLED = "not installed"
HEADER = (
    "network",
    "threads",
    "runtime",
    "min ms",
    "p25 ms",
    "median ms",
    "min ratio",
    "p25 ratio",
    "median ratio",
    "speed-up",
    "arena",
    "workspace",
    "packed",
    "heap",
    "RSS",
    "max diff",
    "bound",
)


@dataclass
class Row:
    """One runtime's part of one network; ``None`` is what could not be measured."""

    network: str
    threads: int
    runtime: str
    reason: str | None = None
    timing: Timing | None = None
    base: Timing | None = None
    untuned: Timing | None = None
    speed_up: float | None = None
    memory: NetworkMemory | None = None
    difference: float | None = None
    bound: float | None = None

    def ratios(self) -> dict[str, float] | None:
        """To XNNPACK in the same run."""
        return self._ratios(self.base)

    def tuned_ratios(self) -> dict[str, float] | None:
        """To leanconv without tuning records in the same run."""
        return self._ratios(self.untuned)

    def _ratios(self, base: Timing | None) -> dict[str, float] | None:
        if self.timing is None or base is None:
            return None
        minima, medians = self.timing.ratio(base)
        quartiles = self.timing.percentile(25) / base.percentile(25)
        return {"min": minima, "p25": quartiles, "median": medians}

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; bytes and seconds."""
        return {
            "network": self.network,
            "threads": self.threads,
            "runtime": self.runtime,
            "reason": self.reason,
            "times": self.timing.to_dict() if self.timing else None,
            "ratios": self.ratios(),
            "tuned_ratios": self.tuned_ratios(),
            "speed_up": self.speed_up,
            "memory": asdict(self.memory) if self.memory else None,
            "max_difference": self.difference,
            "bound": self.bound,
        }

    def columns(self) -> list[str]:
        """Text for the columns of ``HEADER``."""
        times = ["-"] * 3
        if self.timing:
            seconds = (self.timing.minimum, self.timing.percentile(25), self.timing.median)
            times = list(map(milliseconds, seconds))
        elif self.reason:
            times[0] = self.reason if self.reason == NOT_INSTALLED else "failed"
        ratios = self.ratios()
        bytes_taken: list[int | None] = [None] * 5
        if self.memory:
            m = self.memory
            bytes_taken = [m.arena_bytes, m.workspace_bytes, m.packed_bytes]
            bytes_taken += [m.peak_heap_bytes, m.peak_rss_bytes]
        return [
            self.network,
            str(self.threads),
            self.runtime,
            *times,
            *([f"{ratio:.3f}" for ratio in ratios.values()] if ratios else ["-"] * 3),
            "-" if self.speed_up is None else f"{self.speed_up:.2f}x",
            *("-" if count is None else format_bytes(count) for count in bytes_taken),
            *("-" if d is None else f"{d:.2g}" for d in (self.difference, self.bound)),
        ]


def thread_count(count: int) -> str:
    """In words."""
    return f"{count} thread{'s' if count > 1 else ''}"


# Pictures


def picture_names(threads: Sequence[int]) -> list[str]:
    """Files of what was measured with so many threads; memory is that of the first number."""
    return [*(f"networks_time_{count}.svg" for count in threads), *_MEMORY_PICTURES]


def picture(name: str, rows: Sequence[Row]) -> str:
    """One of `picture_names`: bars that stand on XNNPACK."""
    title, field = _MEMORY_PICTURES.get(name, ("Time of a network", ""))
    threads = rows[0].threads if field else int(name.removesuffix(".svg").rpartition("_")[2])
    shown = [row for row in rows if row.threads == threads]
    networks = list(dict.fromkeys(row.network for row in shown))
    values = {(row.network, row.runtime): _value(row, field) for row in shown}
    series: dict[str, list[float | None]] = {}
    for network, runtime in values:
        value, base = values[network, runtime], values[network, XNNPACK]
        if runtime != XNNPACK:
            series.setdefault(runtime, []).append(value / base if value and base else None)
    title = f"{title}, {thread_count(threads)}"
    return dot_chart(title, f"relative to {XNNPACK}", networks, series, baseline=1.0)


def _value(row: Row, field: str) -> float | None:
    """That of `NetworkMemory`, or without a field the least time."""
    measured = row.memory if field else row.timing
    return None if measured is None else float(getattr(measured, field or "minimum"))


_MEMORY_PICTURES = {
    "networks_heap.svg": ("Peak heap of a network", "peak_heap_bytes"),
    "networks_rss.svg": ("Peak resident set of a network", "peak_rss_bytes"),
}
