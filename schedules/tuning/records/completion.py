"""Records of before their algorithms had all of today's knobs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from schedules.errors import LeanconvError
from schedules.plan.plan import Plan
from schedules.target.simd import Simd
from schedules.tuning.records.record import Record


def completed(records: Iterable[Record], simd: Simd) -> list[Record]:
    """``records``, of which each candidate names all knobs: those that are new by their defaults.

    Else it would not be known for the same as today's. What cannot be planned any more stays as it
    is.
    """
    return [_completed(record, simd) for record in records]


def _completed(record: Record, simd: Simd) -> Record:
    try:
        choice = Plan.of(record.candidate, record.workload, simd).choice
    except LeanconvError:
        return record
    return record if choice == record.candidate else replace(record, candidate=choice)
