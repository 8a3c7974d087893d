"""Searches that make new candidates of good ones, by mutation and crossover."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import chain
from random import Random

from schedules.tuning.candidate import Candidate
from schedules.tuning.cost_model import CostModel
from schedules.tuning.proposals import Search
from schedules.tuning.space import Space

#: Part of the children that have two parents, where the rest are mutants of one.
CROSSOVER = 0.3


class EvolutionarySearch(Search):
    """Makes children of candidates, better ones more often."""

    def children(self, ranked: Sequence[Candidate], random: Random) -> Iterator[Candidate]:
        """Without end; ``ranked`` are possible parents, the best first."""
        while True:
            child = self._parent(ranked, random)
            if random.random() < CROSSOVER:
                child = self.space.crossover(child, self._parent(ranked, random), random)
            else:
                child = self.space.mutate(child, random)
            yield child

    @staticmethod
    def _parent(ranked: Sequence[Candidate], random: Random) -> Candidate:
        """The better of two: a tournament."""
        return ranked[min(random.randrange(len(ranked)) for _ in range(2))]

    def measured(self, most: int) -> list[Candidate]:
        """The best so far, fastest first."""
        working = [candidate for candidate, cost in self.costs.items() if math.isfinite(cost)]
        return sorted(working, key=self.costs.__getitem__)[:most]


class GeneticSearch(EvolutionarySearch):
    """Children of what was measured to be fast.

    Before there are enough to choose parents from, the defaults of all algorithms, and random ones.
    """

    FOUNDERS = 16
    PARENTS = 16

    def _ideas(self, count: int, random: Random) -> Iterator[Candidate]:
        yield from self.space.starts()
        parents = self.measured(self.PARENTS)
        if len(self.costs) >= self.FOUNDERS and parents:
            children = self.children(parents, random)
            yield from (next(children) for _ in range(10 * count))
        yield from self._samples(random)


class GuidedSearch(EvolutionarySearch):
    """Children, grandchildren and so on of what is fast by the model, a few random ones among them.

    Only the best of all of these are measured. Before the model has learned anything, it is the
    defaults of all algorithms, and random ones.
    """

    #: Random candidates to begin with, and the best measured ones.
    RANDOM, BEST = 64, 16
    GENERATIONS, CHILDREN, PARENTS = 4, 64, 32
    #: Part of the proposals that are random.
    EXPLORE = 0.1

    def __init__(self, space: Space, seed: int, model: CostModel) -> None:
        super().__init__(space, seed)
        self.model = model

    def _ideas(self, count: int, random: Random) -> Iterator[Candidate]:
        if not self.model.is_fitted:
            yield from chain(self.space.starts(), self._samples(random))
            return
        samples = self._samples(random)
        for candidate in self._evolved(random):
            if random.random() < self.EXPLORE:
                yield next(samples, candidate)
            yield candidate
        yield from samples

    def _evolved(self, random: Random) -> list[Candidate]:
        """New candidates, those first that are fastest by the model."""
        times: dict[Candidate, float] = {}

        def rank(candidates: Sequence[Candidate]) -> list[Candidate]:
            new = [c for c in dict.fromkeys(candidates) if c not in times]
            predicted = self.model.predict([self.space.plan(c) for c in new])
            times.update(zip(new, predicted.tolist(), strict=True))
            return sorted(times, key=times.__getitem__)

        samples = [self.space.sample(random) for _ in range(self.RANDOM)]
        ranked = rank([*self.space.starts(), *self.measured(self.BEST), *samples])
        for _ in range(self.GENERATIONS):
            children = self.children(ranked[: self.PARENTS], random)
            ranked = rank([next(children) for _ in range(self.CHILDREN)])
        return [candidate for candidate in ranked if candidate not in self.seen]
