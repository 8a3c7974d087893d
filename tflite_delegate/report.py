"""What a delegate does with each graph of its model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from schedules.lower.kernel import CKernel
from schedules.select.report import LayerReport, layer_reports, peak_bytes
from schedules.select.selection import Selection
from tflite_delegate.read.model import Model
from tflite_delegate.read.supported import Partition, between, operator_name, partitions


@dataclass(frozen=True)
class GraphReport:
    """One graph.

    ``subgraph`` is its number in the file, ``signatures`` the keys of those that run it. ``layers``
    has one entry for every convolution, depthwise and fully-connected layer; ``between`` maps the
    other nodes that the delegate computes to their operators; ``left`` is what TFLite keeps.
    ``peak_bytes`` is the most that tensors and workspace take at once.
    """

    subgraph: int
    signatures: tuple[str, ...]
    layers: tuple[LayerReport, ...]
    between: Mapping[int, str]
    left: tuple[Partition, ...]
    peak_bytes: int


def graph_report(
    graph: Model, selection: Selection, compiled: Mapping[str, CKernel]
) -> GraphReport:
    """``compiled`` has the kernels of the selection by name."""
    in_kernels = [node for s in selection.layers if s.kernels for node in s.layer.nodes]
    others = between(graph, in_kernels)
    return GraphReport(
        subgraph=graph.subgraph,
        signatures=graph.signatures,
        layers=layer_reports(selection, compiled),
        between={step.index: operator_name(step.code) for step in others},
        left=partitions(graph, [*in_kernels, *(step.index for step in others)]),
        peak_bytes=peak_bytes(selection),
    )
