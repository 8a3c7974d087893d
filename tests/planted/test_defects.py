"""The table of planted defects follows the sources as they move."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.planted.defects import DEFECTS, Defect
from tests.planted.plant import planted

AREAS = (
    *("lowering", "masks", "packing", "epilogue", "planner limits", "arena"),
    "budget",
    *("merge rules (Python)", "merge rules (C)", "claims", "pool", "records", "tuner resume"),
    "Relax pass",
)


def test_every_area_has_two() -> None:
    counts = Counter(defect.area for defect in DEFECTS)
    assert set(counts) == set(AREAS)
    assert min(counts.values()) >= 2
    assert len(DEFECTS) >= 24


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: f"{defect.area}: {defect.new}")
def test_each_can_be_planted(defect: Defect, repo_root: Path) -> None:
    assert (repo_root / defect.file).read_text().count(defect.old) == 1
    assert defect.new != defect.old
    assert "\n" not in defect.old + defect.new
    for word in defect.tests.split():
        assert not word.startswith("tests/") or (repo_root / word).is_file()


def test_a_copy_has_the_fault_and_the_checkout_has_not(repo_root: Path) -> None:
    defect = DEFECTS[0]
    before = (repo_root / defect.file).read_text()
    with planted(defect) as folder:
        assert (folder / defect.file).read_text() == before.replace(defect.old, defect.new)
        assert (folder / "pyproject.toml").is_file()
    assert (repo_root / defect.file).read_text() == before
