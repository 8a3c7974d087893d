"""How long a call takes: samples, and what is told of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np

#: What :func:`summary` tells.
SUMMARY = ("mean", "median", "max", "min", "std", "25p", "75p", "95p")


def sampled(call: Callable[[], object], repeat: int, number: int) -> list[float]:
    """Seconds of a call, averaged over ``number`` of them, ``repeat`` times, after a first one."""
    call()
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        for _ in range(number):
            call()
        times.append((time.perf_counter() - start) / number)
    return times


def summary(times: Sequence[float]) -> dict[str, float]:
    """The figures of :data:`SUMMARY`, in the unit of ``times``."""
    figures = [statistics.fmean(times), statistics.median(times), max(times), min(times)]
    figures.append(statistics.pstdev(times))
    figures += [float(np.percentile(times, percent)) for percent in (25, 75, 95)]
    return dict(zip(SUMMARY, figures, strict=True))
