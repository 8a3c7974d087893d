from __future__ import annotations

import math
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence

import pytest

from schedules.errors import LeanconvError
from schedules.layer.block import workload_from_text
from schedules.plan.choice import Choice
from schedules.target.simd import Simd
from schedules.tuning.records.record import Record
from schedules.tuning.search.cost_model import CostModel
from schedules.tuning.search.search import make_search
from schedules.tuning.search.space import Space
from schedules.tuning.search.tuners import TUNERS
from tests.support.records import record

SIMD = Simd.named("x86-64-v4")
BATCH = 8
SMALL = "28x28x32->32 k3x3 p1,1,1,1 g32 relu6"
LARGE = "112x112x3->64 k7x7 s2x2 p3,3,3,3 relu"


def space_of(text: str) -> Space:
    return Space(workload_from_text(text), SIMD)


def seconds(candidate: Choice) -> float:
    """Every knob counts, and none for much: five pixels by two vectors are fastest."""
    knobs = candidate.knobs
    factors = (
        1 + 0.10 * abs(knobs["columns"] - 5),
        1 + 0.15 * abs(knobs["panel"] / 16 - 2),
        1 + 0.10 * (knobs["k_block"] == 1),
        1 + 0.20 * (not knobs["order"].startswith("rows")),
        1 + 0.05 * (knobs.get("row_padding", 0) > 0),
        1 + 0.02 * len(candidate.algorithm),
    )
    return 1e-3 * math.prod(factors)


def made_up(
    space: Space, candidates: Iterable[Choice], cost: Callable[[Choice], float | None]
) -> list[Record]:
    return [record(cost(c), workload=space.workload, candidate=c) for c in candidates]


def tune(
    name: str, space: Space, trials: int, seed: int = 0, known: Sequence[Record] = ()
) -> list[Record]:
    """All records after ``trials`` more of them."""
    model = CostModel(SIMD, seed)
    search, records = make_search(name, space, seed, model), list(known)
    for _ in range(trials // BATCH):
        model.fit(records)
        search.update(records)
        proposed = search.propose(BATCH)
        records += made_up(space, proposed, seconds)
    return records


@pytest.mark.parametrize("name", TUNERS)
def test_every_candidate_is_proposed_once_and_the_default_first(name: str) -> None:
    space = space_of(SMALL)
    model = CostModel(SIMD)
    search = make_search(name, space, 0, model)
    everything = list(space)
    proposed = search.propose(1)
    assert proposed == [space.default]
    while more := search.propose(7):
        proposed += more
        records = [
            record(1.0 + len(str(c)), workload=space.workload, candidate=c) for c in proposed
        ]
        search.update(records)
        model.fit(records)
    assert len(proposed) == len(everything) and {*proposed} == {*everything}


@pytest.mark.parametrize("name", TUNERS)
def test_what_is_recorded_is_not_proposed(name: str) -> None:
    space = space_of(SMALL)
    search = make_search(name, space, 0, CostModel(SIMD))
    known = list(space)[::2]
    search.update(made_up(space, known, lambda _: None))
    search.update(record(1.0, workload=workload_from_text(LARGE), candidate=c) for c in space)
    assert {*search.propose(1000)} == {*space} - {*known}


@pytest.mark.parametrize("name", TUNERS)
def test_it_goes_on_as_if_it_had_not_been_interrupted(name: str) -> None:
    space = space_of(LARGE)
    whole = tune(name, space, 32)
    assert tune(name, space_of(LARGE), 16, known=whole[:16]) == whole


def test_another_process_proposes_the_same() -> None:
    script = (
        f"from {__name__} import LARGE, space_of, tune\n"
        "for record in tune('xgb', space_of(LARGE), 16):\n"
        "    print(record.candidate)\n"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", script]
    out = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    here = [str(r.candidate) for r in tune("xgb", space_of(LARGE), 16)]
    assert out.stdout.split() == here


def test_xgb_is_ahead_of_random_with_five_eighths_of_the_trials() -> None:
    space = space_of(LARGE)

    def best(name: str, trials: int) -> float:
        return statistics.mean(
            min(r.cost_s for r in tune(name, space, trials, seed=seed)) for seed in range(3)
        )

    assert best("xgb", 40) < best("random", 64)


def test_seeds_differ() -> None:
    by_seed = [[r.candidate for r in tune("random", space_of(LARGE), 16, seed=s)] for s in (0, 1)]
    assert by_seed[0] != by_seed[1]


def test_an_unknown_name_is_reported() -> None:
    with pytest.raises(LeanconvError, match="unknown search 'sga': one of xgb, ga"):
        make_search("sga", space_of(SMALL), 0, None)
