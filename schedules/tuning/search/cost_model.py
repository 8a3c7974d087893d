"""A model of one board: how long candidates take, learned from what was measured on it.

Gradient-boosted trees (Chen and Guestrin, "XGBoost", KDD 2016) on :mod:`features`, as in "Learning
to Optimize Tensor Programs" (Chen et al., NeurIPS 2018). They learn the logarithm of a candidate's
time over that of the layer's untuned default, so that every layer teaches the others.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from schedules.errors import LeanconvError
from schedules.interrupts import interrupts_deferred
from schedules.layer.block import Workload
from schedules.plan.choice import Choice
from schedules.plan.plan import Plan
from schedules.plan.planner import plan_kernel
from schedules.target.simd import Simd
from schedules.tuning.records.record import Record
from schedules.tuning.search.features import ABSENT, features

#: Records that teach anything.
MIN_RECORDS = 8
#: What failed is learned as so many times slower than the slowest of its layer.
FAILED = 2.0
ROUNDS = 100
PARAMETERS = {
    "objective": "reg:squarederror",
    "tree_method": "hist",
    "max_depth": 6,
    "eta": 0.1,
    "subsample": 0.8,
    "colsample_bytree": 0.8,
    "nthread": 1,  # as fast as two for so few rows, and always the same sums
    "verbosity": 0,
}


class CostModel:
    """Predicts times of candidates on one board.

    What it is fitted to has one target and one kind of costs; the caller sees to that.
    """

    def __init__(self, simd: Simd, seed: int = 0) -> None:
        self.simd, self.seed = simd, seed
        self._rows: dict[tuple[Workload, Choice], dict[str, float] | None] = {}
        self._defaults: dict[Workload, Choice] = {}
        self._trees: Any = None  # xgboost.Booster
        self._names: tuple[str, ...] = ()  # of the features that it has learned from

    @property
    def is_fitted(self) -> bool:
        """Whether it has seen enough to predict anything."""
        return self._trees is not None

    def fit(self, records: Iterable[Record]) -> None:
        """Learn from ``records``, and forget what it knew.

        Of a candidate that was measured again, the last record counts. Candidates that failed count
        as slower than all others of their layer. A layer of which nothing was measured teaches
        nothing, and so does a candidate that its algorithm no longer has.
        """
        by_workload: dict[Workload, dict[Choice, float]] = {}
        for record in records:
            if not record.is_lost:
                by_workload.setdefault(record.workload, {})[record.candidate] = record.cost_s
        rows, labels = [], []
        for workload, reference in self._references(by_workload).items():
            costs = by_workload[workload]
            failed = FAILED * max(filter(math.isfinite, costs.values()))
            for candidate, cost in costs.items():
                row = self._row(workload, candidate)
                if row is not None:
                    rows.append(row)
                    labels.append(math.log(min(cost, failed) / reference))
        self._trees = None
        if len(rows) >= MIN_RECORDS:
            # Few who come here have records, and it takes a sixth of a second. Within such an
            # import, an interrupt would end the process as if nobody had caught it.
            with interrupts_deferred():
                import xgboost

            self._names = tuple(dict.fromkeys(name for row in rows for name in row))
            data = xgboost.DMatrix(self._matrix(rows), label=np.array(labels))
            self._trees = xgboost.train({**PARAMETERS, "seed": self.seed}, data, ROUNDS)

    def predict(self, plans: Sequence[Plan], simd: Simd | None = None) -> np.ndarray:
        """``log(time / time of the layer's untuned default)`` of each plan, float64.

        On ``simd``, by default what it was made for; what else it learned from is its own.
        """
        assert self._trees is not None, "fit it to enough records first"
        if not plans:
            return np.zeros(0)
        rows = self._matrix([features(plan, simd or self.simd) for plan in plans])
        return self._trees.inplace_predict(rows).astype(np.float64)

    def _matrix(self, rows: Sequence[Mapping[str, float]]) -> np.ndarray:
        values = [[row.get(name, ABSENT) for name in self._names] for row in rows]
        return np.array(values, np.float32)

    def _references(
        self, by_workload: Mapping[Workload, Mapping[Choice, float]]
    ) -> dict[Workload, float]:
        """Seconds of the untuned default of each layer of which anything was measured.

        Where it was not, as it failed or is beyond a limit that the user has set, it is estimated:
        as many times the layer's best as it is elsewhere.
        """
        best, references = {}, {}
        for workload, costs in by_workload.items():
            fastest = min(costs.values())
            if math.isfinite(fastest):
                best[workload] = fastest
                untuned = costs.get(self._default(workload), math.inf)
                if math.isfinite(untuned):
                    references[workload] = untuned
        known = [untuned / best[workload] for workload, untuned in references.items()]
        ratio = statistics.median(known) if known else 1.0
        return {workload: references.get(workload, ratio * best[workload]) for workload in best}

    def _default(self, workload: Workload) -> Choice:
        if workload not in self._defaults:
            self._defaults[workload] = plan_kernel(workload, self.simd).choice
        return self._defaults[workload]

    def _row(self, workload: Workload, candidate: Choice) -> dict[str, float] | None:
        """Features; ``None`` for knobs that there are no longer."""
        key = workload, candidate
        if key not in self._rows:
            try:
                plan = Plan.of(candidate, workload, self.simd)
            except LeanconvError:  # Unsupported, or no such algorithm
                self._rows[key] = None
            else:
                self._rows[key] = features(plan, self.simd)
        return self._rows[key]
