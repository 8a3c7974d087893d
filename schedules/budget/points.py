"""The points of a network's curve that objectives name: its ends, and the knee between them."""

from __future__ import annotations

from collections.abc import Sequence

from schedules.budget.problem import Solution


def point(plans: Sequence[Solution], objective: str) -> Solution:
    """Of plans that no other beats, those with the fewest bytes first, what an objective names.

    The fastest, the one that holds the fewest bytes, or for "memory" the knee: the plan furthest
    from the straight line between these two, where bytes and time are counted in parts of what lies
    between them (Satopää et al., "Finding a Kneedle in a Haystack", ICDCSW 2011).
    """
    least, fastest = plans[0], plans[-1]
    if objective != "memory":
        return fastest if objective == "time" else least
    more_bytes = max(fastest.bytes - least.bytes, 1)
    more_time = max(least.cost - fastest.cost, 1)
    return min(
        plans,
        key=lambda plan: (
            (plan.bytes - least.bytes) / more_bytes + (plan.cost - fastest.cost) / more_time
        ),
    )
