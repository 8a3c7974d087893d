"""What a network holds in memory at once: tensors that are still needed, and workspace.

TFLite places all tensors that are alive at the same time in one arena. Its size is at least the
most that any step holds; gaps come on top.
"""

from __future__ import annotations

from collections.abc import Mapping

from schedules.layer.network import Chain, Network
from schedules.lower.memory import align
from schedules.plan.plan import Plan


def with_staged(workspace_bytes: int, staged_bytes: int) -> int:
    """Workspace of a kernel and, behind it on a cache line, of its result before it is spread."""
    return align(workspace_bytes) + staged_bytes if staged_bytes else workspace_bytes


def held_bytes(
    network: Network, layers: Mapping[int, Plan], blocks: Mapping[Chain, Plan]
) -> list[int]:
    """Bytes of tensors and workspace while each step runs.

    Parameters
    ----------
    layers : mapping of int to Plan
        By the layer's position: computed by a kernel of its own, together with its neighbours.
    blocks : mapping of Chain to Plan
        Layers that one kernel computes instead, so that nothing between them is ever held.
    """
    in_block = {position for chain in blocks for position in chain}
    units: dict[Chain, Plan] = dict(blocks)
    units |= {(position,): plan for position, plan in layers.items() if position not in in_block}
    # A unit runs when the last of its nodes would.
    time_of: dict[int, int] = {}
    workspace: dict[int, int] = {}
    for positions, plan in units.items():
        nodes = [node for position in positions for node in network.layers[position].nodes]
        time_of |= dict.fromkeys(nodes, max(nodes))
        staged = max(network.layers[position].staged_bytes for position in positions)
        workspace[max(nodes)] = with_staged(plan.workspace_bytes, staged)
    end = len(network.steps)
    written = dict.fromkeys(network.inputs, -1)
    read: dict[int, int] = dict.fromkeys((*network.inputs, *network.outputs), end)
    for step in network.steps:
        time = time_of.get(step.index, step.index)
        written |= dict.fromkeys(step.outputs, time)
        for tensor in step.inputs:
            read[tensor] = max(read.get(tensor, -1), time)
    # A tensor that is written and read in one step is inside of a unit.
    lives = [
        (written[tensor], read[tensor], network.sizes[tensor])
        for tensor in written
        if read.get(tensor, -1) > written[tensor]
    ]
    times = sorted({time_of.get(step.index, step.index) for step in network.steps})
    return [
        workspace.get(time, 0) + sum(size for first, last, size in lives if first <= time <= last)
        for time in times
    ]
