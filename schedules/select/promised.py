"""What a network will hold with its kernels, by threads: what a delegate is told to keep."""

from __future__ import annotations

from dataclasses import dataclass

from schedules.budget.arena import node_workspace, overwritten_by
from schedules.budget.forms import packed_bytes
from schedules.budget.promise import timeline_of
from schedules.layer.network import Chain
from schedules.lower.memory import align
from schedules.plan.plan import Plan
from schedules.select.selection import Selection

#: Threads that a promise is made for; more than one of these are promised what the next takes.
THREADS = (1, 2, 3, 4, 5, 6, 7, 8, 16, 32, 64)


@dataclass(frozen=True)
class Promise:
    """Bytes that a network holds with its default kernels.

    Parameters
    ----------
    edge_bytes : int
        Of the inputs that are read, and the outputs: what tells that they have these shapes.
    packed_bytes : int
        Packed weights on the heap.
    own_bytes : int
        As :attr:`Network.own_bytes`.
    arenas : tuple of (int, int)
        Threads, and the bytes of TFLite's arena with no more than these, and more than those
        before; both rise, but one thread may take more than several, which run other kernels.
    """

    edge_bytes: int
    packed_bytes: int
    own_bytes: int
    arenas: tuple[tuple[int, int], ...]


def promise_of(selection: Selection) -> Promise:
    """What the kernels of a selection will hold."""
    network = selection.network
    read = {tensor for step in network.steps for tensor in step.inputs}
    edges = {*read.intersection(network.inputs), *network.outputs}
    packed = sum(
        packed_bytes(network.layers[position], kernel.plan, place)
        for chain, kernel in selection.units.items()
        if chain not in selection.embedded
        for place, position in enumerate(chain)
    )
    edge_bytes = sum(network.sizes.get(tensor, 0) for tensor in edges)
    return Promise(edge_bytes, packed, network.own_bytes, _arenas(selection))


def _arenas(selection: Selection) -> tuple[tuple[int, int], ...]:
    network = selection.network
    units = selection.units
    plans = {chain: kernel.plan for chain, kernel in units.items()}
    may_fall = any(kernel.shared for kernel in units.values())
    found: list[tuple[int, int]] = []
    kernels = {chain: plan.overwrites for chain, plan in plans.items()}
    overwritten = overwritten_by(network, kernels)
    timeline, times = timeline_of(network, plans, overwritten)
    before, height = None, 0
    for threads in THREADS:
        workspace = {
            time: _workspace(selection, chain, units[chain].on(threads).plan, threads)
            for chain, time in times.items()
        }
        if workspace != before:
            height = timeline.arena_bytes(workspace)
        before = workspace
        if not found or height > found[-1][1] or (may_fall and threads == 2):
            found.append((threads, height))
        else:
            found[-1] = threads, found[-1][1]
    return tuple(found)


def _workspace(selection: Selection, chain: Chain, plan: Plan, threads: int) -> int:
    layers = [selection.network.layers[position] for position in chain]
    return align(node_workspace(plan, layers, threads))
