"""The register tiles of depthwise convolutions, and how threads share them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from schedules.algorithms import Unsupported
from schedules.kernel import depthwise_tiles
from schedules.kernel.depthwise_tiles import default_tile, fits, registers
from schedules.kernel.sharing import evenness
from schedules.layer.workload import Conv2dWorkload
from schedules.plan.planner import plan_kernel
from schedules.target.simd import PRESETS
from tests.support.targets import TARGETS

A76 = PRESETS["cortex-a76"]


def layer(size: int, channels: int, kernel: int, stride: int = 1, **more: int) -> Conv2dWorkload:
    return Conv2dWorkload.with_padding(
        "SAME",
        in_height=size,
        in_width=size,
        in_channels=channels,
        out_channels=channels,
        groups=channels,
        kernel_height=kernel,
        kernel_width=kernel,
        stride_height=stride,
        stride_width=stride,
        **more,
    )


def test_the_planner_takes_depthwise_for_depthwise_layers_and_for_no_other() -> None:
    workload = layer(14, 96, 3)
    plan = plan_kernel(workload, A76)
    assert (plan.algorithm, plan.workspace_bytes) == ("depthwise", 0)
    assert plan.packed.layout == "taps"
    assert plan.packed.elements * 4 == workload.weight_bytes
    with pytest.raises(Unsupported, match="no sum over channels"):
        plan_kernel(workload, A76, "indirect")
    with pytest.raises(Unsupported, match="more than one input channel"):
        plan_kernel(replace(workload, groups=1), A76, "depthwise")


@pytest.mark.parametrize(
    ("kernel", "stride", "dilation", "rows", "columns", "expected"),
    [
        (3, 1, 1, 2, 4, 8 + 1 * 6 + 3),  # an image row goes from one kernel row to the next
        (3, 1, 1, 3, 4, 12 + 2 * 6 + 3),
        (3, 2, 1, 2, 4, 8 + 2 * 9 + 3),
        (3, 2, 1, 1, 4, 4 + 1 * 9 + 3),
        (3, 1, 2, 2, 4, 8 + 1 * 8 + 3),  # rows of pixels read different image rows
        (7, 1, 1, 2, 4, 8 + 2 * 10 + 7),  # a loop over kernel rows
        (9, 1, 1, 1, 4, 4 + 1 * 4 + 1),  # and over kernel columns
    ],
)
def test_registers(
    kernel: int, stride: int, dilation: int, rows: int, columns: int, expected: int
) -> None:
    dilated = {"dilation_height": dilation, "dilation_width": dilation}
    workload = layer(28, 64, kernel, stride, **dilated)
    assert registers(workload, A76, rows, columns) == expected
    one_weight = 0 if rows > 1 else depthwise_tiles.unrolled_taps(workload)[1] - 1
    assert registers(workload, PRESETS["x86-64-v4"], rows, columns) == expected - one_weight


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kernel", [1, 3, 5, 7, 9, 31])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_default_tiles_fit_and_blocks_are_whole_vectors(
    stride: int, kernel: int, target: str
) -> None:
    simd = PRESETS[target]
    for channels in (2, 17, 144, 960):
        workload = layer(7, channels, kernel, stride)
        tile = default_tile(workload, simd)
        assert fits(workload, simd, tile.rows, tile.columns)
        assert tile.channels % simd.lanes("float32") == 0
        knobs = depthwise_tiles.knobs(workload, simd)
        assert all(knob.default in knob.choices for knob in knobs.values())


@pytest.mark.parametrize(
    ("size", "channels"), [(112, 32), (56, 144), (28, 192), (14, 384), (14, 576), (7, 960)]
)
def test_threads_are_busy(size: int, channels: int) -> None:
    workload = layer(size, channels, 3)
    tile = default_tile(workload, A76)
    items = {"rows": -(-size // tile.rows), "channels": -(-channels // tile.channels)}[tile.shared]
    assert min(evenness(items, threads) for threads in (2, 4)) >= 0.9


@pytest.mark.parametrize(
    ("target", "size", "channels", "whole"),
    [
        ("znver4", 112, 64, True),  # 3.2 MB: in the order of memory, from the L3 cache
        ("znver4", 28, 256, False),
        ("cortex-a76", 56, 128, False),
    ],
)
def test_images_that_leave_the_cache_are_read_in_the_order_of_memory(
    target: str, size: int, channels: int, whole: bool
) -> None:
    tile = default_tile(layer(size, channels, 3), PRESETS[target])
    assert (tile.channels >= channels) == whole


def test_tiles_of_images_that_come_from_beyond_the_l2_cache_are_high() -> None:
    def shape(size: int, target: str) -> tuple[int, int]:
        tile = default_tile(layer(size, 64, 3, stride=2), PRESETS[target])
        return tile.rows, tile.columns

    assert shape(112, "znver4") == (3, 2)
    assert shape(56, "znver4") == (2, 3)
