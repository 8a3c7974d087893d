"""A network's operators as the rules need them that make layers of several.

Whoever reads networks, from a .tflite file or a Relax function, has a graph of this kind: nodes in
the order of execution and tensors, both numbered.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from schedules.layer.network import Layer


@dataclass(frozen=True)
class Window:
    """Of a pool: pixels, steps, and whether the scheme of padding is SAME, not VALID."""

    height: int
    width: int
    stride_height: int
    stride_width: int
    same: bool


@dataclass(frozen=True)
class Operation:
    """What a node does.

    Parameters
    ----------
    node : int
        Which one.
    name : str
        ``pad`` (by zeros, or by codes that stand for zero), ``add`` (of floats, or of codes as
        XNNPACK adds them), ``multiply``, ``divide``,
        ``sigmoid``, ``max_pool``, ``average_pool``, or an activation's.
    operands : tuple of int
        Tensors that it reads, but for constants that the graph does not number.
    output : int
        The tensor that it writes.
    activation : str
        What an addition, product or pool does to its result.
    paddings : tuple of int
        Of a pad: how many zeros before and behind, for each axis.
    number : float or None
        The constant, if it is one number, that it adds or divides by.
    window : Window or None
        Of a pool.
    """

    node: int
    name: str
    operands: tuple[int, ...]
    output: int
    activation: str = "none"
    paddings: tuple[int, ...] = ()
    number: float | None = None
    window: Window | None = None


class Graph(Protocol):
    """Nodes and tensors, whatever they were read from."""

    @property
    def producers(self) -> Mapping[int, int]:
        """Tensor -> the node that writes it."""

    @property
    def readers(self) -> Mapping[int, Sequence[int]]:
        """Tensor -> the nodes that read it; a node that reads it twice is there twice."""

    @property
    def outputs(self) -> Container[int]:
        """Tensors that a caller reads."""

    def operation(self, node: int) -> Operation | None:
        """What a node does; ``None`` if no kernel could do it along with its own work."""

    def shape(self, tensor: int) -> tuple[int, ...] | None:
        """``None`` if it is not known."""

    def dtype(self, tensor: int) -> str:
        """Type of the elements."""

    def is_there(self, tensor: int, layer: Layer) -> bool:
        """Whether a tensor is no constant, and given or computed before ``layer``'s kernel runs."""


def only_reader(graph: Graph, tensor: int) -> int | None:
    """The node that alone uses a tensor, or ``None``: nobody, others, or the caller too."""
    readers = graph.readers.get(tensor, ())
    return readers[0] if len(readers) == 1 and tensor not in graph.outputs else None


def follower(graph: Graph, tensor: int) -> Operation | None:
    """What the node does that alone uses a tensor."""
    node = only_reader(graph, tensor)
    return None if node is None else graph.operation(node)
