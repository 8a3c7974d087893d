"""What was measured: one self-describing JSON line a trial."""

from __future__ import annotations

from dataclasses import dataclass

from schedules.tuning.candidate import Candidate, Workload

#: How costs came about: on the processor itself; or by a model of it, on an emulated one.
MEASURED, MODELLED = "measured", "modelled"


@dataclass(frozen=True)
class Record:
    """One trial of one candidate.

    Parameters
    ----------
    workload, candidate
        What was computed, and how.
    costs_s : tuple of float
        Minimum, median and maximum of the samples, in seconds a call; empty if it failed.
    samples : int
        How many there were.
    error : str or None
        Why it failed, in one line of at most 80 characters.
    target : str
        See :func:`schedules.tuning.task.tuning_target`.
    board : str
        Name of the board: that of the log's folder.
    cost_kind : {"measured", "modelled"}
        See :data:`MEASURED`; the two are never compared.
    tvm : str
        Version that compiled it.
    timestamp : int
        Seconds since 1970, UTC.
    """

    workload: Workload
    candidate: Candidate
    costs_s: tuple[float, ...]
    samples: int
    error: str | None
    target: str
    board: str
    cost_kind: str
    tvm: str
    timestamp: int

    @property
    def cost_s(self) -> float:
        """The median, by which candidates are compared; infinite if it failed."""
        return self.costs_s[1] if self.costs_s else float("inf")
