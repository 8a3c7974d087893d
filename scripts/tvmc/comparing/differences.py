"""Find out layer by layer where a compiled model differs from LiteRT's built-in kernels.

Nodes are taken in the file's order. Each is run in LiteRT on the inputs that the compiled model
really had, where those can be seen, so that a difference belongs to the node that made it, and its
bound (:mod:`tvmc.comparing.node_bound`) to that node alone. What lies inside a kernel of several
nodes cannot be seen: there LiteRT's own values stand in, and errors are followed to where it can.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from schedules.errors import LeanconvError
from schedules.progress import Progress
from tvmc.comparing.node_bound import Inputs, Result, apply
from tvmc.comparing.tflite_graph import Array, NotAlone, TfliteGraph


class Unverifiable(LeanconvError):
    """LiteRT cannot run the model, so that there is nothing to compare with."""


@dataclass(frozen=True)
class Seen:
    """A tensor of the compiled model, and what computed it."""

    value: Array
    computed_by: str


class Compiled(Protocol):
    """A compiled model that has been run."""

    def checks(self, node: Any) -> bool:
        """Whether it computes ``node`` itself."""

    def multiplies_sums(self, node: Any) -> bool:
        """Whether it may compute ``node`` by products of sums, as Winograd and Strassen do."""

    def seen(self, tensor: int, expected: Result) -> Seen | None:
        """A result of a node; ``None`` if it cannot be seen."""

    def given(self, tensor: int) -> Array | None:
        """A tensor that it did not compute itself, if it can be seen."""


@dataclass(frozen=True)
class Row:
    """One tensor that can be seen.

    ``difference`` and ``bound`` are those of the element that comes nearest to its bound, or is
    furthest beyond it.
    """

    tensor: int
    name: str
    operator: str
    shape: tuple[int, ...]
    computed_by: str
    difference: float
    bound: float
    within: bool

    @property
    def share(self) -> float:
        """Of its bound."""
        return self.difference / self.bound if self.bound else float(self.difference > 0)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "shape": list(self.shape)}


def compare(
    graph: TfliteGraph, inputs: Mapping[int, Array], compiled: Compiled, progress: Progress
) -> list[Row]:
    """A row for every tensor that ``compiled`` computed and that can be seen, in graph order.

    Parameters
    ----------
    inputs : mapping of int to array
        What ``compiled`` was given, by tensor.

    Raises
    ------
    Unverifiable
        If LiteRT cannot run a node that ``compiled`` computes.
    """
    values, errors, computed = dict(inputs), dict[int, Any](), set[int]()
    rows = []
    for position, node in enumerate(graph.nodes):
        operator = graph.operator(node)
        progress(position, len(graph.nodes), f"compared {operator}")
        needed = [t for t in node.inputs if t >= 0]
        constants = {t for t in needed if t in computed or graph.is_constant(t)}
        known = constants.issuperset(needed) or compiled.checks(node)
        if not known or not all(t in values or t in constants for t in needed):
            given = {t: value for t in node.outputs if (value := compiled.given(t)) is not None}
            values.update(given)
            continue
        own = Inputs({t: values[t] for t in needed if t in values}, errors, constants)
        try:
            results = apply(graph, node, own, compiled.multiplies_sums(node))
        except NotAlone as error:
            raise Unverifiable(f"LiteRT cannot run {operator} by itself: {error}") from None
        for tensor, result in zip(node.outputs, results, strict=True):
            values[tensor] = result.value
            if constants.issuperset(needed):
                computed.add(tensor)
            elif seen := compiled.seen(tensor, result):
                values[tensor] = seen.value
                rows.append(row(graph, node, tensor, result, seen))
            else:
                errors[tensor] = result.bound
    return rows


def row(graph: TfliteGraph, node: Any, tensor: int, expected: Result, seen: Seen) -> Row:
    """How ``seen`` compares with what was expected."""
    difference, bound = worst(graph, tensor, expected, seen.value)
    return Row(
        tensor=int(tensor),
        name=graph.tensor_name(tensor),
        operator=graph.operator(node),
        shape=tuple(seen.value.shape),
        computed_by=seen.computed_by,
        difference=difference,
        bound=bound,
        within=difference <= bound,
    )


def worst(graph: TfliteGraph, tensor: int, expected: Result, value: Array) -> tuple[float, float]:
    """Difference and bound of the element with the largest share of its bound."""
    if value.shape != expected.value.shape:
        return np.inf, 0.0
    if not value.size:
        return 0.0, 0.0
    got, want = graph.real(tensor, value), graph.real(tensor, expected.value)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        difference = np.abs(got - want)
        difference[(got == want) | (np.isnan(got) & np.isnan(want))] = 0.0
        difference = np.nan_to_num(difference, nan=np.inf, posinf=np.inf)
        bound = np.broadcast_to(expected.bound, difference.shape)
        excess = np.where(difference > 0, difference / bound, 0.0)
    element = np.unravel_index(int(np.argmax(np.nan_to_num(excess, nan=1.0))), excess.shape)
    return float(difference[element]), float(bound[element])
