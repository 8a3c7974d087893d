"""The fastest plan within a limit, and every plan worth having: exact, by merging Pareto sets.

The problem::

    minimise    the sum of costs
    subject to  A + the sum of weights <= limit,
                A >= live(u) + workspace(f) for every chosen unit u and form f,
                the sum of bytes in files <= a limit of their own, if there is one

The arena A takes only values ``live + workspace``, some dozens. For one of them, what fits is
known, and what is left is a multiple-choice knapsack along a path: units cover layers in their
order. From boundary to boundary between layers, the solver keeps the sums of bytes and cost that
no others beat (Kellerer, Pferschy and Pisinger, Knapsack Problems, 2004, section 11.5). All
sums are of integers.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from schedules.budget.problem import Form, Problem, Solution, Unit

#: Of partial sums up to a boundary between layers: which may become part of a solution.
Promising = Callable[[int, "_Table"], np.ndarray]

#: Steps in which a bound's multiplier is looked for: it takes some five.
STEPS = 40
#: Picoseconds a byte: no weights are worth more.
MOST_PER_BYTE = 1e9
#: How far sums of floats are off at most, as a share.
ROUNDING = 1e-9
#: Of the least time: in ever smaller steps, good plans are looked for before the best one is.
COST_STEPS = (1e-3, 1e-4, 1e-5, 0.0)


@dataclass(frozen=True)
class _Option:
    """A form of a unit that ends at some layer.

    ``need`` is the arena that it asks for, ``file`` its bytes in files if these count.
    """

    need: int
    file: int
    unit: Unit
    form: Form


class Solver:
    """Solves one problem for any number of limits; ``file_limit`` is one on bytes in files."""

    def __init__(self, problem: Problem, file_limit: int | None = None) -> None:
        self._layers, self._floor = problem.layers, problem.floor
        self._file_limit = math.inf if file_limit is None else file_limit
        #: By the last layer.
        self._options: list[list[_Option]] = [[] for _ in range(problem.layers)]
        for unit in problem.units:
            for form in unit.forms:
                file = 0 if file_limit is None else form.file
                option = _Option(unit.need(form), file, unit, form)
                self._options[unit.last].append(option)
        for options in self._options:
            options.sort(key=lambda o: (o.unit.first, o.form.weights, o.form.cost, o.file))
        least = self._least_arena()
        needs = {option.need for options in self._options for option in options}
        #: What the arena may be, from the least on; empty if some layer is in no unit.
        self._arenas = [] if least is None else sorted({max(need, least) for need in needs})
        if least is not None and not self._arenas:
            self._arenas = [least]

    def solve(self, limit: int) -> Solution | None:
        """The fastest plan that holds at most ``limit`` bytes, of equals one with the fewest.

        ``None`` if there is none. Arenas are tried from the most promising on, and those whose
        bound is no better than what was found are not tried at all.
        """
        found = (self._fitting(arena) for arena in self._arenas if arena <= limit)
        bounds = [bound for fitting in found if (bound := _bound(fitting, limit)) is not None]
        best: Solution | None = None
        for bound in sorted(bounds, key=lambda bound: (bound.cost, bound.fitting.arena)):
            if best is not None and bound.cost > best.cost:
                break
            # With a plan that is nearly the best, most partial sums are no longer promising.
            for share in COST_STEPS:
                most = math.inf if best is None else best.cost
                step = int(share * bound.cost)
                frontier = self._frontier(bound.fitting, bound.below(most), step)
                if len(frontier.cost) and frontier.cost[-1] <= most:
                    fastest = frontier.solution(len(frontier.cost) - 1)
                    best = min((fastest, best or fastest), key=_key)
        return best

    def curve(self, resolution: float = 0.0) -> list[Solution]:
        """Every plan that no other beats in bytes and time, those with the fewest bytes first.

        With a ``resolution``, of partial plans whose times differ by less than that share of the
        fastest plan's only one with the fewest bytes is gone on with, and the fastest of all: there
        may be a hundred thousand that differ in nothing that can be measured.
        """
        found = _Found.nothing()
        step = self._step(resolution)
        for before, arena in zip([-1, *self._arenas], self._arenas, strict=False):
            fitting = self._fitting(arena)
            if not found.may_gain(fitting, before):
                continue

            def promising(
                boundary: int, table: _Table, found: _Found = found, fitting: _Fitting = fitting
            ) -> np.ndarray:
                held = fitting.arena + table.weights + int(fitting.weights[boundary])
                return found.do_not_beat(held, table.cost + int(fitting.cost[boundary]))

            found = found.joined(self._frontier(fitting, promising, step))
        return found.solutions()

    def _step(self, resolution: float) -> int:
        """The share of the fastest plan's time, in picoseconds."""
        if not resolution or not self._arenas:
            return 0
        return max(int(resolution * self._fitting(self._arenas[-1]).cost[0]), 1)

    # One arena

    def _least_arena(self) -> int | None:
        """The smallest arena in which every layer can be computed."""
        least: list[float] = [self._floor] + [math.inf] * self._layers
        for last, options in enumerate(self._options):
            reached = (max(option.need, least[option.unit.first]) for option in options)
            least[last + 1] = min(reached, default=math.inf)
        return None if math.isinf(least[-1]) else int(least[-1])

    def _fitting(self, arena: int) -> _Fitting:
        """The options that fit, by the last layer; of each unit those that no other beats."""
        fitting = []
        for options in self._options:
            kept: list[_Option] = []
            for option in options:
                if option.need <= arena and not any(_beats(other, option) for other in kept):
                    kept.append(option)
            fitting.append(kept)
        return _Fitting(arena, fitting)

    def _frontier(self, fitting: _Fitting, promising: Promising, step: int) -> _Frontier:
        """The solutions for one arena that no other beats, those with the fewest weights first."""
        tables = [_Table.start()]
        for boundary, options in enumerate(fitting.options, start=1):
            table = _Table.reached(tables, options)
            if len(table.cost) and math.isfinite(fitting.cost[boundary]):
                kept = promising(boundary, table)
                if math.isfinite(self._file_limit):
                    kept &= table.file + fitting.file[boundary] <= self._file_limit
                table = table.only(np.flatnonzero(kept))
                # In the end it does not matter by how much files keep their limit.
                file = table.file if boundary < self._layers else np.zeros_like(table.file)
                table = table.only(_undominated(table.weights, table.cost, file))
                if step and (table.file == table.file[:1]).all():
                    table = table.only(_thinned(table.cost, step))
            else:
                table = table.only(np.zeros(0, np.int64))
            tables.append(table)
        return _Frontier(fitting, tables, self._floor)


