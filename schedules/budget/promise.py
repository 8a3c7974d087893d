"""What a plan holds in TFLite's arena, gaps included, and the fastest plan that keeps a limit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from schedules.budget.arena import Placed, Timeline, arena_bytes, nodes_of, overwritten_by
from schedules.budget.exact import Solver
from schedules.budget.pools import with_pools
from schedules.budget.problem import Solution
from schedules.layer.network import Chain, Network

#: Share of the fastest plan's time by which plans of a curve differ: they hold hardly more than
#: they have to (of InceptionV3, .02 % of the time at the same bytes).
RESOLUTION = 3e-4


def fastest_within(network: Network, solver: Solver, limit: int) -> Solution | None:
    """The fastest plan that holds at most ``limit`` bytes, whatever gaps TFLite's arena has.

    ``None`` if there is none. The solver's arena is what is needed at once; TFLite's may have gaps
    beside that, in one of sixteen plans of real networks. Then it is the fastest of the curve that
    keeps the limit with them.
    """
    solution = solver.solve(limit)
    if solution is None:
        return None
    plan = with_gaps(network, solution)
    if plan.bytes <= limit:
        return plan
    within = (plan for plan in plans(network, solver.curve(RESOLUTION)) if plan.bytes <= limit)
    return min(within, key=lambda plan: plan.cost, default=None)


def with_gaps(network: Network, solution: Solution) -> Solution:
    """The same plan with what TFLite's arena takes, gaps included."""
    return replace(solution, arena=arena_bytes(placed(network, solution)))


def plans(network: Network, curve: Sequence[Solution]) -> list[Solution]:
    """Those of a curve that no other beats in what they hold with gaps, the fewest bytes first."""
    found: list[Solution] = []
    known: dict[object, int] = {}
    for solution in sorted(curve, key=lambda solution: solution.cost):
        places = tuple(
            (u.chain, u.is_pooled, f.workspace, f.overwrites) for u, f in solution.chosen
        )
        if places not in known:
            known[places] = with_gaps(network, solution).arena
        plan = replace(solution, arena=known[places])
        if not found or plan.bytes < found[-1].bytes:
            found.append(plan)
    return found[::-1]


def placed(network: Network, solution: Solution) -> list[Placed]:
    """Where TFLite's arena has tensors and workspace with these kernels."""
    forms = {unit.chain: form.workspace for unit, form in solution.chosen}
    network = with_pools(network, solution.chosen)
    kernels = {unit.chain: form.overwrites for unit, form in solution.chosen}
    return placed_with(network, forms, overwritten_by(network, kernels))


def placed_with(
    network: Network, workspace: Mapping[Chain, int], overwritten: Mapping[Chain, int]
) -> list[Placed]:
    """Likewise, with the workspace of each unit that one kernel computes, and what it overwrites.

    See :class:`Timeline`.
    """
    first = {chain: nodes[0] for chain in workspace if (nodes := nodes_of(network, chain))}
    timeline = Timeline(network, first, overwritten)
    return timeline.placed({timeline.time_of(first[chain]): workspace[chain] for chain in first})
