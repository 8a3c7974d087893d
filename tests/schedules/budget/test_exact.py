"""The budget's solver against everything that could be chosen, and against HiGHS."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

import pytest

from schedules.budget.exact import Solver
from schedules.budget.milp import cheapest
from schedules.budget.problem import Form, Problem, Solution, Unit

INSTANCES = 500


def draw(rng: random.Random, layers: int, largest: int, share: float = 1.0) -> Problem:
    """A problem with a unit for a share of the layers, and chains of two or three."""

    def forms() -> tuple[Form, ...]:
        sizes = [0, 64, 64 * rng.randrange(largest), 64 * rng.randrange(largest)]
        return tuple(
            Form(rng.randrange(1, largest), rng.choice(sizes), rng.choice(sizes), rng.choice(sizes))
            for _ in range(rng.randrange(1, 4))
        )

    runs = [(i, i) for i in range(layers) if rng.random() < share]
    runs += [
        (i, i + length) for length in (1, 2) for i in range(layers - length) if rng.random() < 0.4
    ]
    units = tuple(Unit(a, b, 64 * rng.randrange(largest), forms()) for a, b in runs)
    return Problem(layers, units, 64 * rng.randrange(largest))


def paths(problem: Problem, start: int = 0) -> Iterator[list[tuple[Unit, Form]]]:
    """Everything that computes the layers from ``start`` on."""
    if start == problem.layers:
        yield []
    for unit in problem.units:
        if unit.first == start:
            for form in unit.forms:
                for rest in paths(problem, unit.last + 1):
                    yield [(unit, form), *rest]


def totals(problem: Problem, file_limit: float = math.inf) -> list[tuple[int, int]]:
    """Bytes and cost of everything that could be chosen with so many bytes in files."""
    return [
        (
            max([problem.floor, *(unit.live + form.workspace for unit, form in path)])
            + sum(form.weights for _, form in path),
            sum(form.cost for _, form in path),
        )
        for path in paths(problem)
        if sum(form.file for _, form in path) <= file_limit
    ]


def check(problem: Problem, solution: Solution) -> None:
    """That it computes every layer once, and holds and costs what it says."""
    covered = [i for unit, _ in solution.chosen for i in range(unit.first, unit.last + 1)]
    assert covered == list(range(problem.layers))
    needs = [unit.live + form.workspace for unit, form in solution.chosen]
    assert solution.arena == max([problem.floor, *needs])
    assert solution.weights == sum(form.weights for _, form in solution.chosen)
    assert solution.file == sum(form.file for _, form in solution.chosen)
    assert solution.cost == sum(form.cost for _, form in solution.chosen)


def test_equals_brute_force() -> None:
    rng = random.Random(17)
    infeasible = 0
    for _ in range(INSTANCES):
        problem = draw(rng, rng.randrange(1, 6), 40, share=0.95)
        every, solver = totals(problem), Solver(problem)
        curve = solver.curve()
        for solution in curve:
            check(problem, solution)
        best = {
            (size, cost)
            for size, cost in every
            if not any((s <= size and c <= cost and (s, c) != (size, cost)) for s, c in every)
        }
        assert {(s.bytes, s.cost) for s in curve} == best
        assert [s.bytes for s in curve] == sorted(s.bytes for s in curve)
        for limit in [0, *(size - below for size, _ in best for below in (0, 1))]:
            within = [(cost, size) for size, cost in every if size <= limit]
            found = solver.solve(limit)
            if not within:
                assert found is None
                infeasible += 1
                continue
            assert found is not None
            check(problem, found)
            assert (found.cost, found.bytes) == min(within)
    assert infeasible > INSTANCES


def test_equals_brute_force_with_a_limit_on_files() -> None:
    rng = random.Random(18)
    infeasible = 0
    for _ in range(INSTANCES // 2):
        problem = draw(rng, rng.randrange(1, 6), 40, share=0.95)
        sizes = sorted({sum(form.file for _, form in path) for path in paths(problem)})
        for file_limit in sizes[:: max(len(sizes) // 3, 1)]:
            every = totals(problem, file_limit)
            curve = Solver(problem, file_limit).curve()
            for solution in curve:
                check(problem, solution)
                assert solution.file <= file_limit
            best = {
                (size, cost)
                for size, cost in every
                if not any((s <= size and c <= cost and (s, c) != (size, cost)) for s, c in every)
            }
            assert {(s.bytes, s.cost) for s in curve} == best
            for size, _ in best:
                found = Solver(problem, file_limit).solve(size)
                assert found is not None
                assert (found.cost, found.bytes) == min((c, s) for s, c in every if s <= size)
        if sizes:
            assert Solver(problem, sizes[0] - 1).curve() == []
            infeasible += 1
    assert infeasible > INSTANCES // 4


@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_highs(seed: int) -> None:
    problem = draw(random.Random(seed), 40, 1000)
    solver = Solver(problem)
    curve = solver.curve()
    limits = [curve[len(curve) * i // 4].bytes for i in range(4)]
    for limit in (limits[0] - 1, *limits):
        found = solver.solve(limit)
        assert (None if found is None else found.cost) == cheapest(problem, limit)


def test_a_layer_in_no_unit_has_no_plan() -> None:
    problem = Problem(2, (Unit(0, 0, 64, (Form(1, 0, 0),)),))
    assert Solver(problem).curve() == []
    assert Solver(problem).solve(10**9) is None


def test_a_network_without_layers_holds_its_tensors() -> None:
    (solution,) = Solver(Problem(0, (), 640)).curve()
    assert (solution.arena, solution.weights, solution.cost) == (640, 0, 0)
    assert Solver(Problem(0, (), 640)).solve(639) is None
