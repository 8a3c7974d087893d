"""What a network holds in memory at once: tensors that are still needed, and workspace.

TFLite places all tensors that are alive at the same time in one arena. Its size is at least the
most that any step holds; gaps come on top.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

from schedules.layer.network import Chain, Network
from schedules.lower.memory import align
from schedules.plan.plan import Plan

T = TypeVar("T")


def with_staged(workspace_bytes: int, staged_bytes: int) -> int:
    """Workspace of a kernel and, behind it on a cache line, of its result before it is spread."""
    return align(workspace_bytes) + staged_bytes if staged_bytes else workspace_bytes


def units(blocks: Mapping[Chain, T], layers: Mapping[int, T]) -> dict[Chain, T]:
    """What computes a network: ``blocks``, and layers by position that are in none of them."""
    in_block = {position for chain in blocks for position in chain}
    found = dict(blocks)
    found |= {(position,): layer for position, layer in layers.items() if position not in in_block}
    return found


class Timeline:
    """When each tensor of a network is alive.

    Parameters
    ----------
    chains : iterable of Chain
        The layers that one kernel computes together with their neighbours, a kernel each. Nothing
        between the layers of one is ever held.
    """

    def __init__(self, network: Network, chains: Iterable[Chain]) -> None:
        # A unit runs when the last of its nodes would.
        self._time_of: dict[int, int] = {}
        for chain in chains:
            nodes = nodes_of(network, chain)
            self._time_of |= dict.fromkeys(nodes, max(nodes))
        end = len(network.steps)
        written = dict.fromkeys(network.inputs, -1)
        read: dict[int, int] = dict.fromkeys((*network.inputs, *network.outputs), end)
        for step in network.steps:
            time = self._time_of.get(step.index, step.index)
            written |= dict.fromkeys(step.outputs, time)
            for tensor in step.inputs:
                read[tensor] = max(read.get(tensor, -1), time)
        # A tensor that is written and read in one step is inside of a unit.
        self._lives = [
            (written[tensor], read[tensor], network.sizes[tensor])
            for tensor in written
            if read.get(tensor, -1) > written[tensor]
        ]
        #: When something runs.
        self.times = sorted({self.time_of(step.index) for step in network.steps})

    def time_of(self, node: int) -> int:
        """When what computes a node runs."""
        return self._time_of.get(node, node)

    def held_bytes(self, time: int) -> int:
        """Bytes of the tensors that are alive then."""
        return sum(size for first, last, size in self._lives if first <= time <= last)


def nodes_of(network: Network, chain: Chain) -> list[int]:
    """The nodes that a kernel for these layers does the work of."""
    return [node for position in chain for node in network.layers[position].nodes]


def held_bytes(network: Network, plans: Mapping[Chain, Plan]) -> list[int]:
    """Bytes of tensors and one thread's workspace while each step runs; ``plans`` of all units."""
    timeline = Timeline(network, plans)
    workspace: dict[int, int] = {}
    for chain, plan in plans.items():
        staged = max(network.layers[position].staged_bytes for position in chain)
        time = timeline.time_of(nodes_of(network, chain)[0])
        workspace[time] = with_staged(plan.workspace_bytes, staged)
    return [workspace.get(time, 0) + timeline.held_bytes(time) for time in timeline.times]
