"""What a network holds in memory at once: tensors that are still needed, and workspace.

TFLite places all tensors that are alive at the same time in one arena. Its size is at least the
most that any step holds; gaps come on top.
"""

from __future__ import annotations

from collections.abc import Mapping
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


def held_bytes(network: Network, plans: Mapping[Chain, Plan]) -> list[int]:
    """Bytes of tensors and workspace while each step runs.

    Parameters
    ----------
    plans : mapping of Chain to Plan
        Of all :func:`units`. A layer is computed together with its neighbours; nothing between the
        layers of a block is ever held.
    """
    # A unit runs when the last of its nodes would.
    time_of: dict[int, int] = {}
    workspace: dict[int, int] = {}
    for positions, plan in plans.items():
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
