"""Which records count, and which is the best."""

from __future__ import annotations

from pathlib import Path

from schedules.tuning.records.records import Log, best, by_workload, load, of_target, ranked
from tests.support.records import LAYER, OTHER_LAYER, record


def test_the_lowest_median_of_each_workload() -> None:
    fast, slow = record(1e-3, columns=1), record(2e-3, columns=2)
    other = record(5e-3, workload=OTHER_LAYER)
    assert best([slow, other, fast]) == {LAYER: fast, OTHER_LAYER: other}
    assert ranked([slow, other, fast], LAYER) == [fast, slow]


def test_most_samples_are_believed() -> None:
    """A lucky sample does not win against a play-off, neither against itself nor others."""
    lucky, believed = record(1e-3, columns=1), record(3e-3, columns=1, samples=50)
    steady = record(2e-3, columns=2, samples=50)
    unproven = record(1.5e-3, columns=3)
    assert ranked([lucky, unproven, steady, believed]) == [steady, believed, unproven]
    assert ranked([believed, steady, unproven, lucky]) == [steady, believed, unproven]


def test_the_latest_of_equally_many_samples() -> None:
    early, late = record(1e-3), record(2e-3, timestamp=1_760_000_001)
    assert ranked([early, late]) == ranked([late, early]) == [late]
    again = record(3e-3)
    assert ranked([early, again]) == [again], "of the same second, what was appended last"


def test_failures_are_never_best() -> None:
    failed = record(None)
    assert best([failed]) == {}
    assert ranked([failed]) == []
    assert ranked([record(1e-3), record(None, timestamp=1_760_000_001)]) == [record(1e-3)]


def test_targets_are_apart() -> None:
    ours, theirs = record(2e-3), record(1e-3, target="cortex-a53")
    assert of_target([ours, theirs], "cortex-a76") == [ours]
    assert of_target([ours, theirs], "cortex-a72") == []


def test_measured_costs_supersede_modelled_ones() -> None:
    measured, modelled = record(2e-3), record(1e-3, columns=8, cost_kind="modelled")
    other = record(5e-3, workload=OTHER_LAYER, cost_kind="modelled")
    failed = record(None, workload=OTHER_LAYER)
    assert of_target([modelled, measured, other, failed], "cortex-a76") == [measured, other, failed]


def test_by_workload() -> None:
    one, two, other = record(columns=1), record(columns=2), record(workload=OTHER_LAYER)
    assert by_workload([one, other, two]) == {LAYER: [one, two], OTHER_LAYER: [other]}


def test_what_was_appended_is_found_again(tmp_path: Path) -> None:
    for cost in (3e-3, 1e-3, 2e-3):
        Log(tmp_path).append(record(cost, columns=round(cost * 1e3)))
    assert best(load(tmp_path))[LAYER] == record(1e-3, columns=1)
