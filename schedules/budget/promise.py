"""What a plan holds, TFLite's arena with its gaps, and the fastest plan that keeps a limit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from schedules.budget.arena import Placed, Timeline, nodes_of, overwritten_by
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
    solution = solver.solve(limit - network.own_bytes)
    if solution is None:
        return None
    plan = with_gaps(network, solution)
    if plan.bytes <= limit:
        return plan
    within = (plan for plan in plans(network, solver.curve(RESOLUTION)) if plan.bytes <= limit)
    return min(within, key=lambda plan: plan.cost, default=None)


def with_gaps(network: Network, solution: Solution) -> Solution:
    """The same plan with what TFLite's arena takes, gaps included, and what is held beside it."""
    return Arenas(network).with_gaps(solution)


def plans(network: Network, curve: Sequence[Solution]) -> list[Solution]:
    """Those of a curve that no other beats in what they hold with gaps, the fewest bytes first."""
    found: list[Solution] = []
    arenas = Arenas(network)
    for solution in sorted(curve, key=lambda solution: solution.cost):
        plan = arenas.with_gaps(solution)
        if not found or plan.bytes < found[-1].bytes:
            found.append(plan)
    return found[::-1]


def placed(network: Network, solution: Solution) -> list[Placed]:
    """Where TFLite's arena has tensors and workspace with these kernels."""
    timeline, workspace = Arenas(network).timeline(solution)
    return timeline.placed(workspace)


def timeline_of(
    network: Network, chains: Iterable[Chain], overwritten: Mapping[Chain, int]
) -> tuple[Timeline, dict[Chain, int]]:
    """When tensors live if one kernel computes each of ``chains``, and when those run with nodes.

    What they overwrite is as in :class:`Timeline`.
    """
    first = {chain: nodes[0] for chain in chains if (nodes := nodes_of(network, chain))}
    timeline = Timeline(network, first, overwritten)
    return timeline, {chain: timeline.time_of(node) for chain, node in first.items()}


class Arenas:
    """TFLite's arenas with several plans of a network: most of them share when tensors live."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._timelines: dict[object, tuple[Timeline, dict[Chain, int]]] = {}
        self._bytes: dict[object, int] = {}

    def with_gaps(self, solution: Solution) -> Solution:
        """See :func:`with_gaps`."""
        workspace = tuple(form.workspace for _, form in solution.chosen)
        key = (_kernels(solution), workspace)
        if key not in self._bytes:
            timeline, held = self.timeline(solution)
            self._bytes[key] = timeline.arena_bytes(held)
        return replace(solution, arena=self._bytes[key], own=self._network.own_bytes)

    def timeline(self, solution: Solution) -> tuple[Timeline, dict[int, int]]:
        """When tensors live, and the workspace by the time that it is for."""
        key = _kernels(solution)
        if key not in self._timelines:
            network = with_pools(self._network, solution.chosen)
            kernels = {unit.chain: form.overwrites for unit, form in solution.chosen}
            overwritten = overwritten_by(network, kernels)
            self._timelines[key] = timeline_of(network, kernels, overwritten)
        timeline, times = self._timelines[key]
        forms = {unit.chain: form for unit, form in solution.chosen}
        return timeline, {time: forms[chain].workspace for chain, time in times.items()}


def _kernels(solution: Solution) -> tuple[object, ...]:
    """What decides when tensors live."""
    return tuple((unit.chain, unit.is_pooled, form.overwrites) for unit, form in solution.chosen)
