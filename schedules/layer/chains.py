"""Layers that follow each other with nothing in between, so that one kernel can compute them.

A depthwise layer, the pointwise one behind it, and, if it is there, the convolution in front: the
blocks of MobileNetV1, V2 and their relatives.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from schedules.layer.graph import Graph, only_reader
from schedules.layer.network import CONV, DENSE, TRANSPOSED, Chain, Layer


def find_chains(graph: Graph, layers: Sequence[Layer]) -> tuple[Chain, ...]:
    """Every chain of two or three layers; they may overlap."""
    return tuple(_chains(graph, layers))


def _chains(graph: Graph, layers: Sequence[Layer]) -> Iterator[Chain]:
    positions = {layer.index: position for position, layer in enumerate(layers)}
    followers = {
        position: follower
        for position, layer in enumerate(layers)
        if (follower := _follower(graph, layers, positions, layer)) is not None
    }
    producers = {follower: position for position, follower in followers.items()}
    for depthwise, pointwise in followers.items():
        first, last = layers[depthwise].workload, layers[pointwise].workload
        if not (first and last and first.is_depthwise and last.is_pointwise and last.groups == 1):
            continue
        if layers[pointwise].kind == DENSE:
            continue
        producer = producers.get(depthwise)
        if producer is not None and layers[producer].kind == CONV:
            workload = layers[producer].workload
            if workload is not None and workload.groups == 1:
                yield producer, depthwise, pointwise
        yield depthwise, pointwise


def _follower(
    graph: Graph, layers: Sequence[Layer], positions: dict[int, int], layer: Layer
) -> int | None:
    """Position of the layer that alone reads ``layer``'s output, and pads nothing of its own."""
    if layer.workload is None or layer.output is None or layer.workload.residual:
        return None
    reader = only_reader(graph, layer.output)
    position = None if reader is None else positions.get(reader)
    if position is None or layers[position].input != layer.output:
        return None
    if TRANSPOSED in (layer.kind, layers[position].kind):
        return None  # what such a layer's kernel computes is spread first
    follower = layers[position].workload
    # A file may contradict itself: then each layer is what its own input says.
    agrees = follower is not None and follower.input_shape == layer.workload.output_shape
    return position if agrees else None
