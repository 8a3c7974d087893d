"""Signatures of a .tflite model: its graphs that a caller can run, and names of their tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import tflite

from schedules.errors import LeanconvError


@dataclass(frozen=True)
class Signature:
    """One of them; ``inputs`` and ``outputs`` are names by the tensors of the graph."""

    name: str
    graph: int
    inputs: Mapping[int, str]
    outputs: Mapping[int, str]

    def __str__(self) -> str:
        inputs, outputs = (", ".join(names.values()) for names in (self.inputs, self.outputs))
        return f"{self.name!r} ({inputs} -> {outputs})"


def read_signatures(model: tflite.Model) -> tuple[Signature, ...]:
    """All of a model whose graphs have been read.

    Raises
    ------
    ValueError
        Or another of :data:`tflite_delegate.read.graph.DAMAGE`, if the file is damaged.
    """
    count, graphs = model.SignatureDefsLength(), model.SubgraphsLength()
    if count * 4 > len(model._tab.Bytes):  # several may run one graph
        raise ValueError(f"{count} signatures do not fit into the file")
    found = []
    for place in range(count):
        entry = model.SignatureDefs(place)
        if entry.SubgraphIndex() >= graphs:
            raise ValueError(f"a signature names graph {entry.SubgraphIndex()} of {graphs}")
        tensors = model.Subgraphs(entry.SubgraphIndex()).TensorsLength()
        found.append(
            Signature(
                (entry.SignatureKey() or b"").decode(errors="replace"),
                entry.SubgraphIndex(),
                _names(entry.Inputs, entry.InputsLength(), tensors),
                _names(entry.Outputs, entry.OutputsLength(), tensors),
            )
        )
    return tuple(found)


def named_signature(path: Any, model: tflite.Model, name: str | None) -> Signature:
    """The one of this name; raises LeanconvError, which tells the others, if there is none.

    ``None`` means the main graph, without names.
    """
    if name is None:
        return Signature("", 0, {}, {})
    known = read_signatures(model)
    for signature in known:
        if signature.name == name:
            return signature
    others = ", ".join(map(str, known)) or "it has none"
    raise LeanconvError(f"{path} has no signature {name!r}: {others}")


def _names(entry: Any, count: int, tensors: int) -> dict[int, str]:
    if count > tensors:
        raise ValueError(f"a signature names {count} tensors of {tensors}")
    maps = [entry(place) for place in range(count)]
    return {int(pair.TensorIndex()): (pair.Name() or b"").decode(errors="replace") for pair in maps}
