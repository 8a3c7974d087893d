"""The algorithm for few rows: when it is chosen, what it packs, what threads share."""

from __future__ import annotations

import pytest

from schedules.kernel.dot_products import SUMS, tile_shape
from schedules.layer.workload import Conv2dWorkload
from schedules.plan.planner import plan_kernel
from schedules.plan.stored_kernels import compile_plans
from schedules.target.simd import PRESETS


def rows(count: int, channels: int, outputs: int) -> Conv2dWorkload:
    """A FULLY_CONNECTED layer with a batch of ``count``."""
    return Conv2dWorkload(1, count, channels, outputs, 1, 1)


def choice(workload: Conv2dWorkload, target: str) -> tuple[str, str | None]:
    """Algorithm and form that the planner takes."""
    plan = plan_kernel(workload, PRESETS[target])
    return plan.algorithm, plan.knobs.get("weights")


@pytest.mark.parametrize("target", ["x86-64-v4", "cortex-a76", "cortex-a53"])
def test_chosen_while_one_tile_holds_all_rows(target: str) -> None:
    # Long rows come from memory faster side by side, as x86-64 reads them in place.
    long = "in_place" if target.startswith("x86") else "packed"
    assert choice(rows(1, 1024, 1000), target) == ("dense", long)
    assert choice(rows(1, 512, 1000), target) == ("dense", "packed")
    assert choice(rows(2, 1024, 1000), target) == ("dense", "packed")
    assert choice(rows(49, 1024, 1000), target) == ("indirect", "packed")


@pytest.mark.parametrize("target", ["x86-64-v4", "cortex-a76", "cortex-a53"])
def test_in_place_where_panels_would_be_mostly_empty(target: str) -> None:
    assert choice(rows(784, 64, 1), target) == ("dense", "in_place")
    assert choice(rows(1, 960, 1), target) == ("dense", "in_place")


def test_in_place_takes_the_weights_as_the_model_has_them() -> None:
    workload = rows(1, 1001, 17)
    packed = plan_kernel(workload, PRESETS["cortex-a76"], "dense:weights=in_place").packed
    assert (packed.layout, packed.panel) == ("rows", 1)
    assert (packed.elements, packed.bias_elements) == (1001 * 17, 17)


@pytest.mark.parametrize("weights", ["packed", "in_place"])
@pytest.mark.parametrize("target", ["x86-64-v4", "cortex-a76"])
def test_threads_share_many_blocks_of_outputs(target: str, weights: str) -> None:
    simd = PRESETS[target]
    plan = plan_kernel(rows(1, 128, 1000), simd, f"dense:weights={weights}")
    kernel = compile_plans({"kernel": plan}, simd).kernels["kernel"]
    assert [stage.extent >= 2 * simd.cores for stage in kernel.stages] == [True]


@pytest.mark.parametrize(
    ("workload", "shape"),
    [
        (rows(1, 64, 1000), (1, 8)),
        (rows(2, 64, 1000), (2, 4)),
        (rows(33, 64, 1000), (2, 4)),
        (rows(784, 64, 1), (8, 1)),
        (rows(784, 64, 2), (4, 2)),
    ],
)
def test_tiles_of_dot_products_load_little(
    workload: Conv2dWorkload, shape: tuple[int, int]
) -> None:
    assert tile_shape(workload) == shape
    assert shape[0] * shape[1] == SUMS
