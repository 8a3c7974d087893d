"""Spaces: nothing that a rule excludes, nothing twice, always in the same order."""

from __future__ import annotations

import itertools
from random import Random

import pytest

from schedules.algorithms import REGISTRY, Unsupported
from schedules.kernel.tiles import fits_registers
from schedules.layer.block import workload_from_text
from schedules.plan.choice import Choice
from schedules.plan.planner import Limits, exceeded, plan_kernel
from schedules.target.simd import Simd
from schedules.tuning.search.space import Space

CONV = "28x28x64->64 k3x3 p1,1,1,1 relu"
POINTWISE = "14x14x24->40 k1x1 relu6"
DENSE = "1x1x128->100 k1x1"
FIRST = "32x32x3->20 k3x3 s2x2 p0,1,0,1 relu6"
DEPTHWISE = "14x14x48->48 k3x3 p1,1,1,1 g48 relu6"
GROUP = "14x14x12->10 k3x3 p1,1,1,1 of4"
BLOCK = f"14x14x8->48 k1x1 relu6 | {DEPTHWISE} | 14x14x48->8 k1x1 +"
TASKS = [CONV, POINTWISE, DENSE, FIRST, DEPTHWISE, GROUP, BLOCK]
TARGETS = ["x86-64-v4", "x86-64-v3", "cortex-a53", "cortex-a76"]


def is_tried(space: Space, candidate: Choice) -> bool:
    """Whether every knob says so of its value, or has that of an untuned choice."""
    algorithm = REGISTRY.get(candidate.algorithm).applied_to(space.workload)
    own = [start.knobs for start in space._starts if start.algorithm == candidate.algorithm]
    for knob in algorithm.knobs(space.workload, space.simd).values():
        names = (knob.name, *knob.beside)
        values = [candidate.knobs[name] for name in names]
        untuned = [[start[name] for name in names] for start in own]
        if not (knob.tried(*values) or values in untuned):
            return False
    return True


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("text", TASKS)
def test_spaces_hold_what_they_propose(text: str, target: str) -> None:
    simd, workload = Simd.named(target), workload_from_text(text)
    space, random = Space(workload, simd), Random(1)
    assert space.default == plan_kernel(workload, simd).choice
    assert space.starts()[0] == space.default
    assert len(set(space.starts())) == len(space.starts())
    samples = [space.sample(random) for _ in range(40)]
    mutants = [space.mutate(sample, random) for sample in samples]
    children = [space.crossover(*pair, random) for pair in itertools.pairwise(samples + mutants)]
    for candidate in [*space.starts(), *samples, *mutants, *children]:
        assert is_tried(space, candidate), candidate
        plan = space.plan(candidate)
        assert exceeded(plan, space.limits) is None
        assert plan.knobs == candidate.knobs
        assert plan.choice == candidate  # its knobs' own order
    assert len(set(samples)) > 2


@pytest.mark.parametrize("text", [POINTWISE, FIRST, DEPTHWISE, GROUP])
def test_enumerates_every_candidate_once_in_one_order(text: str) -> None:
    simd, workload = Simd.named("x86-64-v4"), workload_from_text(text)
    space = Space(workload, simd)
    everything = list(space)
    assert everything == list(Space(workload, simd))
    assert len(set(everything)) == len(everything)
    assert set(space.starts()) <= set(everything)
    random = Random(0)
    assert {space.sample(random) for _ in range(200)} <= set(everything)
    names = {candidate.algorithm for candidate in everything}
    for name in REGISTRY.names():
        algorithm = REGISTRY.get(name)
        served = algorithm.supports(workload, simd) is None
        alone = algorithm.applied_to(workload) is algorithm
        assert (name in names) <= served
        if served and alone and name not in ("dense", "indirect", "winograd"):
            assert name in names


def test_register_tiles_fit() -> None:
    simd, workload = Simd.named("cortex-a76"), workload_from_text(CONV)
    space = Space(workload, simd)
    tiles = {
        (c.algorithm, c.knobs["columns"], c.knobs["panel"]) for c in itertools.islice(space, 2000)
    }
    for name, columns, panel in tiles:
        algorithm = REGISTRY.get(name)
        product = algorithm.product(workload, simd)
        assert product is not None
        assert name == "direct" or fits_registers(
            product.workload, simd, product.taps, columns, panel
        )


def test_tiles_that_spill_are_not_tried() -> None:
    simd, workload = Simd.named("x86-64-v4"), workload_from_text(CONV)
    space = Space(workload, simd)
    knobs = space.default.knobs
    wide = Choice.of(space.default.algorithm, {**knobs, "columns": 16, "panel": 96})
    assert is_tried(space, space.default) and not is_tried(space, wide)


def test_limits_hold() -> None:
    simd, workload = Simd.named("x86-64-v4"), workload_from_text(CONV)
    space = Space(workload, simd, Limits(workspace_bytes=0))
    assert {c.algorithm for c in space} <= {"indirect", "kn2row_aa", "direct"}
    strict = Space(workload, simd, Limits(error=1e-9))
    assert "winograd" not in {c.algorithm for c in strict}
    with pytest.raises(Unsupported):
        Space(workload_from_text(BLOCK), simd, Limits(workspace_bytes=16))


def test_an_algorithm_of_many_knobs_leaves_draws_to_the_others() -> None:
    """Winograd has 93 % of this layer's combinations."""
    space, random = Space(workload_from_text(CONV), Simd.named("x86-64-v4")), Random(0)
    drawn = [space.sample(random).algorithm for _ in range(60)]
    assert drawn.count("winograd") <= 40
    assert len(set(drawn)) >= 6
