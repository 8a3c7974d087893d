"""Records of candidates that nobody measured: costs made up."""

from __future__ import annotations

from schedules.tuning.candidate import Candidate, Workload
from schedules.tuning.record import MEASURED, Record


def made_up_record(workload: Workload, candidate: Candidate, cost_s: float | None) -> Record:
    """One trial that took ``cost_s``, or that failed."""
    costs = () if cost_s is None else (cost_s, cost_s, cost_s)
    error = "made up" if cost_s is None else None
    return Record(
        workload=workload,
        candidate=candidate,
        costs_s=costs,
        samples=len(costs),
        error=error,
        target="target",
        board="board",
        cost_kind=MEASURED,
        tvm="0.27.0",
        timestamp=0,
    )
