"""The time of every node, in the forms in which TFLite's benchmark_model writes it."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import NamedTuple

from scripts.tflite_benchmark.proto import message
from tvmc.running.probe import Node

#: Nodes that the list by time has in the C++ tool.
TOP = 10
_WIDTHS = (24, 9, 9, 8, 8, 10, 9)


class Form(NamedTuple):
    """How lines are made of cells, and the headers of the lists of nodes and of types."""

    line: Callable[[Sequence[str]], str]
    nodes: tuple[str, ...]
    types: tuple[str, ...]


def type_of(node: Node) -> str:
    """Operator or kind of a delegate's node, and what that says of itself, as the C++ tool does."""
    return "/".join(filter(None, (node.kind, node.description)))


def average(node: Node) -> float:
    """Microseconds."""
    return statistics.fmean(node.seconds) * 1e6


def _name(node: Node) -> str:
    """The outputs, and the node's index."""
    return f"[{', '.join(node.outputs)}]:{node.index}"


def text_of(nodes: Sequence[Node]) -> str:
    """Columns for people."""
    common = ("[mem KB]", "[times called]")
    header = ("[node type]", "[first]", "[avg ms]", "[%]", "[cdf%]", *common, "[Name]")
    types = ("[Node type]", "[count]", "[avg ms]", "[avg %]", "[cdf %]", *common)
    return _report(nodes, Form(_aligned, header, types))


def csv_of(nodes: Sequence[Node]) -> str:
    """Columns with commas between."""
    common = ("mem KB", "times called")
    header = ("node type", "first", "avg_ms", "%", "cdf%", *common, "name")
    types = ("node type", "count", "avg_ms", "avg %", "cdf %", *common)
    return _report(nodes, Form(", ".join, header, types))


def _aligned(cells: Sequence[str]) -> str:
    wide = [f"{cell:>{width}}" for cell, width in zip(cells, _WIDTHS, strict=False)]
    return "\t" + "\t".join((*wide, *cells[len(_WIDTHS) :]))


def _report(nodes: Sequence[Node], form: Form) -> str:
    by_time = sorted(nodes, key=lambda node: -average(node))[:TOP]
    total = sum(sum(node.seconds) for node in nodes) or 1.0
    parts = []
    for title, chosen in (("Run Order", nodes), ("Top by Computation Time", by_time)):
        parts += [_headline(title), form.line(form.nodes), *_node_lines(chosen, total, form), ""]
    parts += [f"Number of nodes executed: {len(nodes)}", _headline("Summary by node type")]
    parts += [form.line(form.types), *_type_lines(nodes, form), ""]
    return "\n".join(parts)


def _headline(title: str) -> str:
    return f"{'=' * 30} {title} {'=' * 30}"


def _node_lines(nodes: Sequence[Node], total: float, form: Form) -> list[str]:
    lines, cumulated = [], 0.0
    for node in nodes:
        share = 100 * sum(node.seconds) / total
        cumulated += share
        times = (f"{node.seconds[0] * 1e3:.3f}", f"{average(node) / 1e3:.3f}")
        shares = (f"{share:.3f}%", f"{cumulated:.3f}%")
        # Nobody measures the memory.
        lines.append(form.line((type_of(node), *times, *shares, "0.000", "1", _name(node))))
    return lines


def _type_lines(nodes: Sequence[Node], form: Form) -> list[str]:
    """All layers of one algorithm are one type."""
    kinds: dict[str, list[float]] = {}
    for node in nodes:
        kinds.setdefault(node.kind, []).append(average(node))
    total = sum(map(average, nodes)) or 1.0
    lines, cumulated = [], 0.0
    for kind, micros in sorted(kinds.items(), key=lambda item: -sum(item[1])):
        share = 100 * sum(micros) / total
        cumulated += share
        count = str(len(micros))
        figures = (f"{sum(micros) / 1e3:.3f}", f"{share:.3f}%", f"{cumulated:.3f}%")
        lines.append(form.line((kind, count, *figures, "0.000", count)))
    return lines


def proto_of(nodes: Sequence[Node], model: str) -> bytes:
    """``tflite.profiling.BenchmarkProfilingData``, its times in microseconds."""
    graphs = []
    for graph in sorted({node.graph for node in nodes}):
        inside = [node for node in nodes if node.graph == graph]
        profiles = [(3, _op_profile(node, place)) for place, node in enumerate(inside)]
        graphs.append((1, message((2, graph), *profiles)))
    return message((1, model), (3, message(*graphs)))


def _op_profile(node: Node, place: int) -> bytes:
    micros = [round(seconds * 1e6) for seconds in node.seconds]
    deviation = statistics.pstdev(node.seconds) * 1e6
    figures = (micros[0], micros[-1], round(average(node)), deviation, deviation**2)
    times = message(
        *enumerate((*figures, min(micros), max(micros), sum(micros), len(micros)), start=1)
    )
    return message((1, type_of(node)), (2, times), (4, 1), (5, _name(node)), (6, place))
