"""Tuning records to test with."""

from __future__ import annotations

from typing import Any

from schedules.layer.workload import Conv2dWorkload
from schedules.plan.choice import Choice
from schedules.tuning.records.record import Record

LAYER = Conv2dWorkload(28, 28, 64, 64, 1, 1, activation="relu")
OTHER_LAYER = Conv2dWorkload(14, 14, 64, 32, 1, 1)


def record(cost_s: float | None = 1e-3, columns: int = 4, **changes: Any) -> Record:
    """A trial of :data:`LAYER` on a Cortex-A76, with that median; by default one that failed."""
    costs = () if cost_s is None else (0.9 * cost_s, cost_s, 2 * cost_s)
    values: dict[str, Any] = {
        "workload": LAYER,
        "candidate": Choice("indirect", (("columns", columns), ("order", "rows,columns"))),
        "costs_s": costs,
        "samples": 5 if costs else 0,
        "error": None if costs else "the process ended with signal 11",
        "target": "cortex-a76",
        "board": "pi-5",
        "cost_kind": "measured",
        "tvm": "0.27.0",
        "timestamp": 1_760_000_000,
    }
    return Record(**values | changes)
