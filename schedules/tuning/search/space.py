"""Every candidate for one task, over all algorithms that support it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from functools import cache, cached_property
from math import prod, sqrt
from random import Random
from typing import Any

from schedules.algorithms import REGISTRY, Unsupported
from schedules.kernel.knobs import Knobs
from schedules.kernel.packing import IN_PLACE
from schedules.layer.block import Workload
from schedules.plan.choice import Choice
from schedules.plan.plan import Plan
from schedules.plan.planner import NO_LIMITS, Limits, default_limits, exceeded, plan_kernel
from schedules.target.simd import Simd
from schedules.tuning.search.axes import Axis, axes

#: Forms that the planner's model takes for so many times slower than the best are no good start.
PROMISING = 2.0
#: Attempts at a combination of knobs that no rule excludes.
ATTEMPTS = 1000


class Space:
    """The candidates for ``workload`` on ``simd`` that are within ``limits``.

    Without a limit on the error, the planner's own applies: what it would never choose is not
    tried.

    Raises
    ------
    Unsupported
        If there is no candidate.
    """

    def __init__(self, workload: Workload, simd: Simd, limits: Limits = NO_LIMITS) -> None:
        self.workload, self.simd = workload, simd
        self.limits = default_limits(workload, limits)
        self._plans = self._find_starts()
        self._starts = list(self._plans)
        self._fits = cache(self._is_sensible)
        self._names = {start.algorithm: tuple(start.knobs) for start in self._starts}

    @property
    def default(self) -> Choice:
        """What is compiled untuned."""
        return self._starts[0]

    def starts(self) -> list[Choice]:
        """The untuned default, then that of every other promising form, the best first."""
        most = PROMISING * self.plan(self.default).cost
        return [start for start in self._starts if self.plan(start).cost <= most]

    def plan(self, candidate: Choice) -> Plan:
        """How ``candidate`` computes the workload; raises Unsupported if it cannot."""
        if candidate not in self._plans:
            self._plans[candidate] = Plan.of(candidate, self.workload, self.simd)
        return self._plans[candidate]

    def __iter__(self) -> Iterator[Choice]:
        """Every candidate, in an order that is always the same."""
        for algorithm, own in self._axes.items():
            for values in itertools.product(*(axis.values for axis in own)):
                candidate = self._candidate(algorithm, own, values)
                if self._fits(candidate):
                    yield candidate

    def sample(self, random: Random) -> Choice:
        """A random candidate: an algorithm, then its knobs."""
        for _ in range(ATTEMPTS):
            (algorithm,) = random.choices(list(self._axes), self._weights)
            axes = self._axes[algorithm]
            values = [random.choice(axis.values) for axis in axes]
            candidate = self._candidate(algorithm, axes, values)
            if self._fits(candidate):
                return candidate
        return self.default

    def mutate(self, candidate: Choice, random: Random) -> Choice:
        """``candidate`` with another value on one axis; now and then, as another algorithm."""
        axes = self._axes[candidate.algorithm]
        open_axes = [axis for axis in axes if len(axis.values) > 1]
        for _ in range(ATTEMPTS if open_axes else 0):
            axis = random.choice(open_axes)
            mutant = self._with(candidate, axis, random.choice(axis.values))
            if mutant != candidate and self._fits(mutant):
                return mutant
        return self.sample(random)

    def crossover(self, one: Choice, other: Choice, random: Random) -> Choice:
        """Each axis from one of two candidates; of different algorithms, either of them."""
        if one.algorithm != other.algorithm:
            return random.choice((one, other))
        child = one
        for axis in self._axes[one.algorithm]:
            if random.random() < 0.5:
                knobs = other.knobs
                child = self._with(child, axis, tuple(knobs[name] for name in axis.names))
        return child if self._fits(child) else one

    # How it is made up

    @cached_property
    def _weights(self) -> list[float]:
        """How often each algorithm is drawn: by the square root of its combinations.

        By their number, Winograd's many knobs would be four of five draws for a 3x3 layer, and what
        has few knobs would hardly be tried.
        """
        return [sqrt(prod(len(axis.values) for axis in own)) for own in self._axes.values()]

    @cached_property
    def _axes(self) -> dict[str, list[Axis]]:
        """The axes of every algorithm that is tried."""
        untuned: dict[str, list[Knobs]] = {}
        for start in self._starts:
            untuned.setdefault(start.algorithm, []).append(start.knobs)
        return {
            name: axes(
                REGISTRY.get(name).applied_to(self.workload).knobs(self.workload, self.simd), forms
            )
            for name, forms in untuned.items()
        }

    def _find_starts(self) -> dict[Choice, Plan]:
        """The default of every form of every algorithm, the untuned choice first."""
        default = plan_kernel(self.workload, self.simd, limits=self.limits)
        forms = self._forms(default.algorithm)
        plans = [default, *sorted(forms, key=lambda plan: plan.cost)]
        return {plan.choice: plan for plan in plans}

    def _forms(self, default: str) -> Iterator[Plan]:
        """Every form of every algorithm with a kernel of its own."""
        twins = {"dense": "indirect", "indirect": "dense"}
        for algorithm in REGISTRY.made_for(self.workload):
            name = algorithm.name
            for knobs in algorithm.forms(self.workload):
                # Only with weights in place do these two read them each in a way of its own.
                is_twin = twins.get(name) == default and knobs.get("weights") != IN_PLACE
                if is_twin or algorithm.applied_to(self.workload) is not algorithm:
                    continue
                try:
                    plan = Plan.of(Choice.of(name, knobs), self.workload, self.simd)
                except Unsupported:
                    continue
                if exceeded(plan, self.limits) is None:
                    yield plan

    def _is_sensible(self, candidate: Choice) -> bool:
        """Whether the values of several axes go together."""
        in_place = candidate.knobs.get("weights") == IN_PLACE
        if candidate.algorithm == "dense" and in_place and candidate not in self._starts:
            return False  # dot products have no register tile
        try:
            return exceeded(self.plan(candidate), self.limits) is None
        except Unsupported:
            return False

    def _candidate(self, algorithm: str, axes: list[Axis], values: Iterable[Any]) -> Choice:
        chosen: dict[str, Any] = {}
        for axis, together in zip(axes, values, strict=True):
            chosen.update(zip(axis.names, together, strict=True))
        return self._in_order(algorithm, chosen)

    def _with(self, candidate: Choice, axis: Axis, values: tuple[Any, ...]) -> Choice:
        changed = dict(zip(axis.names, values, strict=True))
        return self._in_order(candidate.algorithm, {**candidate.knobs, **changed})

    def _in_order(self, algorithm: str, knobs: Mapping[str, Any]) -> Choice:
        """Knobs in the algorithm's order, so that equal candidates are equal."""
        return Choice.of(algorithm, {name: knobs[name] for name in self._names[algorithm]})
