"""What can be tried for a task: an algorithm with a value for every one of its knobs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from schedules.layer.block import Block
from schedules.layer.workload import Conv2dWorkload
from schedules.plan.planner import Choice, Plan, plan_block, plan_form
from schedules.target.simd import Simd

#: What one kernel computes, and so what is tuned: a layer, or a block of layers.
Workload: TypeAlias = Conv2dWorkload | Block


@dataclass(frozen=True)
class Candidate:
    """An algorithm and all of its knobs, in the algorithm's order; hashable."""

    algorithm: str
    settings: tuple[tuple[str, Any], ...]

    @classmethod
    def of(cls, algorithm: str, knobs: Mapping[str, Any]) -> Candidate:
        """From knobs by name."""
        return cls(algorithm, tuple(knobs.items()))

    @property
    def knobs(self) -> dict[str, Any]:
        """Values by name."""
        return dict(self.settings)

    def plan(self, workload: Workload, simd: Simd) -> Plan:
        """How it computes ``workload``, whatever it costs.

        Raises
        ------
        Unsupported
            If it cannot.
        """
        if isinstance(workload, Block):
            return plan_block(workload, simd, self.knobs)
        return plan_form(Choice(self.algorithm, self.knobs), workload, simd)

    def __str__(self) -> str:
        return str(Choice(self.algorithm, self.knobs))
