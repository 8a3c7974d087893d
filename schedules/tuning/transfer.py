"""What the records of other layers promise for one that was never measured.

The first of many candidates by a model's ranking is one that the model flatters. By how much, the
layers on record tell: each is left out once, and what a model of the others ranks first of its
candidates is compared with what it truly takes. Promises are believed but for that much. Layers of
which only good candidates are on record, as of a log that was pruned, tell nothing about that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from schedules.layer.block import Workload
from schedules.plan.choice import Choice
from schedules.plan.plan import Plan
from schedules.plan.planner import plan_kernel
from schedules.target.simd import Simd
from schedules.tuning.records.records import Record, by_workload, ranked
from schedules.tuning.search.cost_model import CostModel

#: Models that each leave out a part of the layers.
FOLDS = 5
#: Layers that have to be checked before anything is believed.
MIN_LAYERS = 4
#: And each of them has so many candidates that take more than so many times as long as its best.
MIN_SLOW, SLOW = 8, 1.25
#: Percentage of promises that were less flattered than what is allowed for.
CONFIDENCE = 75


@dataclass(frozen=True)
class Transfer:
    """A model of all layers on record, and how many times too good its promises are."""

    model: CostModel
    flattery: float

    @classmethod
    def learn(cls, records: Sequence[Record], simd: Simd) -> Transfer | None:
        """From records of one board; ``None`` if they are too few to learn from."""
        by_layer = {
            layer: costs
            for layer, own in by_workload(records).items()
            if len(layer.layers) == 1 and _tells(costs := _costs(own))
        }
        if len(by_layer) < MIN_LAYERS:
            return None  # before models are fitted, which takes seconds
        model = CostModel(simd)
        checks = []
        for fold in range(FOLDS):
            left_out = list(by_layer)[fold::FOLDS]
            model.fit(record for record in records if record.workload not in left_out)
            if model.is_fitted:
                checks += [_flattery(model, by_layer[layer], layer, simd) for layer in left_out]
        known = [check for check in checks if check is not None]
        model.fit(records)
        if not model.is_fitted or len(known) < MIN_LAYERS:
            return None
        return cls(model, max(1.0, float(np.percentile(known, CONFIDENCE))))

    def best(self, default: Plan, plans: Sequence[Plan]) -> tuple[Plan, float] | None:
        """The plan that promises most, and the part of ``default``'s time that it promises.

        ``None`` if that may well be slower than ``default``.
        """
        plan, promise = _first(self.model, default, [default, *plans])
        return (plan, promise) if promise * self.flattery < 1 else None


def _first(model: CostModel, default: Plan, plans: Sequence[Plan]) -> tuple[Plan, float]:
    untuned, *times = np.exp(model.predict([default, *plans])).tolist()
    best = min(range(len(plans)), key=times.__getitem__)
    return plans[best], times[best] / untuned


def _costs(records: Sequence[Record]) -> dict[Choice, float]:
    """Seconds of each candidate of a layer."""
    return {record.candidate: record.cost_s for record in ranked(records)}


def _tells(costs: Mapping[Choice, float]) -> bool:
    """Whether a layer tells how far promises are to be believed: it has slow candidates too."""
    best = min(costs.values(), default=0.0)
    return sum(cost > SLOW * best for cost in costs.values()) >= MIN_SLOW


def _flattery(
    model: CostModel, costs: Mapping[Choice, float], layer: Workload, simd: Simd
) -> float | None:
    """Time over promised time of what ``model`` ranks first of a layer's candidates.

    ``None`` if it promises nothing, or the untuned choice was not measured.
    """
    untuned = plan_kernel(layer, simd).choice
    if untuned not in costs:
        return None
    plans = [Plan.of(candidate, layer, simd) for candidate in costs]
    plan, promise = _first(model, Plan.of(untuned, layer, simd), plans)
    if promise >= 1:
        return None
    return costs[plan.choice] / costs[untuned] / promise
