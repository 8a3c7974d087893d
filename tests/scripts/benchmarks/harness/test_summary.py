"""The short table of benchmarks/networks.py."""

from __future__ import annotations

from scripts.benchmarks.harness.inference import LEANCONV
from scripts.benchmarks.harness.interleaving import Timing
from scripts.benchmarks.harness.rows import Row
from scripts.benchmarks.harness.runners import NCNN, TUNED, XNNPACK
from scripts.benchmarks.harness.summary import summary


def row(network: str, runtime: str, seconds: float | None, base: float = 2e-3) -> Row:
    timing = None if seconds is None else Timing((seconds,))
    return Row(network, 1, runtime, timing=timing, base=Timing((base,)))


def test_one_line_a_network_and_the_mean() -> None:
    rows = [
        row("a", XNNPACK, 2e-3), row("a", LEANCONV, 1e-3), row("a", NCNN, 4e-3),
        row("b", XNNPACK, 2e-3), row("b", LEANCONV, 4e-3), row("b", NCNN, None),
    ]  # fmt: skip
    header, lines = summary(rows)
    table = [dict(zip(header, line, strict=True)) for line in lines]
    assert [line["network"] for line in table] == ["a", "b", "geometric mean"]
    assert [line["min ratio"] for line in table] == ["0.500", "2.000", "1.000"]
    assert [line[NCNN] for line in table] == ["2.000", "-", "2.000"]
    assert (table[0]["leanconv ms"], table[0]["XNNPACK ms"]) == ("1", "2")


def test_a_single_network_has_no_mean() -> None:
    _, lines = summary([row("a", XNNPACK, 2e-3), row("a", LEANCONV, 1e-3)])
    assert len(lines) == 1


def test_tuned_beside_untuned() -> None:
    rows = []
    for network, factor in (("a", 0.5), ("b", 0.125)):
        tuned = row(network, TUNED, 1e-3 * factor)
        tuned.untuned = Timing((1e-3,))
        rows += [row(network, XNNPACK, 2e-3), row(network, LEANCONV, 1e-3), tuned]
    header, lines = summary(rows)
    table = [dict(zip(header, line, strict=True)) for line in lines]
    assert [line["tuned/untuned min"] for line in table] == ["0.500", "0.125", "0.250"]
    assert [line["tuned/untuned median"] for line in table] == ["0.500", "0.125", "0.250"]
    assert [line[TUNED] for line in table] == ["0.250", "0.062", "0.125"]
