"""What a planner minimises. Commands read this without importing TVM."""

from __future__ import annotations

#: Modelled time; or, of the plans of a network that no other beats in bytes held and modelled time,
#: the knee, from which on bytes save little time, or the one with the fewest bytes.
OBJECTIVES = ("time", "memory", "least-memory")
