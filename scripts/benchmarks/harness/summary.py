"""One line a network of what benchmarks/networks.py measured: leanconv beside all others."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TypeAlias

from scripts.benchmarks.harness.inference import LEANCONV
from scripts.benchmarks.harness.interleaving import milliseconds
from scripts.benchmarks.harness.rows import Row
from scripts.benchmarks.harness.runners import TUNED, XNNPACK
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
TUNED_COLUMNS = ("tuned/untuned min", "tuned/untuned median")
TUNED_FIGURES = ("min", "median")
MEMORY_COLUMNS = ("arena", "packed", "heap", "XNNPACK heap")

#: As of :meth:`Row.ratios`.
Ratios: TypeAlias = dict[str, float] | None


def summary(rows: Sequence[Row]) -> tuple[tuple[str, ...], list[list[str]]]:
    """Header and lines; other runtimes are their ratios of minima to XNNPACK.

    The last line of each number of threads is the geometric mean of the ratios. Those of leanconv
    with tuning records to leanconv without come last, if there are any.
    """
    tuned = TUNED_COLUMNS if any(row.runtime == TUNED for row in rows) else ()
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
            ratios = [
                [r.ratios() for r in shown if r.runtime == kind] for kind in (LEANCONV, *others)
            ]
            first, *rest = (_mean(of_kind, "min") for of_kind in ratios)
            empty = [""] * len(MEMORY_COLUMNS)
            gains = [row.tuned_ratios() for row in shown if row.runtime == TUNED]
            means = [_mean(gains, figure) for figure in TUNED_FIGURES[: len(tuned)]]
            lines.append(
                ["geometric mean", str(threads), "", "", first, "", "", *rest, *empty, *means]
            )
    return (*COLUMNS, *others, *MEMORY_COLUMNS, *tuned), lines


def _line(network: str, rows: dict[str, Row], others: Sequence[str]) -> list[str]:
    ours, base = rows[LEANCONV], rows.get(XNNPACK)
    ratios = ours.ratios()
    memory = ours.memory
    return [
        network,
        str(ours.threads),
        milliseconds(ours.timing.minimum) if ours.timing else "-",
        milliseconds(base.timing.minimum) if base and base.timing else "-",
        _figure(ratios, "min"),
        _figure(ratios, "median"),
        f"{ours.speed_up:.2f}x" if ours.speed_up else "-",
        *(_figure(rows[kind].ratios(), "min") if kind in rows else "-" for kind in others),
        format_bytes(memory.arena_bytes) if memory and memory.arena_bytes is not None else "-",
        format_bytes(memory.packed_bytes) if memory and memory.packed_bytes is not None else "-",
        format_bytes(memory.peak_heap_bytes) if memory else "-",
        format_bytes(base.memory.peak_heap_bytes) if base and base.memory else "-",
        *(_figure(rows[TUNED].tuned_ratios(), f) for f in TUNED_FIGURES if TUNED in rows),
    ]


def _figure(ratios: Ratios, figure: str) -> str:
    return f"{ratios[figure]:.3f}" if ratios else "-"


def _mean(rows: Sequence[Ratios], figure: str) -> str:
    """Geometric, of those that were measured."""
    known = [ratios[figure] for ratios in rows if ratios]
    return f"{statistics.geometric_mean(known):.3f}" if known else "-"
