"""What a plan holds in TFLite's arena, gaps included, and the fastest plan that keeps a limit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from schedules.budget.arena import Placed, Timeline, arena_bytes, nodes_of
from schedules.budget.exact import Solver
from schedules.budget.pools import with_pools
from schedules.budget.problem import Solution
from schedules.layer.network import Chain, Network


def fastest_within(network: Network, solver: Solver, limit: int) -> Solution | None:
    """The fastest plan that holds at most ``limit`` bytes, whatever gaps TFLite's arena has.

    ``None`` if there is none. The solver's arena is what is needed at once; TFLite's may have gaps
    beside that, in one of sixteen plans of real networks. Then less is asked for.
    """
    asked = limit
    while (solution := solver.solve(asked)) is not None:
        if held_bytes(network, solution) <= limit:
            return solution
        asked = solution.bytes - 1
    return None


def held_bytes(network: Network, solution: Solution) -> int:
    """What a plan holds: TFLite's arena with its gaps, and packed weights."""
    return arena_bytes(placed(network, solution)) + solution.weights


def least(network: Network, curve: Sequence[Solution]) -> tuple[Solution, int]:
    """Of plans by rising bytes the one that holds the fewest with its gaps, and how many."""
    best, fewest = curve[0], held_bytes(network, curve[0])
    for solution in curve[1:]:
        if solution.bytes >= fewest:
            break
        held = held_bytes(network, solution)
        if held < fewest:
            best, fewest = solution, held
    return best, fewest


def placed(network: Network, solution: Solution) -> list[Placed]:
    """Where TFLite's arena has tensors and workspace with these kernels."""
    forms = {unit.chain: form.workspace for unit, form in solution.chosen}
    return placed_with(with_pools(network, solution.chosen), forms)


def placed_with(network: Network, workspace: Mapping[Chain, int]) -> list[Placed]:
    """Likewise, with the workspace of each unit that one kernel computes."""
    first = {chain: nodes[0] for chain in workspace if (nodes := nodes_of(network, chain))}
    timeline = Timeline(network, first)
    return timeline.placed({timeline.time_of(first[chain]): workspace[chain] for chain in first})
