"""What every search does, and the two that learn nothing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from itertools import chain
from random import Random

from schedules.plan.choice import Choice
from schedules.tuning.records.record import Record
from schedules.tuning.search.space import Space

#: Random candidates in a row that are all known already, before the space is counted through.
MOST_KNOWN = 100


class Search(ABC):
    """Proposes candidates of one space to be measured, each of them once.

    The first is the untuned default, with which everything is compared. What comes next depends on
    nothing but the seed and the records: a search that goes on from a log proposes what it would
    have proposed without the interruption.
    """

    def __init__(self, space: Space, seed: int) -> None:
        self.space, self.seed = space, seed
        #: Costs of what was measured, in seconds; infinite if it failed.
        self.costs: dict[Choice, float] = {}
        #: All that needs no measuring: recorded, or proposed.
        self.seen: dict[Choice, None] = {}

    def update(self, records: Iterable[Record]) -> None:
        """Take in what was measured; records of other workloads are passed over."""
        for record in records:
            if record.workload == self.space.workload:
                self.costs[record.candidate] = record.cost_s
                self.seen[record.candidate] = None

    def propose(self, count: int) -> list[Choice]:
        """``count`` new candidates, the most promising first; fewer if there are no more."""
        random = Random(f"{self.seed} {len(self.seen)}")
        chosen: list[Choice] = []
        for candidate in chain(
            [self.space.default], self._ideas(count, random), self._rest(random)
        ):
            if len(chosen) == count:
                break
            if candidate not in self.seen:
                self.seen[candidate] = None
                chosen.append(candidate)
        return chosen

    @abstractmethod
    def _ideas(self, count: int, random: Random) -> Iterator[Choice]:
        """Candidates to be measured next if they are new; ``count`` of them are asked for."""

    def _samples(self, random: Random) -> Iterator[Choice]:
        """Random candidates that are new, until these are hard to find."""
        fruitless = 0
        while fruitless < MOST_KNOWN:
            candidate = self.space.sample(random)
            fruitless = fruitless + 1 if candidate in self.seen else 0
            yield candidate

    def _rest(self, random: Random) -> Iterator[Choice]:
        """All that is left, in random order."""
        rest = [candidate for candidate in self.space if candidate not in self.seen]
        random.shuffle(rest)
        yield from rest


class RandomSearch(Search):
    """One random candidate after another."""

    def _ideas(self, count: int, random: Random) -> Iterator[Choice]:
        return self._samples(random)


class GridSearch(Search):
    """Every candidate, in the space's order."""

    def _ideas(self, count: int, random: Random) -> Iterator[Choice]:
        return iter(self.space)
