"""What threads lose by sharing pixels or channels, and what they share."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from schedules.kernel.sharing import evenness, shared_pixels
from schedules.layer.workload import Conv2dWorkload
from schedules.plan.planner import plan_kernel
from schedules.plan.stored_kernels import compile_plans
from schedules.target.simd import PRESETS, Simd
from tests.support.kernels import Case, HostKernel

TWO = replace(PRESETS["x86-64-v4"], cores=2)


def test_evenness() -> None:
    assert [evenness(items, 2) for items in (1, 2, 7, 8)] == [0.5, 1, 0.875, 1]
    assert evenness(7, 4) == 0.875


@pytest.mark.parametrize(
    ("rows", "columns", "shared"),
    [(1, 28, ("columns",)), (28, 4, ("rows",)), (7, 1, ("rows",)), (7, 2, ("rows", "columns"))],
)
def test_rows_are_shared_whole_if_that_is_even(
    rows: int, columns: int, shared: tuple[str, ...]
) -> None:
    assert shared_pixels(rows, columns, cores=2) == shared


def pointwise(size: int, inputs: int, outputs: int) -> Conv2dWorkload:
    return Conv2dWorkload(size, size, inputs, outputs, 1, 1)


def test_panels_are_shared_only_where_pixels_cost_more() -> None:
    """Few uneven rows of pixels by many weights; else pixels, in one go where panels come first."""
    layers = {"few": pointwise(7, 512, 1024), "many": pointwise(14, 512, 512)}
    plans = {name: plan_kernel(layer, TWO, "indirect") for name, layer in layers.items()}
    kernels = compile_plans(plans, TWO).kernels
    (few,), (many,) = kernels["few"].stages, kernels["many"].stages
    assert few.extent == 1024 // plans["few"].knobs["panel"]
    assert many.extent == -(-14 * 14 // plans["many"].knobs["columns"])
    assert not few.whole
    assert many.whole == plans["many"].knobs["order"].startswith("panels")


@pytest.mark.parametrize(
    ("size", "inputs", "outputs", "order", "cores"),
    [
        (7, 96, 576, "panels,rows,columns", 2),
        (7, 576, 96, "panels,rows,columns", 4),
        (7, 96, 576, "rows,columns,panels", 2),
    ],
)
def test_threads_share_the_panels_of_a_tile_between_them(
    size: int, inputs: int, outputs: int, order: str, cores: int, tmp_path: Path
) -> None:
    """Seven tiles are no even shares: each thread has its pixels, and a part of the one between."""
    simd = replace(Simd.named("host"), cores=cores)
    workload = pointwise(size, inputs, outputs)
    plan = plan_kernel(workload, simd, f"indirect:columns=7:panel=16:order={order}")
    kernel = HostKernel(plan, simd, tmp_path)
    (stage,) = kernel.kernel.stages
    panels = -(-outputs // 16)
    assert stage.extent == (panels * 7 if not simd.fma_by_element else 7)
    assert stage.whole == order.startswith("panels")
    case = Case.random(workload)
    alone = kernel(case)
    case.check(alone, plan)
    for threads in (2, 3, 4):
        np.testing.assert_array_equal(kernel(case, threads, pieces=threads), alone)