class _Fitting:
    """The options that fit into one ``arena``, by their last layer.

    At each boundary, ``weights``, ``cost`` and ``file`` are the least sums of what follows,
    infinite if nothing does.
    """

    def __init__(self, arena: int, options: list[list[_Option]]) -> None:
        self.arena, self.options = arena, options
        self.weights = self.rest(lambda option: option.form.weights)
        self.cost = self.rest(lambda option: option.form.cost)
        self.file = self.rest(lambda option: option.file)

    def rest(self, value: Callable[[_Option], float]) -> list[float]:
        """At each boundary the least sum of ``value`` over what follows."""
        layers = len(self.options)
        rest = [math.inf] * layers + [0.0]
        for last in range(layers - 1, -1, -1):
            for option in self.options[last]:
                first = option.unit.first
                rest[first] = min(rest[first], rest[last + 1] + value(option))
        return rest

    def least_through(self, arena: int, value: Callable[[_Option], float]) -> list[float]:
        """The least sum of ``value`` over a path with each option that needs more than ``arena``.

        Infinite if there is no such path.
        """
        rest, reached = self.rest(value), [0.0] + [math.inf] * len(self.options)
        found = []
        for last, options in enumerate(self.options, start=1):
            for option in options:
                total = reached[option.unit.first] + value(option)
                reached[last] = min(reached[last], total)
                if option.need > arena:
                    found.append(total + rest[last])
        return found

    def cheapest(self, multiplier: float) -> tuple[float, float]:
        """Cost and weights of a path with the least ``cost + multiplier weights``."""
        layers = len(self.options)
        value = [0.0] + [math.inf] * layers
        sums = [(0.0, 0.0)] * (layers + 1)
        for last, options in enumerate(self.options, start=1):
            for option in options:
                form, (cost, weights) = option.form, sums[option.unit.first]
                total = value[option.unit.first] + form.cost + multiplier * form.weights
                if total < value[last]:
                    value[last] = total
                    sums[last] = cost + form.cost, weights + form.weights
        return sums[layers]


