"""Records joined and cut down: nothing of use is lost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from schedules.errors import LeanconvError
from schedules.plan.choice import Choice
from schedules.plan.planner import plan_kernel
from schedules.target.simd import PRESETS
from schedules.tuning.records.log import load, rewrite
from schedules.tuning.records.records import LOST, Record, best
from schedules.tuning.records.upkeep import merge, prune, worth_keeping
from tests.support.records import LAYER, OTHER_LAYER, record

UNTUNED = record(9e-3, candidate=plan_kernel(LAYER, PRESETS["cortex-a76"]).choice)


def trial(cost_s: float, algorithm: str, columns: int = 1) -> Record:
    return record(cost_s, candidate=Choice(algorithm, (("columns", columns),)))


FAST, SECOND = trial(1e-3, "im2col"), trial(2e-3, "im2col", 2)
MEC, KN2ROW = trial(3e-3, "mec"), trial(4e-3, "kn2row")
OTHER, FAILED = record(5e-3, workload=OTHER_LAYER), record(None, columns=3)
ALL = [UNTUNED, KN2ROW, FAILED, FAST, SECOND, OTHER, MEC]


def test_merged_by_time_each_once(tmp_path: Path) -> None:
    early, late = record(timestamp=1), record(timestamp=3)
    between = record(2e-3, timestamp=2)
    for name, records in (("a", [early, late]), ("b", [between, late]), ("b/more", [late])):
        (tmp_path / name).mkdir()
        rewrite(tmp_path / name / "float32.jsonl", records)
    output = tmp_path / "all.jsonl"
    assert merge([tmp_path / "b", tmp_path / "a", tmp_path / "b" / "more"], output) == load(output)
    assert load(output) == [early, between, late]


@pytest.mark.parametrize(
    ("keep", "kept"),
    [
        (1, [UNTUNED, FAST, OTHER]),
        (2, [UNTUNED, FAST, OTHER, MEC]),
        (9, [UNTUNED, KN2ROW, FAST, OTHER, MEC]),
    ],
)
def test_worth_keeping(keep: int, kept: list[Record]) -> None:
    assert list(worth_keeping(ALL, keep)) == kept
    assert best(kept) == best(ALL)


def test_targets_and_kinds_are_kept_apart() -> None:
    theirs = record(1e-4, target="cortex-a53")
    modelled = record(1e-4, columns=8, cost_kind="modelled")
    assert list(worth_keeping([theirs, modelled, FAST], 9)) == [theirs, FAST]


def test_pruned_in_place(tmp_path: Path) -> None:
    first, second = tmp_path / "float32.jsonl", tmp_path / "more.jsonl"
    rewrite(first, ALL)
    rewrite(second, [SECOND, FAST])
    assert prune(tmp_path, 1) == (9, 3)
    assert load(first) == [UNTUNED, FAST, OTHER]
    assert load(second) == [FAST]
    assert sorted(tmp_path.iterdir()) == [first, second]


def test_marks_are_kept(tmp_path: Path) -> None:
    """Of what was the best, and was not in a whole network."""
    path = tmp_path / "float32.jsonl"
    lost = replace(FAILED, error=LOST)
    rewrite(path, [UNTUNED, FAST, FAILED, lost])
    assert prune(path, 1) == (4, 3)
    assert load(path) == [UNTUNED, FAST, lost]


def test_pruned_elsewhere(tmp_path: Path) -> None:
    path, output = tmp_path / "float32.jsonl", tmp_path / "small" / "best.jsonl"
    output.parent.mkdir()
    rewrite(path, ALL)
    before = path.read_bytes()
    assert prune(path, 1, output) == (7, 3)
    assert load(output) == [UNTUNED, FAST, OTHER]
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (FAILED.to_line() + "\n", "every trial in .* failed: nothing is worth keeping"),
        (FAST.to_line() + '\n{"v":2}\n', "has lines of a newer version"),
    ],
)
def test_refused_in_place(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "float32.jsonl"
    path.write_text(content)
    with pytest.raises(LeanconvError, match=message):
        prune(tmp_path, 1)
    assert path.read_text() == content
