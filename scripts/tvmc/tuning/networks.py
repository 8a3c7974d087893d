"""Whether whole networks gain by what was tuned.

Each layer was measured by itself. In a network others leave the caches to it, and what saves a few
percent alone may cost as much there. So at the end of tuning both networks run in LiteRT in turns,
with the best on record and with the untuned choices; where the former is slower, its records are
marked, and do not count any more.
"""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from schedules.layer.block import Workload
from schedules.plan.choice import AUTO, Choice
from schedules.plan.planner import Limits
from schedules.target.simd import Simd
from schedules.target.toolchain import Toolchain
from schedules.tuning.records.records import Record
from tflite_delegate.build import build
from tflite_delegate.selection import select
from tvmc.running.interpreter import Arrays, Session, runtime

#: Of both networks in turns, at most so many rounds and, from the third on, so many seconds.
ROUNDS, SECONDS = 40, 6.0
#: A sample lasts at least so long.
SAMPLE_SECONDS = 2e-3


@dataclass(frozen=True)
class NetworkReport:
    """A network with the best on record, and with the untuned choices.

    Parameters
    ----------
    model : str
        The name of its file.
    layers : int
        Layers and blocks for which they differ.
    tuned_s, untuned_s : tuple of float
        Least and median seconds of an inference on one thread; empty if nothing differs.
    """

    model: str
    layers: int
    tuned_s: tuple[float, ...] = ()
    untuned_s: tuple[float, ...] = ()

    @property
    def is_slower(self) -> bool:
        """Whether tuning has made it slower: by the least times, or by the medians."""
        pairs = zip(self.tuned_s, self.untuned_s, strict=True)
        return any(tuned > untuned for tuned, untuned in pairs)

    def __str__(self) -> str:
        """One line."""
        if not self.layers:
            return f"{self.model}: as untuned, nothing on record is better"
        (least, median), (least_untuned, median_untuned) = self.tuned_s, self.untuned_s
        text = (
            f"{self.model} in LiteRT: {median * 1e3:.4g} ms tuned, {median_untuned * 1e3:.4g} ms "
            f"untuned: {median / median_untuned:.3f} ({least / least_untuned:.3f} at best)"
        )
        if self.is_slower:
            text += f"; stays untuned, {self.layers} layers and blocks are marked in the records"
        return text


#: What makes a record of the mark of a workload's candidate that has lost.
Mark = Callable[[Workload, Choice], Record]


def judge(
    models: Sequence[Path],
    simd: Simd,
    limits: Limits,
    records: Sequence[Record],
    mark: Mark,
    toolchain: Toolchain,
) -> tuple[NetworkReport, ...]:
    """Compare every network with itself untuned, and mark what the slower ones differ by.

    Networks that share layers with a slower one are compared again without its records, so that in
    the end none is slower.
    """
    known = list(records)
    reports: dict[Path, NetworkReport] = {}
    compared: dict[Path, dict[Workload, Choice]] = {}
    while True:
        changes = {path: _changes(path, simd, limits, known) for path in models}
        pending = [path for path in models if changes[path] != compared.get(path)]
        losers = []
        for path in pending:
            compared[path] = changes[path]
            if path in reports and reports[path].is_slower:
                continue  # its own records are marked
            reports[path] = NetworkReport(path.name, len(changes[path]))
            if changes[path]:
                reports[path] = _compare(path, simd, limits, known, reports[path], toolchain)
            if reports[path].is_slower:
                losers.append(path)
        if not losers:
            return tuple(reports[path] for path in models)
        lost = dict(item for path in losers for item in changes[path].items())
        known += [mark(workload, choice) for workload, choice in lost.items()]


def _changes(
    path: Path, simd: Simd, limits: Limits, records: Sequence[Record]
) -> dict[Workload, Choice]:
    """What the network computes otherwise than untuned, and how; of a block its layers as well."""
    tuned, untuned = (
        dict.fromkeys(
            (graph, chain, kernel.plan.workload, kernel.plan.choice)
            for graph, selection in enumerate(select(path, simd, (AUTO,), limits, "time", known))
            for chain, kernel in selection.units.items()
        )
        for known in (records, ())
    )
    # Of a workload in both, how it is computed with the records.
    different = [*(unit for unit in untuned if unit not in tuned),
                 *(unit for unit in tuned if unit not in untuned)]  # fmt: skip
    return {workload: choice for _, _, workload, choice in different}


def _compare(
    path: Path,
    simd: Simd,
    limits: Limits,
    records: Sequence[Record],
    report: NetworkReport,
    toolchain: Toolchain,
) -> NetworkReport:
    sessions = []
    with tempfile.TemporaryDirectory(prefix="leanconv-") as name:
        for kind, known in ("tuned", records), ("untuned", ()):
            library = Path(name) / f"{kind}.so"
            build(path, library, simd, limits=limits, records=known, toolchain=toolchain)
            session = Session(path, runtime("litert"), delegate=library)
            session.set_inputs(_inputs(session))
            sessions.append(session)
    tuned, untuned = _interleaved([session.invoke for session in sessions])
    return replace(report, tuned_s=_figures(tuned), untuned_s=_figures(untuned))


def _inputs(session: Session) -> Arrays:
    """Numbers in [-1, 1); zeros, which are in range whatever they mean, for integers."""
    rng = np.random.default_rng(0)
    return [
        rng.uniform(-1, 1, details["shape"]).astype(details["dtype"])
        if np.issubdtype(details["dtype"], np.floating)
        else np.zeros(details["shape"], details["dtype"])
        for details in session.inputs()
    ]


def _interleaved(calls: Sequence[Callable[[], object]]) -> list[list[float]]:
    """Seconds of each call, sampled in turns whose order reverses every round."""
    for call in calls:
        _sample(call, 1)
    numbers = [math.ceil(SAMPLE_SECONDS / _sample(call, 1)) for call in calls]
    samples: list[list[float]] = [[] for _ in calls]
    order, end = list(range(len(calls))), time.perf_counter() + SECONDS
    for done in range(ROUNDS):
        if done >= 3 and time.perf_counter() > end:
            break
        for i in order:
            samples[i].append(_sample(calls[i], numbers[i]))
        order.reverse()
    return samples


def _sample(call: Callable[[], object], number: int) -> float:
    start = time.perf_counter()
    for _ in range(number):
        call()
    return (time.perf_counter() - start) / number


def _figures(samples: Sequence[float]) -> tuple[float, float]:
    return min(samples), statistics.median(samples)
