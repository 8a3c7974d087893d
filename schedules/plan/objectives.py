"""What a planner minimises. Commands read this without importing TVM."""

from __future__ import annotations

#: Modelled time; the bytes held (see :attr:`schedules.plan.plan.Plan.held_bytes`), where that costs
#: hardly any time; or the bytes held whatever it costs.
OBJECTIVES = ("time", "memory", "least-memory")
