"""How many images one call computes: by the model, of the divisors of a batch."""

from __future__ import annotations

from dataclasses import replace

import pytest

from schedules.algorithms import Unsupported
from schedules.layer.workload import Conv2dWorkload
from schedules.plan.batches import image_cost, shared_plan
from schedules.plan.plan import Plan
from schedules.plan.planner import plan_kernel
from schedules.target.simd import PRESETS

SIMD = PRESETS["znver4"]
#: 9.4 MB of weights, four tiles of an image.
LARGE = Conv2dWorkload.from_text("7x7x512->512 k3x3 p1,1,1,1")


def plan_of(workload: Conv2dWorkload) -> Plan:
    return plan_kernel(workload, SIMD)


@pytest.mark.parametrize(
    ("workload", "shares"),
    [
        (LARGE, True),
        (Conv2dWorkload.from_text("1x1x2048->1000 k1x1"), True),  # nothing but reading weights
        (Conv2dWorkload.from_text("56x56x64->64 k3x3 p1,1,1,1"), False),  # they stay in the L2
        (Conv2dWorkload.from_text("14x14x96->96 k3x3 p1,1,1,1 g96"), False),
    ],
    ids=str,
)
def test_images_share_weights_that_leave_the_cache(workload: Conv2dWorkload, shares: bool) -> None:
    single = plan_of(workload)
    shared = shared_plan(single, 8, plan_of, 0.03)
    assert (shared is not None) == shares
    if shared is not None:
        assert shared.images in (2, 4, 8)
        assert image_cost(shared) < single.cost
        rest = shared.of_one_image(SIMD)
        assert (rest.parts, rest.knobs, rest.images) == (shared.parts, shared.knobs, 1)
        assert rest.workspace_bytes <= shared.workspace_bytes


def test_calls_divide_the_batch() -> None:
    shared = shared_plan(plan_of(LARGE), 7, plan_of, 0.03)
    assert shared is not None and shared.images == 7


def test_the_fewest_of_equals() -> None:
    single = plan_of(LARGE)

    def cheap(workload: Conv2dWorkload) -> Plan:
        return replace(plan_of(workload), cost=workload.batch * single.cost / 2)

    shared = shared_plan(single, 6, cheap, 0.03)
    assert shared is not None and shared.images == 2
    assert shared_plan(single, 6, cheap, 0.6) is None


def test_what_fits_no_limit_is_left_out() -> None:
    def small(workload: Conv2dWorkload) -> Plan:
        if workload.batch > 2:
            raise Unsupported("too much workspace")
        return plan_of(workload)

    shared = shared_plan(plan_of(LARGE), 8, small, 0.03)
    assert shared is not None and shared.images == 2