@dataclass(frozen=True)
class _Bound:
    """No plan in this arena whose weights take at most ``room`` costs less than ``cost``.

    ``multiplier`` is what a byte costs there: with that price on weights instead of the limit, the
    cheapest plan costs as much (the Lagrangian dual).
    """

    fitting: _Fitting
    room: int
    multiplier: float
    cost: float

    def below(self, most: float) -> Promising:
        """The partial sums that a plan within the limit may begin with which costs no more."""
        fitting, price, room = self.fitting, self.multiplier, self.room
        rest = fitting.rest(lambda option: option.form.cost + price * option.form.weights)
        slack = ROUNDING * (rest[0] + price * room)

        def promising(boundary: int, table: _Table) -> np.ndarray:
            priced = table.cost + price * (table.weights - room) + rest[boundary]
            return (table.weights + fitting.weights[boundary] <= room) & (priced <= most + slack)

        return promising


def _bound(fitting: _Fitting, limit: int) -> _Bound | None:
    """The best bound; ``None`` if nothing fits.

    What a byte may cost lies between two prices: at the lower one, the cheapest plan is too large,
    at the higher one it is not. Where both cost the same, there may be a third that is cheaper.
    """
    room = limit - fitting.arena
    if fitting.weights[0] > room:
        return None
    large, small = fitting.cheapest(0.0), fitting.cheapest(MOST_PER_BYTE)
    price = 0.0
    if large[1] > room:
        for _ in range(STEPS):
            price = (small[0] - large[0]) / max(large[1] - small[1], 1)
            found = fitting.cheapest(price)
            if _priced(found, price) >= _priced(large, price) * (1 - ROUNDING):
                break
            large, small = (found, small) if found[1] > room else (large, found)
    cost = _priced(fitting.cheapest(price), price) - price * room
    return _Bound(fitting, room, price, cost - ROUNDING * (abs(cost) + price * room))


def _priced(sums: tuple[float, float], price: float) -> float:
    cost, weights = sums
    return cost + price * weights


@dataclass(frozen=True)
class _Frontier:
    """The plans for one arena that no other beats, those with the fewest weights first.

    ``tables`` are the sums at each boundary.
    """

    fitting: _Fitting
    tables: list[_Table]
    floor: int

    @property
    def cost(self) -> np.ndarray:
        """Of each plan."""
        return self.tables[-1].cost

    @property
    def bytes(self) -> np.ndarray:
        """Of each plan, if it needs the whole arena."""
        return self.fitting.arena + self.tables[-1].weights

    def solution(self, place: int) -> Solution:
        """One of the plans."""
        chosen: list[_Option] = []
        boundary, end = len(self.tables) - 1, place
        while boundary:
            table = self.tables[boundary]
            option = self.fitting.options[boundary - 1][table.option[place]]
            chosen.append(option)
            boundary, place = option.unit.first, table.before[place]
        last = self.tables[-1]
        return Solution(
            cost=int(last.cost[end]),
            arena=max([self.floor, *(option.need for option in chosen)]),
            weights=int(last.weights[end]),
            file=sum(option.form.file for option in chosen),
            chosen=tuple((option.unit, option.form) for option in reversed(chosen)),
        )


