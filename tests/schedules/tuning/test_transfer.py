"""Promises about layers that were never measured, and how far they are believed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

import numpy as np
import pytest

from schedules.layer.workload import Conv2dWorkload
from schedules.plan.choice import Choice
from schedules.plan.plan import Plan
from schedules.plan.planner import plan_kernel
from schedules.target.simd import Simd
from schedules.tuning.records.records import Record, ranked
from schedules.tuning.records.untuned import untuned_record
from schedules.tuning.search.cost_model import CostModel
from schedules.tuning.search.space import Space
from schedules.tuning.transfer import Transfer
from tests.support.trials import record

SIMD = Simd.named("cortex-a76")
LAYER = Conv2dWorkload.from_text("14x14x32->32 k3x3 p1,1,1,1")
DEFAULT = plan_kernel(LAYER, SIMD)
SIZES = (8, 9, 10, 11, 12, 13, 15, 16)


def records(noise: float) -> list[Record]:
    """One algorithm takes half of the time of all others, but for random factors."""
    made = []
    for size in SIZES:
        layer, random = replace(LAYER, in_height=size, in_width=size), Random(size)
        space = Space(layer, SIMD)
        for found in dict.fromkeys([*space.starts(), *(space.sample(random) for _ in range(20))]):
            seconds = 0.5 if found.algorithm == "indirect" else 1.0
            made.append(record(layer, SIMD, found, seconds * noise ** random.uniform(-1, 1)))
    return made


class Columns:
    """A model by which time is proportional to the columns of a tile."""

    def predict(self, plans: Sequence[Plan]) -> np.ndarray:
        return np.log([plan.knobs["columns"] for plan in plans])


def plans(*columns: int) -> list[Plan]:
    candidate = DEFAULT.choice
    return [
        Plan.of(Choice.of(candidate.algorithm, {**candidate.knobs, "columns": count}), LAYER, SIMD)
        for count in columns
    ]


@pytest.mark.parametrize(("flattery", "believed"), [(1.9, True), (2.1, False)])
def test_promises_are_believed_but_for_flattery(flattery: float, believed: bool) -> None:
    slow, fast, default = plans(3, 2, 4)
    found = Transfer(Columns(), flattery).best(default, [slow, fast])  # type: ignore[arg-type]
    assert (found is not None) == believed
    if found is not None:
        assert found[0] is fast
        assert found[1] == pytest.approx(0.5)
    assert Transfer(Columns(), 1.0).best(fast, [slow, default]) is None  # type: ignore[arg-type]


def test_flattery_is_what_noise_makes_of_promises() -> None:
    exact, noisy = (Transfer.learn(records(noise), SIMD) for noise in (1.0, 2.0))
    assert exact is not None
    assert noisy is not None
    assert 1 <= exact.flattery < 1.1 < noisy.flattery


def test_too_few_layers() -> None:
    few = {replace(LAYER, in_height=size, in_width=size) for size in SIZES[:3]}
    assert Transfer.learn([r for r in records(1.0) if r.workload in few], SIMD) is None


def test_a_log_that_was_pruned_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The best three of each layer, and the untuned choice: no model is fitted to them."""
    monkeypatch.delattr(CostModel, "fit")
    found = records(1.0)
    kept = [
        trial
        for layer in dict.fromkeys(trial.workload for trial in found)
        for trial in [*ranked(found, layer)[:3], untuned_record(ranked(found, layer))]
        if trial is not None
    ]
    assert len(kept) > len(SIZES)
    assert Transfer.learn(kept, SIMD) is None
