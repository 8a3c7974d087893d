"""The one way in which anything is timed here.

Runtimes are measured in one process, in turns, in an order that reverses every round: what the
machine does meanwhile (clock changes, other programs) then falls on all of them alike, and their
ratio stays true where single figures move.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: A sample lasts at least this long, so that reading the clock costs nothing beside it.
SAMPLE_SECONDS = 2e-3


@dataclass(frozen=True)
class Timing:
    """Seconds of one call, one figure a sample, in the order of measurement."""

    seconds: tuple[float, ...]

    @property
    def minimum(self) -> float:
        """The least disturbed sample."""
        return min(self.seconds)

    @property
    def median(self) -> float:
        """Half of the samples are below."""
        return statistics.median(self.seconds)

    def percentile(self, percent: float) -> float:
        """The smallest sample that at least ``percent`` of the samples do not exceed."""
        ordered = sorted(self.seconds)
        rank = -(-len(ordered) * percent // 100)
        return ordered[max(int(rank), 1) - 1]

    def ratio(self, base: Timing) -> tuple[float, float]:
        """Ratio of minima and ratio of medians to ``base``, measured in the same run."""
        return self.minimum / base.minimum, self.median / base.median

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, in seconds."""
        return {
            "samples": len(self.seconds),
            "min_s": self.minimum,
            "p25_s": self.percentile(25),
            "median_s": self.median,
            "p95_s": self.percentile(95),
        }


def interleave(
    subjects: Mapping[str, Callable[[], Any]],
    *,
    rounds: int,
    seconds: float = float("inf"),
    warmup: int = 3,
    calls: int | None = None,
    before: Callable[[], object] = lambda: None,
) -> dict[str, Timing]:
    """Time several callables in turns.

    Parameters
    ----------
    subjects : mapping of name to callable
        Each is called with no argument.
    rounds : int
        Samples of each subject.
    seconds : float
        Stop earlier when this much time has passed, after the third round at the earliest.
    warmup : int
        Calls of each subject before the first sample.
    calls : int, optional
        Consecutive calls that make up a sample: the more, the more of a subject's data is in the
        caches. By default as many as last 2 ms.
    before : callable
        Called before each sample.
    """
    repeats = {name: _calibrate(call, warmup) for name, call in subjects.items()}
    if calls is not None:
        repeats = dict.fromkeys(subjects, calls)
    samples: dict[str, list[float]] = {name: [] for name in subjects}
    order = list(subjects)
    collecting = gc.isenabled()
    gc.disable()
    try:
        end = time.perf_counter() + seconds
        for done in range(rounds):
            if done >= 3 and time.perf_counter() > end:
                break
            for name in order:
                before()
                samples[name].append(_sample(subjects[name], repeats[name]))
            order.reverse()
    finally:
        if collecting:
            gc.enable()
    return {name: Timing(tuple(values)) for name, values in samples.items()}


def _sample(call: Callable[[], Any], calls: int) -> float:
    """Seconds of one call, averaged over ``calls`` of them."""
    start = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - start) / calls


def _calibrate(call: Callable[[], Any], warmup: int) -> int:
    """How many calls make up a sample of at least ``SAMPLE_SECONDS``."""
    fastest = min(_sample(call, 1) for _ in range(max(warmup, 1)))
    return max(1, round(SAMPLE_SECONDS / fastest))


def milliseconds(seconds: float) -> str:
    """Four significant digits, without a unit."""
    return f"{seconds * 1e3:.4g}"


def summary_columns(timing: Timing, base: Timing | None) -> Sequence[str]:
    """``min, p25, median`` in milliseconds, then the two ratios to ``base``."""
    times = [timing.minimum, timing.percentile(25), timing.median]
    ratios = ["-", "-"] if base is None else [f"{ratio:.3f}" for ratio in timing.ratio(base)]
    return [*map(milliseconds, times), *ratios]


#: What `summary_columns` returns.
SUMMARY_HEADER = ("min ms", "p25 ms", "median ms", "min ratio", "median ratio")
