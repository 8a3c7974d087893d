"""The tensors that a delegate computes, read as further outputs of the model.

LiteRT could keep every tensor, but then a delegate leaves it the layers that it would compute in
one piece. So only what such pieces take and give is asked for: what the report says of them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from schedules.errors import LeanconvError
from tvmc.comparing.differences import Seen
from tvmc.comparing.node_bound import Result
from tvmc.comparing.rounding import OF_SUMS
from tvmc.comparing.tflite_graph import Array, TfliteGraph
from tvmc.running.interpreter import Session, runtime


class DelegateTensors:
    """One run of a model with a leanconv delegate.

    Parameters
    ----------
    graph : TfliteGraph
        The model in ``path``.
    delegate : Path
        The delegate's library.
    inputs : mapping of int to array
        By tensor.

    Raises
    ------
    LeanconvError
        If it cannot be run, or computes nothing.
    """

    def __init__(
        self,
        graph: TfliteGraph,
        path: Path,
        delegate: Path,
        inputs: Mapping[int, Array],
        options: Mapping[str, str],
    ) -> None:
        def opened(file: Path) -> Session:
            return Session(
                file, runtime("litert"), delegate=delegate, delegate_options=options, xnnpack=False
            )

        if graph.graphs > 1:  # nodes of all have the same numbers
            raise LeanconvError(f"{path} has {graph.graphs} graphs: only one can be compared")
        self._units = _units(opened(path), delegate)
        nodes = {index: unit for unit in self._units for index in unit.nodes}
        self._unit_of = {id(graph.nodes[index]): unit for index, unit in nodes.items()}
        self._ends = _ends(graph, nodes)
        wanted = {*self._ends, *_starts(graph, nodes)}
        with tempfile.TemporaryDirectory(prefix="leanconv-") as folder:
            visible = Path(folder) / "visible.tflite"
            visible.write_bytes(graph.with_outputs(sorted(wanted - set(inputs))))
            session = opened(visible)
            if [unit.nodes for unit in _units(session, delegate)] != [u.nodes for u in self._units]:
                raise LeanconvError(
                    f"{delegate} computes other pieces of the model when its tensors are read"
                )
            session.run([inputs[tensor] for tensor in graph.inputs])
            self._values = {t: session.interpreter.get_tensor(t) for t in wanted}

    def checks(self, node: Any) -> bool:
        """Whether the delegate computes it."""
        return id(node) in self._unit_of

    def multiplies_sums(self, node: Any) -> bool:
        """As the report says."""
        return self.checks(node) and self._unit_of[id(node)].algorithm in OF_SUMS

    def seen(self, tensor: int, _expected: Result) -> Seen | None:
        """What the delegate made, at the end of a unit."""
        unit = self._ends.get(tensor)
        return None if unit is None else Seen(self._values[tensor], unit.algorithm)

    def given(self, tensor: int) -> Array | None:
        """What LiteRT made of the rest."""
        return self._values.get(tensor)


class _Unit(NamedTuple):
    """Nodes that the delegate computes in one piece."""

    nodes: tuple[int, ...]
    algorithm: str


def _units(session: Session, delegate: Path) -> list[_Unit]:
    report = session.report()
    if report is None:
        raise LeanconvError(
            f"{delegate} is no delegate of leanconv: it cannot say what it computes"
        )
    layers = [_Unit(tuple(layer["nodes"]), layer["algorithm"]) for layer in report["layers"]]
    others = [_Unit(tuple(o.get("nodes", [o["node"]])), o["name"]) for o in report["operators"]]
    if not layers and not others:
        raise LeanconvError(
            f"{delegate} computes nothing of the model: there is nothing to compare"
        )
    return layers + others


def _ends(graph: TfliteGraph, nodes: Mapping[int, _Unit]) -> dict[int, _Unit]:
    """What is computed in a unit and read outside."""
    found = {}
    for index, unit in nodes.items():
        inside = {t for i in unit.nodes for t in graph.nodes[i].outputs}
        outside = set(graph.outputs) | {
            t for i, node in enumerate(graph.nodes) if i not in unit.nodes for t in node.inputs
        }
        found.update({t: unit for t in graph.nodes[index].outputs if t in inside & outside})
    return found


def _starts(graph: TfliteGraph, nodes: Mapping[int, _Unit]) -> set[int]:
    """What units read and neither a unit nor the file has, nor follows from the file alone."""
    computed: set[int] = set()
    found: set[int] = set()
    for index, node in enumerate(graph.nodes):
        is_constant = all(t < 0 or t in computed or graph.is_constant(t) for t in node.inputs)
        if is_constant:
            computed |= set(node.outputs)
        elif index not in nodes:
            found |= set(node.outputs)
    read = {t for index in nodes for t in graph.nodes[index].inputs}
    return found & read
