"""The time of every node, in the forms in which TFLite's benchmark_model writes it."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from scripts.tflite_benchmark.proto import message
from tvmc.running.probe import Node

RUN_ORDER, BY_TIME = "Run Order", "Top by Computation Time"
#: Nodes that the list by time has in the C++ tool.
TOP = 10
_WIDTHS = (24, 9, 9, 8, 8, 10, 9)


class Form(NamedTuple):
    """How lines are made of cells, and the headers of the lists of nodes and of types."""

    line: Callable[[Sequence[str]], str]
    nodes: tuple[str, ...]
    types: tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """One node: its operator or a delegate's kind of node, what that says of itself, its times."""

    graph: int
    index: int
    kind: str
    description: str
    outputs: tuple[str, ...]
    micros: tuple[float, ...]

    @property
    def type(self) -> str:
        """As the C++ tool puts them together."""
        return "/".join(filter(None, (self.kind, self.description)))

    @property
    def name(self) -> str:
        """The outputs, and the node's index."""
        return f"[{', '.join(self.outputs)}]:{self.index}"

    @property
    def average(self) -> float:
        """Microseconds."""
        return statistics.fmean(self.micros)


def rows_of(nodes: Sequence[Node]) -> list[Row]:
    """Those nodes that have run."""
    return [
        Row(
            node.graph,
            node.index,
            node.kind,
            node.description,
            node.outputs,
            tuple(seconds * 1e6 for seconds in node.seconds),
        )
        for node in nodes
        if node.seconds
    ]


def text_of(rows: Sequence[Row]) -> str:
    """Columns for people."""
    nodes = ("[node type]", "[first]", "[avg ms]", "[%]", "[cdf%]", "[mem KB]", "[times called]")
    types = ("[Node type]", "[count]", "[avg ms]", "[avg %]", "[cdf %]", *nodes[5:])
    return _report(rows, Form(_aligned, (*nodes, "[Name]"), types))


def csv_of(rows: Sequence[Row]) -> str:
    """Columns with commas between."""
    nodes = ("node type", "first", "avg_ms", "%", "cdf%", "mem KB", "times called", "name")
    types = ("node type", "count", "avg_ms", "avg %", "cdf %", *nodes[5:7])
    return _report(rows, Form(", ".join, nodes, types))


def _aligned(cells: Sequence[str]) -> str:
    wide = [f"{cell:>{width}}" for cell, width in zip(cells, _WIDTHS, strict=False)]
    return "\t" + "\t".join((*wide, *cells[len(_WIDTHS) :]))


def _report(rows: Sequence[Row], form: Form) -> str:
    total = sum(sum(row.micros) for row in rows) or 1.0
    by_time = sorted(rows, key=lambda row: -row.average)[:TOP]
    parts = []
    for title, chosen in ((RUN_ORDER, rows), (BY_TIME, by_time)):
        parts += [_headline(title), form.line(form.nodes), *_node_lines(chosen, total, form), ""]
    parts += [f"Number of nodes executed: {len(rows)}", _headline("Summary by node type")]
    parts += [form.line(form.types), *_type_lines(rows, form), ""]
    return "\n".join(parts)


def _headline(title: str) -> str:
    return f"{'=' * 30} {title} {'=' * 30}"


def _node_lines(rows: Sequence[Row], total: float, form: Form) -> list[str]:
    lines, cumulated = [], 0.0
    for row in rows:
        share = 100 * sum(row.micros) / total
        cumulated += share
        cells = (
            row.type,
            f"{row.micros[0] / 1e3:.3f}",
            f"{row.average / 1e3:.3f}",
            f"{share:.3f}%",
            f"{cumulated:.3f}%",
            "0.000",  # nobody measures it
            "1",
            row.name,
        )
        lines.append(form.line(cells))
    return lines


def _type_lines(rows: Sequence[Row], form: Form) -> list[str]:
    """All layers of one algorithm are one type."""
    kinds: dict[str, list[float]] = {}
    for row in rows:
        kinds.setdefault(row.kind, []).append(row.average)
    total = sum(row.average for row in rows) or 1.0
    lines, cumulated = [], 0.0
    for kind, micros in sorted(kinds.items(), key=lambda item: -sum(item[1])):
        share = 100 * sum(micros) / total
        cumulated += share
        count = str(len(micros))
        figures = (f"{sum(micros) / 1e3:.3f}", f"{share:.3f}%", f"{cumulated:.3f}%")
        lines.append(form.line((kind, count, *figures, "0.000", count)))
    return lines


def proto_of(rows: Sequence[Row], model: str) -> bytes:
    """``tflite.profiling.BenchmarkProfilingData``, its times in microseconds."""
    graphs = []
    for graph in sorted({row.graph for row in rows}):
        inside = [row for row in rows if row.graph == graph]
        profiles = [(3, _op_profile(row, place)) for place, row in enumerate(inside)]
        graphs.append((1, message((2, graph), *profiles)))
    return message((1, model), (3, message(*graphs)))


def _op_profile(row: Row, place: int) -> bytes:
    micros = [round(value) for value in row.micros]
    deviation = statistics.pstdev(row.micros)
    times = message(
        (1, micros[0]),
        (2, micros[-1]),
        (3, round(row.average)),
        (4, deviation),
        (5, deviation**2),
        (6, min(micros)),
        (7, max(micros)),
        (8, sum(micros)),
        (9, len(micros)),
    )
    return message((1, row.type), (2, times), (4, 1), (5, row.name), (6, place))
