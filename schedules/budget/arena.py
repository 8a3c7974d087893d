"""What a network holds in memory at once: tensors that are still needed, and workspace.

TFLite places all tensors that are alive at the same time in one arena. Its size is at least the
most that any step holds; gaps come on top.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import TypeVar

from schedules.algorithms.base import INPUT
from schedules.budget.offsets import Life, height, place
from schedules.layer.network import Chain, Layer, Network
from schedules.lower.memory import align
from schedules.plan.plan import Plan

T = TypeVar("T")
NOTHING: Mapping[Chain, int] = MappingProxyType({})


def node_workspace(plan: Plan, layers: Sequence[Layer], threads: int = 1) -> int:
    """Workspace of a node that computes ``layers``.

    Behind that of its kernel lie, each on a cache line of its own, its result before it is spread
    over the output, and copies of tensors in the type that is computed in; or the strips of a layer
    that is pooled.
    """
    staged = max(layer.staged_bytes for layer in layers)
    copies = [plan.images * size for layer in layers for size in layer.copied_bytes]
    total = plan.workspace_of(threads)
    for size in (sum(plan.host_bytes), staged, *copies):
        total = align(total) + size if size else total
    return total


def overwritten_by(network: Network, kernels: Mapping[Chain, str | None]) -> dict[Chain, int]:
    """The tensor that each of these may overwrite, of what :attr:`Plan.overwrites` says of them."""
    found = {}
    for chain, what in kernels.items():
        first, last = network.layers[chain[0]], network.layers[chain[-1]]
        tensor = first.input if what == INPUT else last.residual
        is_spread = last.staged_bytes or last.copied_bytes
        is_other = what == INPUT or last.residual != first.input
        if what and tensor is not None and is_other and not is_spread:
            found[chain] = tensor
    return found


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
    overwritten : mapping of Chain to int
        For some of them, the tensor in whose place their kernel may have its output.
    """

    def __init__(
        self,
        network: Network,
        chains: Iterable[Chain],
        overwritten: Mapping[Chain, int] = NOTHING,
    ) -> None:
        # A unit runs when the last of its nodes would.
        self._time_of: dict[int, int] = {}
        for chain in chains:
            nodes = nodes_of(network, chain)
            self._time_of |= dict.fromkeys(nodes, max(nodes))
        lives = _tensors(network, self.time_of)
        tensors = {
            self.time_of(nodes_of(network, chain)[0]): tensor
            for chain, tensor in overwritten.items()
        }
        self._lives = _shared(network, lives, self._time_of, tensors)
        #: When something runs.
        self.times = sorted({self.time_of(step.index) for step in network.steps})

    @cached_property
    def _slots(self) -> dict[int, int]:
        """Those times one after the other."""
        return {time: slot for slot, time in enumerate(self.times)}

    @cached_property
    def _tensors(self) -> dict[str, Life]:
        """When each tensor lives, in slots, by its name."""
        slots = self._slots
        return {
            f"tensor {tensor}": Life(
                slots.get(life.first, 0), slots.get(life.last, len(slots)), life.bytes
            )
            for tensor, life in self._lives.items()
        }

    def time_of(self, node: int) -> int:
        """When what computes a node runs."""
        return self._time_of.get(node, node)

    def held_bytes(self, time: int) -> int:
        """Bytes of the tensors that are alive then."""
        lives = self._lives.values()
        return sum(align(life.bytes) for life in lives if life.first <= time <= life.last)

    def placed(self, workspace: Mapping[int, int]) -> list[Placed]:
        """Where TFLite's arena has everything; ``workspace`` is by the time that it is for."""
        names = [*self._tensors, *(f"workspace at {time}" for time in workspace)]
        return [Placed(*item) for item in zip(names, *self._offsets(workspace), strict=True)]

    def arena_bytes(self, workspace: Mapping[int, int]) -> int:
        """Bytes of that arena, gaps included."""
        return height(*self._offsets(workspace))

    def _offsets(self, workspace: Mapping[int, int]) -> tuple[list[Life], list[int]]:
        lives = list(self._tensors.values())
        for time, size in workspace.items():
            slot = self._slots[time]
            lives.append(Life(slot, slot, size))
        return lives, place(lives, len(self._slots))


