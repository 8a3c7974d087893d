"""One line a network of what bench_networks.py measured: leanconv beside all others."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from benchmarking import milliseconds
from inference import LEANCONV
from network_rows import Row
from network_runners import XNNPACK
from tvmc.tables import format_bytes

COLUMNS = (
    "network",
    "threads",
    "leanconv ms",
    "XNNPACK ms",
    "min ratio",
    "median ratio",
    "speed-up",
)
MEMORY_COLUMNS = ("arena", "packed", "heap", "XNNPACK heap")


def summary(rows: Sequence[Row]) -> tuple[tuple[str, ...], list[list[str]]]:
    """Header and lines; other runtimes are their ratios of minima to XNNPACK.

    The last line of each number of threads is the geometric mean of the ratios.
    """
    others = [
        kind for kind in dict.fromkeys(r.runtime for r in rows) if kind not in (LEANCONV, XNNPACK)
    ]
    lines = []
    for threads in dict.fromkeys(row.threads for row in rows):
        shown = [row for row in rows if row.threads == threads]
        by_network: dict[str, dict[str, Row]] = {}
        for row in shown:
            by_network.setdefault(row.network, {})[row.runtime] = row
        lines += [_line(network, found, others) for network, found in by_network.items()]
        if len(by_network) > 1:
            means = [_mean([r for r in shown if r.runtime == kind]) for kind in (LEANCONV, *others)]
            empty = [""] * len(MEMORY_COLUMNS)
            lines.append(
                ["geometric mean", str(threads), "", "", means[0], "", "", *means[1:], *empty]
            )
    return (*COLUMNS, *others, *MEMORY_COLUMNS), lines


def _line(network: str, rows: dict[str, Row], others: Sequence[str]) -> list[str]:
    ours, base = rows[LEANCONV], rows.get(XNNPACK)
    ratios = ours.ratios()
    memory = ours.memory
    return [
        network,
        str(ours.threads),
        milliseconds(ours.timing.minimum) if ours.timing else "-",
        milliseconds(base.timing.minimum) if base and base.timing else "-",
        f"{ratios['min']:.3f}" if ratios else "-",
        f"{ratios['median']:.3f}" if ratios else "-",
        f"{ours.speed_up:.2f}x" if ours.speed_up else "-",
        *(_ratio(rows[kind]) if kind in rows else "-" for kind in others),
        format_bytes(memory.arena_bytes) if memory and memory.arena_bytes is not None else "-",
        format_bytes(memory.packed_bytes) if memory and memory.packed_bytes is not None else "-",
        format_bytes(memory.peak_heap_bytes) if memory else "-",
        format_bytes(base.memory.peak_heap_bytes) if base and base.memory else "-",
    ]


def _ratio(row: Row) -> str:
    ratios = row.ratios()
    return f"{ratios['min']:.3f}" if ratios else "-"


def _mean(rows: Sequence[Row]) -> str:
    ratios = [ratios["min"] for row in rows if (ratios := row.ratios())]
    return f"{statistics.geometric_mean(ratios):.3f}" if ratios else "-"
