"""Layers that their kernels pool as well: when that is a choice of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from schedules.budget.problem import Form, Unit
from schedules.layer.network import AnyNetwork, Layer, Network
from schedules.layer.pooled import PooledWorkload


def pooled_layers(network: Network) -> dict[int, Layer]:
    """Those of a network that may be pooled by their kernels, by position.

    Not where something else runs between a layer and its pool: what that holds would depend on
    both.
    """
    return {
        position: pooled
        for position, pooled in network.pooled.items()
        if _is_same(network.layers[position], pooled) and _is_run(network, pooled)
    }


def with_pools(network: AnyNetwork, chosen: Iterable[tuple[Unit, Form]]) -> AnyNetwork:
    """``network`` whose layers have the pools that their ``chosen`` kernels compute."""
    pooled = {unit.first: network.pooled[unit.first] for unit, _ in chosen if unit.is_pooled}
    return with_layers(network, pooled)


def with_layers(network: AnyNetwork, layers: Mapping[int, Layer]) -> AnyNetwork:
    """``network`` with other ``layers`` at their positions."""
    if not layers:
        return network
    found = (layers.get(position, layer) for position, layer in enumerate(network.layers))
    return replace(network, layers=tuple(found))


def pool_nodes(network: Network, position: int, pooled: Layer) -> set[int]:
    """The nodes of a pool, with its pad."""
    return set(pooled.nodes) - set(network.layers[position].nodes)


def _is_same(layer: Layer, pooled: Layer) -> bool:
    """Whether the layer is computed as when its pool was found: not in another type, or a batch."""
    assert isinstance(pooled.workload, PooledWorkload)
    return layer.workload == pooled.workload.convolution() and layer.workload.batch == 1


def _is_run(network: Network, pooled: Layer) -> bool:
    first, last = min(pooled.nodes), max(pooled.nodes)
    inside = {step.index for step in network.steps if first <= step.index <= last}
    return inside == set(pooled.nodes)