@dataclass(frozen=True)
class Placed:
    """Bytes of TFLite's arena while they are needed, in steps that something runs in."""

    name: str
    life: Life
    offset: int


def arena_bytes(placed: Sequence[Placed]) -> int:
    """Bytes of the arena, gaps included."""
    return height([item.life for item in placed], [item.offset for item in placed])


def _tensors(network: Network, time_of: Callable[[int], int]) -> dict[int, Life]:
    """When each tensor lives that something else reads than what wrote it."""
    end = len(network.steps)
    written = dict.fromkeys(network.inputs, -1)
    read: dict[int, int] = dict.fromkeys((*network.inputs, *network.outputs), end)
    for step in network.steps:
        time = time_of(step.index)
        written |= dict.fromkeys(step.outputs, time)
        for tensor in step.inputs:
            read[tensor] = max(read.get(tensor, -1), time)
    # A tensor that is written and read in one step is inside of a unit.
    return {
        tensor: Life(written[tensor], read[tensor], network.sizes[tensor])
        for tensor in written
        if read.get(tensor, -1) > written[tensor]
    }


def _shared(
    network: Network,
    lives: Mapping[int, Life],
    in_kernels: Mapping[int, int],
    overwritten: Mapping[int, int],
) -> dict[int, Life]:
    """``lives`` where tensors share memory as TFLite lets them (its ArenaPlanner, LiteRT 2.3).

    ``in_kernels`` tells when the nodes run that kernels of ours compute, ``overwritten`` what these
    may write their output over.
    """
    readers = _readers(network, in_kernels)
    found, owner = dict(lives), {tensor: tensor for tensor in lives}
    for step in network.steps:
        output = step.outputs[0] if step.outputs else -1
        if output not in lives or output in network.outputs:
            continue
        # Of the nodes that a kernel computes, only the last has an output that lives.
        is_ours = step.index in in_kernels
        shared = (overwritten.get(in_kernels[step.index]),) if is_ours else step.shared
        for source in shared:
            if source is None or source not in lives or source in network.inputs:
                continue
            changes = is_ours or not step.is_view
            alone = readers[source] == readers[owner[source]] == 1
            if changes and not (alone and lives[source].bytes == lives[output].bytes):
                continue
            owner[output] = owner[source]
            first, life = found[owner[source]], found.pop(output)
            found[owner[source]] = replace(first, last=max(first.last, life.last))
            break
    return found


def _readers(network: Network, in_kernels: Mapping[int, int]) -> Counter[int]:
    """How often TFLite's nodes read each tensor: one of ours, once; and whether a caller does."""
    readers = Counter(network.outputs)
    of_kernels = set()
    for step in network.steps:
        if step.index in in_kernels:
            of_kernels |= {(in_kernels[step.index], tensor) for tensor in step.inputs}
        else:
            readers.update(step.inputs)
    readers.update(tensor for _, tensor in of_kernels)
    return readers


def nodes_of(network: Network, chain: Chain) -> list[int]:
    """The nodes that a kernel for these layers does the work of."""
    return [node for position in chain for node in network.layers[position].nodes]


def held_bytes(network: Network, plans: Mapping[Chain, Plan], threads: int = 1) -> list[int]:
    """Bytes of tensors and workspace while each step runs; ``plans`` of all units."""
    kernels = {chain: plan.overwrites for chain, plan in plans.items()}
    timeline = Timeline(network, plans, overwritten_by(network, kernels))
    workspace: dict[int, int] = {}
    for chain, plan in plans.items():
        layers = [network.layers[position] for position in chain]
        time = timeline.time_of(nodes_of(network, chain)[0])
        workspace[time] = node_workspace(plan, layers, threads)
    return [workspace.get(time, 0) + timeline.held_bytes(time) for time in timeline.times]
