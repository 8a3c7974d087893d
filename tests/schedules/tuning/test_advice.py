"""What records change: the plan of a layer, within limits, and never those of another target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Any

import numpy as np
import pytest

from schedules.errors import LeanconvError
from schedules.layer.block import Block
from schedules.layer.workload import Conv2dWorkload
from schedules.plan.choice import Choice
from schedules.plan.plan import Plan
from schedules.plan.planner import NO_LIMITS, Limits, plan_kernel
from schedules.target.simd import Simd
from schedules.tuning.advice import DEFAULT, TRANSFERRED, TUNED, Accept, Advice, Advisor
from schedules.tuning.records.completion import completed
from schedules.tuning.records.records import LOST, MODELLED, Record
from schedules.tuning.search.space import Space
from schedules.tuning.transfer import Transfer
from tests.support.trials import candidate, record

SIMD = Simd.named("cortex-a76")
LAYER = Conv2dWorkload.from_text("14x14x64->64 k3x3 p1,1,1,1 relu")
GROUP = Conv2dWorkload.from_text("14x14x12->10 k3x3 p1,1,1,1 of4")
BLOCK = Block(
    (
        Conv2dWorkload.from_text("14x14x16->16 k3x3 p1,1,1,1 g16 relu6"),
        Conv2dWorkload.from_text("14x14x16->8 k1x1"),
    )
)


def anything(_plan: Plan) -> bool:
    return True


UNTUNED = plan_kernel(LAYER, SIMD).choice


def trial(choice: str | Choice, milliseconds: float | None, **fields: Any) -> Record:
    return record(LAYER, SIMD, choice, milliseconds, **fields)


def advice(*records: Record, choice: str = "auto", limits: Limits = NO_LIMITS) -> Advice:
    default = plan_kernel(LAYER, SIMD, choice, limits)
    return Advisor(records, SIMD, limits).advise(default, anything)


def test_the_fastest_on_record() -> None:
    untuned, best = trial(UNTUNED, 0.15), trial("indirect:columns=3", 0.1234)
    given = advice(untuned, trial("mec", 0.2), best, trial("im2col", None))
    assert given.source == TUNED
    assert given.seconds == pytest.approx(1.234e-4)
    assert (given.plan.algorithm, given.plan.knobs) == ("indirect", best.candidate.knobs)
    assert given.plan.why == "tuned: 0.1234 ms on pixel6 (0.15 ms untuned)"


def test_more_samples_count_more_but_not_for_the_untuned_choice() -> None:
    """The play-off measures the best again; and the untuned choice, though others are better."""
    lucky, better = trial("mec", 0.1), trial("indirect", 0.11, samples=20)
    assert advice(lucky, better).plan.algorithm == "indirect"
    untuned = trial(UNTUNED, 0.15, samples=20)
    assert advice(lucky, untuned).plan.algorithm == "mec"
    assert advice(better, trial(UNTUNED, 0.1, samples=20)).plan.algorithm == "winograd"


def test_what_hardly_gains_is_left_untuned() -> None:
    untuned = trial(UNTUNED, 0.15)
    assert advice(trial("mec", 0.147), untuned).plan.algorithm == "winograd"
    assert advice(trial("mec", 0.143), untuned).plan.algorithm == "mec"


def test_records_of_a_network_that_lost_count_no_more() -> None:
    untuned, best = trial("winograd", 0.15), trial("mec", 0.1)
    lost = trial("mec", None, error=LOST, timestamp=1)
    given = advice(untuned, best, lost)
    assert (given.plan.algorithm, given.source, given.seconds) == ("winograd", DEFAULT, None)
    assert given.plan.why == "untuned: its network is faster untuned"
    assert advice(untuned, best, lost, trial("indirect", 0.1, timestamp=2)).source == TUNED


def test_records_of_before_a_knob() -> None:
    """What they leave open is the default."""
    whole = trial("winograd", 0.15)
    older = replace(whole, candidate=Choice("winograd", whole.candidate.settings[:-1]))
    assert completed([older], SIMD) == [whole]
    assert advice(older).plan.choice == whole.candidate


def test_why_without_the_untuned_choice_and_with_only_that() -> None:
    assert advice(trial("mec", 0.2)).plan.why == "tuned: 0.2 ms on pixel6"
    same = advice(trial(UNTUNED, 0.15)).plan
    assert same.why == "tuned: 0.15 ms on pixel6, the untuned choice"
    assert same.knobs == plan_kernel(LAYER, SIMD).knobs
    modelled = advice(trial("mec", 0.2, cost_kind=MODELLED)).plan
    assert modelled.why == "tuned: 0.2 ms modelled for pixel6"


def test_limits_hold() -> None:
    """The fastest takes 73728 bytes and errs as much as three definitions; the next 11520."""
    records = [trial("winograd:outputs=4", 0.1), trial("im2col_tiled", 0.2), trial("indirect", 0.3)]
    for limits, algorithm in [
        (NO_LIMITS, "winograd"),
        (Limits(workspace_bytes=73727), "im2col_tiled"),
        (Limits(workspace_bytes=11519), "indirect"),
        (Limits(error=1e-9), "im2col_tiled"),
    ]:
        assert advice(*records, limits=limits).plan.algorithm == algorithm


def test_no_less_accurate_than_the_planner_allows() -> None:
    inaccurate, slower = trial("winograd:outputs=6", 0.1), trial("winograd:outputs=2", 0.2)
    assert advice(inaccurate, slower).plan.knobs["outputs"] == 2
    assert advice(inaccurate, slower, choice="winograd").plan.knobs["outputs"] == 2
    asked = "winograd:outputs=6"
    assert advice(inaccurate, slower, choice=asked).plan.knobs["outputs"] == 6
    assert advice(inaccurate, slower, limits=Limits(error=1.0)).plan.knobs["outputs"] == 6


def test_only_what_is_accepted() -> None:
    default = plan_kernel(LAYER, SIMD)
    advisor = Advisor([trial(UNTUNED, 0.1), trial("mec", 0.2)], SIMD, NO_LIMITS)
    given = advisor.advise(default, lambda plan: plan.algorithm == "mec")
    assert given.plan.algorithm == "mec"
    refused = advisor.advise(default, lambda plan: plan.algorithm == "indirect")
    assert refused == Advice(default, default, DEFAULT)


def test_times_of_a_group_are_the_layers() -> None:
    advisor = Advisor([record(GROUP, SIMD, "indirect", 0.5)], SIMD, NO_LIMITS)
    given = advisor.advise(plan_kernel(GROUP, SIMD), anything)
    assert given.seconds == pytest.approx(4 * 0.5e-3)
    assert "2 ms on pixel6" in given.plan.why


def test_blocks() -> None:
    best = record(BLOCK, SIMD, "fused_block:strip_rows=2", 0.1)
    advisor = Advisor([best, record(BLOCK, SIMD, "fused_block", 0.2)], SIMD, NO_LIMITS)
    default = plan_kernel(BLOCK, SIMD)
    given = advisor.advise(default, anything)
    assert given.plan.knobs == best.candidate.knobs != default.knobs
    assert given.because("faster").plan.why == f"faster; {given.plan.why}"


def test_knobs_and_algorithms_that_are_gone() -> None:
    knobs = candidate(LAYER, SIMD, "indirect").knobs
    gone = [
        trial(Choice.of("indirect", {**knobs, "unroll": 4}), 0.1),
        trial(Choice.of("indirect", {**knobs, "unroll": 8}), 0.1),
        trial(Choice.of("fft", {}), 0.1),
    ]
    default = plan_kernel(LAYER, SIMD)
    advisor = Advisor([*gone, trial("mec", 0.2)], SIMD, NO_LIMITS)
    assert advisor.warnings == []
    assert advisor.advise(default, anything).plan.algorithm == "mec"
    twice, once = advisor.warnings
    assert twice.startswith("2 records left out: indirect has no knob 'unroll'")
    assert once.startswith("1 record left out: unknown algorithm 'fft'")
    assert advice(*gone) == Advice(default, default, DEFAULT)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ([{"target": "b"}, {"target": "a,+x"}], r"no records for cortex-a76, but for a,\+x; b"),
        ([{}, {"board": "rpi"}], r"of 2 boards, pixel6 \(measured\), rpi \(measured\): give"),
        ([{}, {"cost_kind": MODELLED}], r"pixel6 \(measured\), pixel6 \(modelled\)"),
    ],
)
def test_records_that_say_nothing_about_this_processor(
    fields: list[dict[str, Any]], message: str
) -> None:
    layers = zip((LAYER, GROUP), fields, strict=True)
    records = [record(layer, SIMD, "mec", 0.1, **own) for layer, own in layers]
    with pytest.raises(LeanconvError, match=message):
        Advisor(records, SIMD, NO_LIMITS)


def test_records_for_others_are_left_out() -> None:
    other = trial("mec", 0.1, target="cortex-a53", board="rpi")
    assert advice(other, trial("indirect", 0.2)).plan.algorithm == "indirect"


# Layers that are not on record


class Favourites:
    """Instead of a model: plans of one algorithm, with few columns, are said to be fast."""

    is_fitted = True

    def __init__(self, algorithm: str, ratio: float) -> None:
        self.algorithm, self.ratio = algorithm, ratio

    def predict(self, plans: Sequence[Plan]) -> np.ndarray:
        times = (
            self.ratio * (1 + plan.knobs["columns"] / 1e3)
            if plan.algorithm == self.algorithm
            else 1
            for plan in plans
        )
        return np.log(np.fromiter(times, float))


def transferred(
    model: Any, accept: Accept = anything, limits: Limits = NO_LIMITS, *more: Record
) -> Advice:
    transfer = Transfer(model, flattery=1.1)
    advisor = Advisor([record(GROUP, SIMD, "indirect", 0.1), *more], SIMD, limits, transfer)
    return advisor.advise(plan_kernel(LAYER, SIMD, limits=limits), accept)


def test_what_the_model_promises() -> None:
    given = transferred(Favourites("indirect", 0.5))
    assert (given.source, given.seconds) == (TRANSFERRED, None)
    assert (given.plan.algorithm, given.plan.knobs["columns"]) == ("indirect", 1)
    assert given.plan.why == "transferred: 0.50 of the untuned time by the records of other layers"


def test_the_model_has_to_promise_enough() -> None:
    default = plan_kernel(LAYER, SIMD)
    assert transferred(Favourites("indirect", 0.95)) == Advice(default, default, DEFAULT)


def test_what_is_transferred_is_accepted_within_the_limits_and_not_measured() -> None:
    fast = Favourites("im2col_tiled", 0.5)
    assert transferred(fast, lambda plan: plan.algorithm == "indirect").source == DEFAULT
    assert transferred(fast, anything, Limits(workspace_bytes=0)).source == DEFAULT
    chosen = transferred(fast).plan
    failed = trial(chosen.choice, None)
    second = transferred(fast, anything, NO_LIMITS, failed)
    assert second.source == TRANSFERRED
    assert second.plan.knobs != chosen.knobs


def test_what_is_known_of_other_layers() -> None:
    """On those, tiles of one or two columns take a tenth of the time of all others."""
    records = []
    for size in (8, 10, 12, 16, 20):
        layer = replace(LAYER, in_height=size, in_width=size)
        space, random = Space(layer, SIMD), Random(size)
        for found in dict.fromkeys([*space.starts(), *(space.sample(random) for _ in range(20))]):
            fast = found.knobs["columns"] <= 2
            records.append(record(layer, SIMD, found, 0.1 if fast else 1.0))
    default = plan_kernel(LAYER, SIMD)
    given = Advisor(records, SIMD, NO_LIMITS).advise(default, anything)
    assert given.source == TRANSFERRED
    assert given.plan.knobs["columns"] <= 2 < default.knobs["columns"]
    few = Advisor(records[:20], SIMD, NO_LIMITS).advise(default, anything)
    assert few == Advice(default, default, DEFAULT)