@dataclass(frozen=True)
class _Found:
    """The plans of some arenas that no other beats: rising ``bytes``, falling ``cost``.

    Each is one of a frontier's.
    """

    bytes: np.ndarray
    cost: np.ndarray
    plans: list[tuple[_Frontier, int]]

    @classmethod
    def nothing(cls) -> _Found:
        return cls(np.zeros(0, np.int64), np.zeros(0, np.int64), [])

    def do_not_beat(self, held: np.ndarray, cost: np.ndarray) -> np.ndarray:
        """Which of plans that hold and cost so much these do not beat."""
        if not self.plans:
            return np.ones(len(cost), bool)
        # The fastest of what is known to hold no more.
        place = np.searchsorted(self.bytes, held, side="right") - 1
        return (place < 0) | (self.cost[place] > cost)

    def may_gain(self, fitting: _Fitting, before: int) -> bool:
        """Whether an arena may have plans that these do not beat.

        Plans without a form that needs more than the arena ``before`` have been found in that one.
        """
        weights = fitting.least_through(before, lambda option: option.form.weights)
        cost = fitting.least_through(before, lambda option: option.form.cost)
        held = fitting.arena + np.array(weights)
        return not self.plans or bool(self.do_not_beat(held, np.array(cost)).any())

    def joined(self, frontier: _Frontier) -> _Found:
        """With what another arena has."""
        size = np.concatenate([self.bytes, frontier.bytes])
        cost = np.concatenate([self.cost, frontier.cost])
        plans = [*self.plans, *((frontier, place) for place in range(len(frontier.cost)))]
        order = _undominated(size, cost, np.zeros_like(cost))
        return _Found(size[order], cost[order], [plans[place] for place in order])

    def solutions(self) -> list[Solution]:
        """All of them, the fewest bytes first."""
        return [frontier.solution(place) for frontier, place in self.plans]


@dataclass(frozen=True)
class _Table:
    """Sums of bytes and cost up to a boundary; which option led there, from which sums."""

    weights: np.ndarray
    cost: np.ndarray
    file: np.ndarray
    option: np.ndarray
    before: np.ndarray

    @classmethod
    def start(cls) -> _Table:
        return cls(*(np.zeros(1, np.int64) for _ in range(5)))

    @classmethod
    def reached(cls, tables: list[_Table], options: list[_Option]) -> _Table:
        """All sums that ``options`` lead to from those at earlier boundaries."""
        parts = [np.zeros((5, 0), np.int64)]
        for number, option in enumerate(options):
            table = tables[option.unit.first]
            count = len(table.cost)
            columns = (
                table.weights + option.form.weights,
                table.cost + option.form.cost,
                table.file + option.file,
                np.full(count, number),
                np.arange(count),
            )
            parts.append(np.stack(columns))
        return cls(*np.concatenate(parts, axis=1))

    def only(self, places: np.ndarray) -> _Table:
        """Those of the sums."""
        columns = (self.weights, self.cost, self.file, self.option, self.before)
        return _Table(*(column[places] for column in columns))


def _key(solution: Solution) -> tuple[int, int]:
    return solution.cost, solution.bytes


def _beats(one: _Option, other: _Option) -> bool:
    """Whether a form of the same unit is no worse."""
    return (
        one.unit.first == other.unit.first
        and one.form.weights <= other.form.weights
        and one.form.cost <= other.form.cost
        and one.file <= other.file
    )


def _undominated(size: np.ndarray, cost: np.ndarray, file: np.ndarray) -> np.ndarray:
    """Places of the sums that no others beat, by rising size and falling cost."""
    if len(size) and (size == size[0]).all():
        size, file = file, size
    if len(file) and (file != file[0]).any():
        return _undominated_in_three(size, cost, file)
    order = np.lexsort((cost, size))
    sorted_cost = cost[order]
    kept = np.ones(len(order), bool)
    kept[1:] = sorted_cost[1:] < np.minimum.accumulate(sorted_cost)[:-1]
    return order[kept]


def _thinned(cost: np.ndarray, step: int) -> np.ndarray:
    """Of falling costs the places of the first within each ``step``, and of the last."""
    kept = np.ones(len(cost), bool)
    kept[1:-1] = np.diff(cost // step)[:-1] != 0
    return np.flatnonzero(kept)


def _undominated_in_three(size: np.ndarray, cost: np.ndarray, file: np.ndarray) -> np.ndarray:
    """The same where bytes of two kinds differ."""
    kept: list[int] = []
    # Of what is kept, cost rises and bytes in files fall: whoever needs fewer costs more.
    costs: list[int] = []
    files: list[int] = []
    for place in np.lexsort((file, cost, size)):
        own_cost, own_file = int(cost[place]), int(file[place])
        end = bisect.bisect_right(costs, own_cost)
        if end and files[end - 1] <= own_file:
            continue
        begin = stop = bisect.bisect_left(costs, own_cost)
        while stop < len(files) and files[stop] >= own_file:
            stop += 1
        costs[begin:stop], files[begin:stop] = [own_cost], [own_file]
        kept.append(int(place))
    return np.array(kept, np.int64)
