"""Searches that make new candidates of good ones, by mutation and crossover."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from random import Random
from typing import Any

from schedules.plan.choice import Choice
from schedules.tuning.search.cost_model import CostModel
from schedules.tuning.search.proposals import Search
from schedules.tuning.search.space import Space

#: Part of the children that have two parents, where the rest are mutants of one.
CROSSOVER = 0.3
#: Part of the first trials that are random.
RANDOM_FOUNDERS = 0.25
#: How the names of the knobs of register tiles end.
TILE_KNOBS = ("rows", "columns", "panel")
#: Children for each that is asked for: some are known already.
SURPLUS = 10


class EvolutionarySearch(Search):
    """Makes children of candidates, better ones more often."""

    def _founders(self, count: int, random: Random) -> Iterator[Choice]:
        """The defaults of all promising algorithms, then mutants of these, and a few random ones.

        Untuned choices are good ones: near them, a few trials teach more than anywhere else.
        """
        starts = self.space.starts()
        yield from starts
        for _ in range(SURPLUS * count):
            if random.random() < RANDOM_FOUNDERS:
                yield self.space.sample(random)
            else:
                yield self.space.mutate(random.choice(starts), random)

    def _children(self, ranked: Sequence[Choice], random: Random) -> Iterator[Choice]:
        """Without end; ``ranked`` are possible parents, the best first."""
        while True:
            child = self._parent(ranked, random)
            if random.random() < CROSSOVER:
                child = self.space.crossover(child, self._parent(ranked, random), random)
            else:
                child = self.space.mutate(child, random)
            yield child

    @staticmethod
    def _parent(ranked: Sequence[Choice], random: Random) -> Choice:
        """The better of two: a tournament."""
        return ranked[min(random.randrange(len(ranked)) for _ in range(2))]

    def _fastest(self, most: int) -> list[Choice]:
        """The best measured so far, fastest first."""
        working = [candidate for candidate, cost in self.costs.items() if math.isfinite(cost)]
        return sorted(working, key=self.costs.__getitem__)[:most]


class GeneticSearch(EvolutionarySearch):
    """Children of what was measured to be fast."""

    #: Trials before there are enough to choose parents from, and how many of these are parents.
    FOUNDERS, PARENTS = 16, 16

    def _ideas(self, count: int, random: Random) -> Iterator[Choice]:
        parents = self._fastest(self.PARENTS)
        if len(self.costs) < self.FOUNDERS or not parents:
            yield from self._founders(count, random)
        else:
            yield from islice(self._children(parents, random), SURPLUS * count)
        yield from self._samples(random)


class GuidedSearch(EvolutionarySearch):
    """Children, grandchildren and so on of what is fast by the model, a few random ones among them.

    Only the best of all of these are measured, and of different register tiles rather than of one:
    a tile decides most of the time, the other knobs little. Picking for speed and for variety is
    that of "Learning to Optimize Tensor Programs" (Chen et al., NeurIPS 2018).
    """

    #: Where evolution begins: random candidates, and the best measured ones.
    RANDOM, BEST = 64, 16
    GENERATIONS, CHILDREN, PARENTS = 4, 64, 32
    #: Part of the proposals that are random.
    EXPLORE = 0.1
    #: By how much a tile that was tried before has to be faster to be tried again.
    TRIED = 0.05

    def __init__(self, space: Space, seed: int, model: CostModel) -> None:
        super().__init__(space, seed)
        self.model = model

    def _ideas(self, count: int, random: Random) -> Iterator[Choice]:
        samples = self._samples(random)
        if self.model.is_fitted:
            for candidate in self._varied(self._evolved(random)):
                if random.random() < self.EXPLORE:
                    yield next(samples, candidate)
                yield candidate
        else:
            yield from self._founders(count, random)
        yield from samples

    def _evolved(self, random: Random) -> dict[Choice, float]:
        """New candidates, and the logarithms of their times by the model."""
        times: dict[Choice, float] = {}

        def rank(candidates: Iterable[Choice]) -> list[Choice]:
            new = [c for c in dict.fromkeys(candidates) if c not in times]
            predicted = self.model.predict([self.space.plan(c) for c in new])
            times.update(zip(new, predicted.tolist(), strict=True))
            return sorted(times, key=times.__getitem__)

        samples = [self.space.sample(random) for _ in range(self.RANDOM)]
        ranked = rank([*self.space.starts(), *self._fastest(self.BEST), *samples])
        for _ in range(self.GENERATIONS):
            children = self._children(ranked[: self.PARENTS], random)
            ranked = rank(islice(children, self.CHILDREN))
        return {candidate: times[candidate] for candidate in ranked if candidate not in self.seen}

    def _varied(self, times: dict[Choice, float]) -> Iterator[Choice]:
        """The fastest first, but rather of tiles that were seldom tried."""
        measured = Counter(map(register_tile, self.costs))
        tried = defaultdict(float, {tile: math.log1p(n) for tile, n in measured.items()})
        while times:
            candidate = min(times, key=lambda c: times[c] + self.TRIED * tried[register_tile(c)])
            del times[candidate]
            tried[register_tile(candidate)] += 1
            yield candidate


def register_tile(candidate: Choice) -> tuple[Any, ...]:
    """The knobs that make up the tile, or those of a block: rows, columns and panels."""
    tile = (setting for setting in candidate.settings if setting[0].endswith(TILE_KNOBS))
    return candidate.algorithm, *tile
