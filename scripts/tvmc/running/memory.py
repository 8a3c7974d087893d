"""``tvmc run --memory``: what a .tflite model holds, before and after, and who holds the most."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tvmc.running.interpreter import Session
from tvmc.running.probe import Node, Probe
from tvmc.tables import format_bytes, format_table

_STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class NodeMemory:
    """Bytes while one node runs: of tensors that are alive, and of its workspace in the arena.

    ``packed`` and ``embedded`` are its weights on the heap and in the library, all the time.
    """

    name: str
    tensors: int
    workspace: int
    packed: int
    embedded: int

    @property
    def arena(self) -> int:
        """All that it needs of the arena."""
        return self.tensors + self.workspace


@dataclass(frozen=True)
class MemoryAccount:
    """What a model holds in LiteRT.

    Parameters
    ----------
    anonymous : tuple of (int or None)
        The process' memory that no file backs before the model is loaded, then, and after a first
        run; ``None`` where the system does not tell.
    arena : int
        TFLite's, from its first byte to its last.
    nodes : tuple of NodeMemory
        Of the main graph, in the order of execution.
    delegate : mapping of str to int
        What ``leanconv_memory`` says; empty without a delegate of leanconv.
    """

    anonymous: tuple[int | None, int | None, int | None]
    arena: int
    nodes: tuple[NodeMemory, ...]
    delegate: Mapping[str, int]

    def format(self) -> str:
        """The table of ``tvmc run --memory``, and what it adds up to."""
        most = max((node.arena for node in self.nodes), default=0)
        header = ("function", "arena", "tensors", "workspace", "packed", "embedded", "most")
        rows = [
            (
                node.name,
                *(f"{n:,}" for n in (node.arena, node.tensors, node.workspace)),
                *(f"{n:,}" for n in (node.packed, node.embedded)),
                "<-" if node.arena == most else "",
            )
            for node in self.nodes
        ]
        return "\n".join([format_table(header, rows), self._sums(), *self._process()])

    def _sums(self) -> str:
        text = f"arena {self.arena:,} bytes"
        if not self.delegate:
            return text
        promised = [self.delegate[f"promised_{kind}_bytes"] for kind in ("arena", "packed", "own")]
        arena, packed, own = (f" (promised {n:,})" if promised[0] else "" for n in promised)
        return (
            f"{text}{arena}, packed weights {self.delegate['packed_bytes']:,}{packed}, "
            f"embedded {self.delegate['embedded_bytes']:,}, "
            f"the delegate's own {self.delegate['own_bytes']:,}{own}"
        )

    def _process(self) -> list[str]:
        sizes = [format_bytes(size) for size in self.anonymous if size is not None]
        if len(sizes) < len(self.anonymous):
            return []
        before, loaded, after = sizes
        return [f"anonymous memory: {before} before, {loaded} with the model, {after} after a run"]


def anonymous_bytes() -> int | None:
    """This process' resident memory that no file backs; ``None`` where the system does not tell."""
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return None
    words = next((line.split() for line in lines if line.startswith("RssAnon:")), None)
    return None if words is None else int(words[1]) * 1024


def account(
    session: Session, anonymous: tuple[int | None, int | None, int | None]
) -> MemoryAccount:
    """What a session holds that has run; its input values are lost."""
    report = session.report() or {}
    inputs = [details["index"] for details in session.inputs()]
    outputs = [details["index"] for details in session.interpreter.get_output_details()]
    probe = session.probe()
    arena = probe.arena_bytes()
    layers: dict[str, list[Mapping[str, Any]]] = {}
    for layer in report.get("layers", []):
        layers.setdefault(layer["name"], []).append(layer)
    nodes = [node for node in probe.nodes if node.graph == 0]
    held = []
    for node, tensors in zip(nodes, _alive(probe, nodes, inputs, outputs), strict=True):
        same = layers.get(node.name)
        layer = same.pop(0) if same else {"packed_bytes": 0, "embedded_bytes": 0}
        workspace = _covered(probe.spans(node.temporaries))
        held.append(
            NodeMemory(
                node.name, tensors, workspace, layer["packed_bytes"], layer["embedded_bytes"]
            )
        )
    return MemoryAccount(anonymous, arena, tuple(held), report.get("memory", {}))


def _alive(
    probe: Probe, nodes: Sequence[Node], inputs: Iterable[int], outputs: Iterable[int]
) -> list[int]:
    """Bytes of the tensors in the arena while each node runs; one may lie where another does.

    TFLite keeps the graph's inputs and outputs to the end.
    """
    written = dict.fromkeys(inputs, 0)
    read = dict.fromkeys((*inputs, *outputs), len(nodes))
    for step, node in enumerate(nodes):
        for tensor in node.writes:
            written.setdefault(tensor, step)
        for tensor in (*node.reads, *node.writes):
            read[tensor] = max(read.get(tensor, 0), step)
    return [
        _covered(probe.spans([t for t in written if written[t] <= step <= read[t]]))
        for step in range(len(nodes))
    ]


def _covered(spans: Sequence[tuple[int, int]]) -> int:
    """Bytes that lie in any of some ranges, given by their first and the one behind their last."""
    total, covered = 0, 0
    for begin, end in sorted(spans):
        total += max(0, end - max(begin, covered))
        covered = max(covered, end)
    return total
