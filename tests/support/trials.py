"""Records as if they had been measured."""

from __future__ import annotations

from typing import Any

from schedules.layer.block import Workload
from schedules.plan.choice import Choice
from schedules.plan.plan import Plan
from schedules.target.simd import Simd
from schedules.tuning.records.records import MEASURED, Record
from schedules.tuning.records.task import tuning_target


def candidate(workload: Workload, simd: Simd, choice: str) -> Choice:
    """The default of what ``NAME:KNOB=VALUE`` leaves open."""
    return Plan.of(Choice.parse(choice), workload, simd).choice


def record(
    workload: Workload,
    simd: Simd,
    choice: str | Choice,
    milliseconds: float | None,
    **fields: Any,
) -> Record:
    """A trial of ``choice``; without a time, one that failed."""
    if isinstance(choice, str):
        choice = candidate(workload, simd, choice)
    values: dict[str, Any] = {
        "costs_s": () if milliseconds is None else (milliseconds * 1e-3,) * 3,
        "samples": 5,
        "error": "it crashed" if milliseconds is None else None,
        "target": tuning_target(simd),
        "board": "pixel6",
        "cost_kind": MEASURED,
        "tvm": "0.27",
        "timestamp": 0,
    }
    return Record(workload, choice, **{**values, **fields})
