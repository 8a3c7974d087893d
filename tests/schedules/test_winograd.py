"""Winograd's algorithm: what it refuses, its strips, its workspace and its stages."""

from __future__ import annotations

from typing import Any

import pytest

from schedules.algorithms import Unsupported
from schedules.layer.workload import Conv2dWorkload
from schedules.plan.planner import plan_kernel
from schedules.plan.stored_kernels import compile_plans
from schedules.target.simd import PRESETS

SIMD = PRESETS["cortex-a76"]


def layer(size: int, inputs: int, outputs: int, height: int, width: int, **more: Any) -> Any:
    return Conv2dWorkload.with_padding(
        "SAME",
        in_height=size,
        in_width=size,
        in_channels=inputs,
        out_channels=outputs,
        kernel_height=height,
        kernel_width=width,
        **more,
    )


@pytest.mark.parametrize(
    ("workload", "reason"),
    [
        (layer(9, 4, 4, 3, 3, stride_height=2), "needs stride 1"),
        (layer(9, 4, 4, 3, 3, dilation_width=2), "needs dilation 1"),
        (layer(9, 4, 4, 1, 1), "a 1x1 kernel has no overlapping products"),
        (layer(20, 4, 4, 3, 10), "a 3x10 kernel needs tiles of more than 10 pixels"),
    ],
)
def test_refusals(workload: Conv2dWorkload, reason: str) -> None:
    with pytest.raises(Unsupported, match=reason):
        plan_kernel(workload, SIMD, "winograd")


@pytest.mark.parametrize(
    ("workload", "form", "points", "tiles_across", "strip"),
    [
        (layer(56, 64, 64, 3, 3), "winograd", 36, 14, 1),
        (layer(56, 64, 64, 3, 3), "winograd:outputs=2", 16, 28, 1),
        (layer(56, 64, 64, 3, 3), "winograd:outputs=6", 64, 10, 1),
        (layer(56, 64, 64, 3, 3), "winograd:strip=4", 36, 14, 4),
        (layer(7, 16, 24, 3, 3), "winograd", 36, 2, 2),  # too few tiles in one row of them
        (layer(20, 8, 12, 5, 5), "winograd", 36, 10, 1),
        (layer(20, 8, 12, 1, 7), "winograd", 8, 10, 1),
        (layer(20, 8, 12, 7, 1), "winograd", 8, 20, 1),
    ],
    ids=str,
)
def test_workspace_is_that_of_one_strip(
    workload: Conv2dWorkload, form: str, points: int, tiles_across: int, strip: int
) -> None:
    plan = plan_kernel(workload, SIMD, form)
    assert plan.knobs["strip"] == strip
    per_channel = points * strip * tiles_across * 4
    transformed = -(-per_channel * workload.in_channels // 64) * 64
    assert plan.workspace_bytes == transformed + per_channel * workload.out_channels
    assert plan.packed.elements >= points * workload.in_channels * workload.out_channels


def test_fewer_products_than_the_definition() -> None:
    workload = layer(56, 64, 64, 3, 3)
    for outputs, pixels in ((2, 56), (4, 56), (6, 60)):
        plan = plan_kernel(workload, SIMD, f"winograd:outputs={outputs}")
        assert plan.macs == (outputs + 2) ** 2 * (pixels // outputs) ** 2 * 64 * 64


def test_threads_share_strips_or_the_steps_of_the_only_one() -> None:
    strips = plan_kernel(layer(28, 16, 32, 3, 3), SIMD, "winograd")
    whole = plan_kernel(layer(7, 16, 32, 3, 3), SIMD, "winograd")
    kernels = compile_plans({"strips": strips, "whole": whole}, SIMD).kernels
    assert [stage.extent for stage in kernels["strips"].stages] == [7]
    assert all(buffer.per_thread for buffer in kernels["strips"].buffers)
    channels, points, outputs = (stage.extent for stage in kernels["whole"].stages)
    assert (channels, points, outputs) == (16 // 4, 36, 32 // 4)
    assert not any(buffer.per_thread for buffer in kernels["whole"].buffers)


def test_short_sums_are_more_accurate() -> None:
    workload = layer(14, 256, 256, 3, 3)
    errors = [
        plan_kernel(workload, SIMD, f"winograd:c_block={size}").expected_error
        for size in (16, 64, 256)
    ]
    assert errors == sorted(errors)
    assert errors[0] < errors[2] / 2
