"""Choose the kernels of networks by an objective.

For the least time, layer by layer, as :mod:`schedules.select.selection` does; for few bytes, as a
point of the curve of each network's plans.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from schedules.algorithms import REGISTRY
from schedules.budget.exact import Solver
from schedules.budget.forms import problem_of
from schedules.budget.points import point
from schedules.budget.promise import RESOLUTION, plans
from schedules.errors import LeanconvError
from schedules.layer.network import Layer, Network
from schedules.plan.choice import AUTO
from schedules.plan.objectives import OBJECTIVES
from schedules.plan.plan import Plan
from schedules.plan.planner import Limits
from schedules.select.selection import Selection, select_all
from schedules.select.within import Names, selection_of
from schedules.target.simd import Simd
from schedules.tuning.advice import Advice, Advisor
from schedules.tuning.records.records import Record

#: Why a plan was chosen.
WHY = {
    "memory": "few bytes of the whole network for little time, with the other kernels",
    "least-memory": "the fewest bytes of the whole network, with the other kernels",
}
#: What records are asked about.
TUNED = ("layer", "pointwise", "block")


def select_by(
    networks: Sequence[Network],
    simd: Simd,
    algorithms: Sequence[str],
    limits: Limits,
    objective: str = "time",
    records: Sequence[Record] = (),
) -> tuple[Selection, ...]:
    """Plan some networks by an objective of :mod:`schedules.plan.objectives`, for ``auto``.

    Where bytes are the objective, records decide among plans of a kernel that hold no more.

    Raises
    ------
    LeanconvError
        If an option makes no sense.
    """
    if objective not in OBJECTIVES:
        raise LeanconvError(f"unknown objective {objective!r}: one of {', '.join(OBJECTIVES)}")
    if objective == "time" or AUTO not in algorithms:
        found = select_all(networks, simd, algorithms, limits, records)
        return tuple(replace(selection, objective=objective) for selection in found)
    if tuple(algorithms) != (AUTO,):
        raise LeanconvError(f"objective {objective!r} is for {AUTO} alone")
    advisor = Advisor(records, simd, limits) if records else None
    names = Names()
    return tuple(
        _on_curve(network, simd, limits, objective, advisor, names) for network in networks
    )


def _on_curve(
    network: Network,
    simd: Simd,
    limits: Limits,
    objective: str,
    advisor: Advisor | None,
    names: Names,
) -> Selection:
    curve = Solver(problem_of(network, simd, limits)).curve(RESOLUTION)
    solution = point(plans(network, curve), objective)
    advise = _advice(advisor, limits, WHY[objective])
    found = selection_of(network, simd, solution, names=names, advise=advise)
    return replace(found, objective=objective, advisor=advisor)


def _advice(
    advisor: Advisor | None, limits: Limits, why: str
) -> Callable[[Plan, Sequence[Layer]], Advice]:
    """What records have instead of a plan of some layers that holds no more."""

    def advise(plan: Plan, layers: Sequence[Layer]) -> Advice:
        default = replace(plan, why=why)
        if advisor is None or REGISTRY.get(plan.algorithm).kind not in TUNED:
            return Advice(default, default)
        adds_pairs = limits.of_layers(layers).adds_pairs

        def accept(other: Plan) -> bool:
            # Not the sum alone: workspace lies beside the tensors, packed weights do not.
            return (
                other.held_bytes <= plan.held_bytes
                and other.workspace_bytes <= plan.workspace_bytes
                and (adds_pairs or not any(part.adds_pairs for part in other.parts))
            )

        return advisor.advise(default, accept)

    return advise
