"""What was measured, a line a trial: files of records, and what the best of them are.

Records of different targets, and costs that were measured and modelled, are never compared: see
:func:`of_target`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from schedules.layer.block import Workload
from schedules.plan.choice import Choice
from schedules.tuning.records.log import Log, Logs, load
from schedules.tuning.records.record import LOST, MEASURED, MODELLED, NewerVersion, Record

__all__ = [
    "LOST",
    "MEASURED",
    "MODELLED",
    "Log",
    "Logs",
    "NewerVersion",
    "Record",
    "best",
    "by_workload",
    "current",
    "load",
    "of_target",
    "ranked",
]


def of_target(records: Iterable[Record], target: str) -> list[Record]:
    """Those of ``target``, without modelled costs of workloads of which any is measured."""
    chosen = [record for record in records if record.target == target]
    measured = {r.workload for r in chosen if r.cost_kind == MEASURED and r.costs_s}
    return [r for r in chosen if r.cost_kind == MEASURED or r.workload not in measured]


def by_workload(records: Iterable[Record]) -> dict[Workload, list[Record]]:
    """The records of each workload, in their order."""
    found: dict[Workload, list[Record]] = {}
    for record in records:
        found.setdefault(record.workload, []).append(record)
    return found


def current(records: Sequence[Record]) -> list[Record]:
    """Of one workload's records, those that still count: none before its network lost by them."""
    marks = [record.timestamp for record in records if record.is_lost]
    last = max(marks, default=-1)
    return [r for r in records if r.timestamp > last and not r.is_lost]


def best(records: Iterable[Record]) -> dict[Workload, Record]:
    """The best record of each workload that was ever computed; see :func:`ranked`.

    Parameters
    ----------
    records
        Those of one target, see :func:`of_target`.
    """
    rankings = {workload: ranked(own) for workload, own in by_workload(records).items()}
    return {workload: ranking[0] for workload, ranking in rankings.items() if ranking}


def ranked(records: Iterable[Record], workload: Workload | None = None) -> list[Record]:
    """One record of each candidate that computed ``workload``, the best first.

    That with the most samples; of equals, the latest. The candidates with the most samples come
    first, whatever they cost: the play-off at the end of tuning measures the leaders again, side
    by side, and one that was lucky in a few samples would win otherwise.

    Parameters
    ----------
    records
        Those of one target, see :func:`of_target`.
    workload
        May be left out if all of them are of one.
    """
    own = [r for r in records if r.costs_s and workload in (None, r.workload)]
    believed: dict[Choice, Record] = {}
    for record in sorted(own, key=lambda r: (r.samples, r.timestamp)):
        believed[record.candidate] = record
    return sorted(believed.values(), key=lambda r: (-r.samples, r.cost_s))
