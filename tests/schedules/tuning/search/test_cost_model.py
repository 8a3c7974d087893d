from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TypeAlias

import numpy as np
import pytest

from schedules.layer.block import workload_from_text
from schedules.plan.choice import Choice
from schedules.target.simd import Simd
from schedules.tuning.records.record import Record
from schedules.tuning.search.cost_model import MIN_RECORDS, CostModel
from schedules.tuning.search.space import Space
from tests.support.records import record

#: Seconds, or ``None`` for what fails.
Cost: TypeAlias = Callable[[Space, Choice], "float | None"]
SIMD = Simd.named("x86-64-v4")
LAYERS = ("56x56x64->64 k1x1 relu", "28x28x128->64 k1x1", "14x14x256->256 k1x1 relu6")


def seconds(space: Space, candidate: Choice) -> float:
    """Fewer sums than eight are slow, and so is a tile that is wide."""
    knobs = candidate.knobs
    sums = knobs["columns"] * knobs["panel"] / 16
    factor = 1 + 2 / min(sums, 8) + 0.1 * knobs["columns"] + 0.3 * (knobs.get("k_block", 1) > 1)
    return space.workload.macs * 1e-11 * factor


def space_of(text: str) -> Space:
    return Space(workload_from_text(text), SIMD)


def records_of(space: Space, count: int, cost: Cost = seconds) -> list[Record]:
    random = Random(1)
    candidates = dict.fromkeys([space.default, *(space.sample(random) for _ in range(count))])
    return [record(cost(space, c), workload=space.workload, candidate=c) for c in candidates]


def predicted(records: list[Record], space: Space) -> np.ndarray:
    model = CostModel(SIMD)
    model.fit(records)
    return model.predict([space.plan(candidate) for candidate in space])


def rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.corrcoef(one.argsort().argsort(), other.argsort().argsort())[0, 1])


def test_it_ranks_a_layer_that_it_has_never_seen() -> None:
    records = [r for text in LAYERS[:2] for r in records_of(space_of(text), 40)]
    unseen = space_of(LAYERS[2])
    predictions = predicted(records, unseen)
    actual = np.array([seconds(unseen, candidate) for candidate in unseen])
    assert predictions.dtype == np.float64
    assert rank_correlation(predictions, actual) > 0.8


def test_labels_are_relative_to_the_untuned_default() -> None:
    space = space_of(LAYERS[0])
    records = records_of(space, 60)
    model = CostModel(SIMD)
    model.fit(records)
    (default,) = model.predict([space.plan(space.default)])
    assert default == pytest.approx(0, abs=0.1)


def test_no_layer_counts_more_because_it_takes_longer() -> None:
    spaces = [space_of(text) for text in LAYERS[:2]]
    slow = [
        *records_of(spaces[0], 40),
        *records_of(spaces[1], 40, lambda *of: 1000 * seconds(*of)),
    ]
    equal = [r for space in spaces for r in records_of(space, 40)]
    assert predicted(slow, spaces[0]) == pytest.approx(predicted(equal, spaces[0]), abs=1e-3)


def test_a_layer_whose_default_failed_teaches_all_the_same() -> None:
    spaces = [space_of(text) for text in LAYERS[:2]]
    _, *rest = records_of(spaces[1], 40)
    failed = record(None, workload=spaces[1].workload, candidate=spaces[1].default)
    complete = [r for space in spaces for r in records_of(space, 40)]
    without = predicted([*records_of(spaces[0], 40), failed, *rest], spaces[1])
    assert rank_correlation(without, predicted(complete, spaces[1])) > 0.8


def test_what_fails_is_expected_to_be_slow() -> None:
    space = space_of(LAYERS[0])

    def cost(space: Space, candidate: Choice) -> float | None:
        return None if candidate.algorithm == "dense" else seconds(space, candidate)

    predictions = predicted(records_of(space, 60, cost), space)
    dense = np.array([candidate.algorithm == "dense" for candidate in space])
    assert predictions[dense].min() > np.median(predictions[~dense])


def test_the_same_records_make_the_same_model() -> None:
    space = space_of(LAYERS[0])
    records = records_of(space, 30)
    assert (predicted(records, space) == predicted(records, space)).all()


def test_a_few_records_teach_nothing() -> None:
    space, model = space_of(LAYERS[0]), CostModel(SIMD)
    records = records_of(space, 30)
    model.fit(records[: MIN_RECORDS - 1])
    assert not model.is_fitted
    model.fit(records[:MIN_RECORDS])
    assert model.is_fitted
    model.fit(record(None, workload=space.workload, candidate=r.candidate) for r in records)
    assert not model.is_fitted
