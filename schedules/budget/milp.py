"""The budget's problem as a mixed-integer program for HiGHS: what the solver has to equal."""

from __future__ import annotations

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from schedules.budget.problem import Problem

#: HiGHS computes in doubles, and takes what is off by less than 1e-6 for whole: costs and bytes are
#: scaled to numbers of at most so much.
LARGEST = 1e5


def cheapest(problem: Problem, limit: int) -> int | None:
    """The least cost within ``limit`` bytes, ``None`` if nothing holds so few.

    One number for each form says whether it is chosen, the last one is the arena: no less than what
    the forms need, all of a layer together, of which one is chosen. What HiGHS finds is counted
    again in integers.
    """
    options = [(unit, form) for unit in problem.units for form in unit.forms]
    costs = np.array([form.cost for _, form in options] + [0], float)
    once = np.zeros((problem.layers, len(costs)))
    needs = np.zeros((problem.layers, len(costs)))
    needs[:, -1] = 1
    for place, (unit, form) in enumerate(options):
        once[unit.first : unit.last + 1, place] = 1
        needs[unit.first : unit.last + 1, place] = -unit.need(form)
    held = np.array([form.weights for _, form in options] + [1], float)
    size = max(1.0, limit / LARGEST)
    # The arena is counted in the same unit as everything else.
    needs[:, :-1] /= size
    held[:-1] /= size
    found = milp(
        costs * (LARGEST / max(costs.max(initial=0), 1)),
        integrality=np.array([1] * len(options) + [0]),
        bounds=Bounds([0] * len(options) + [problem.floor / size], [1] * len(options) + [np.inf]),
        constraints=[
            LinearConstraint(once, 1, 1),
            LinearConstraint(needs, 0, np.inf),
            LinearConstraint(held[None], -np.inf, limit / size),
        ],
        options={"mip_rel_gap": 0.0},
    )
    if not found.success:
        return None
    chosen = [options[place] for place in np.flatnonzero(found.x[:-1] > 0.5)]
    arena = max([problem.floor, *(unit.need(form) for unit, form in chosen)])
    assert arena + sum(form.weights for _, form in chosen) <= limit, "doubles are too coarse"
    return sum(form.cost for _, form in chosen)
