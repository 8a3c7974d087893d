"""Winograd's algorithm: what it refuses, its strips, its workspace and its stages."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schedules.algorithms import REGISTRY, Unsupported
from schedules.algorithms.winograd.domain import Domain
from schedules.layer.workload import Conv2dWorkload
from schedules.lower.memory import align
from schedules.plan.choice import Choice
from schedules.plan.plan import Plan
from schedules.plan.planner import plan_kernel
from schedules.plan.stored_kernels import compile_plans
from schedules.target.simd import PRESETS, Simd
from tests.support.kernels import Case, HostKernel

SIMD = PRESETS["cortex-a76"]
HOST = Simd.named("host")


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
        (layer(56, 64, 64, 3, 3), "winograd", 36, 14, 2),
        (layer(56, 64, 64, 3, 3), "winograd:outputs=2", 16, 28, 1),
        (layer(56, 64, 64, 3, 3), "winograd:outputs=6", 64, 10, 2),
        (layer(14, 64, 64, 3, 3), "winograd:outputs=5", 49, 3, 3),
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
    """Points are a cache line further apart than they have to be, in each block of channels."""
    plan = plan_kernel(workload, SIMD, form)
    assert plan.knobs["strip"] == strip
    per_channel, between = points * strip * tiles_across * 4, points * 64
    blocks = workload.in_channels // plan.knobs["c_block"]
    transformed = align(per_channel * workload.in_channels + blocks * between)
    channels = workload.out_channels // plan.knobs["parts"]
    assert plan.workspace_bytes == transformed + per_channel * channels + between
    assert plan.packed.elements >= points * workload.in_channels * workload.out_channels


@pytest.mark.parametrize(
    ("workload", "form", "points", "tiles", "panel"),
    [
        (layer(14, 256, 256, 3, 3), "", 36, 16, 16),
        (layer(14, 256, 256, 3, 3), ":strip=1:c_block=32", 36, 4, 16),
        (layer(28, 32, 40, 3, 3), ":outputs=2:panel=8", 16, 98, 8),
        (layer(7, 16, 10, 5, 5), "", 36, 16, 10),  # no more channels than there are
        (layer(20, 8, 12, 1, 7), "", 8, 200, 12),
    ],
    ids=str,
)
@pytest.mark.parametrize("weights", ["panels", "in_place"])
def test_workspace_has_the_transformed_weights_of_one_panel(
    workload: Conv2dWorkload, form: str, points: int, tiles: int, panel: int, weights: str
) -> None:
    plan = plan_kernel(workload, SIMD, f"winograd:weights={weights}{form}")
    size, channels, taps = plan.knobs["c_block"], workload.in_channels, workload.weight_shape[1:3]
    blocks, line = channels // size, points * 16
    v = tiles * points * channels + blocks * line
    m = tiles * points * panel + line
    u = points * size * plan.knobs["panel"] + line
    wt = taps[0] * taps[1] * size * plan.knobs["panel"] if weights == "in_place" else 0
    assert plan.workspace_bytes == 4 * (v + m + u + wt)
    if weights == "in_place":  # which has all that panels have
        kernel = compile_plans({"kernel": plan}, SIMD).kernels["kernel"]
        assert kernel.workspace_bytes == plan.workspace_bytes


@pytest.mark.parametrize("weights", ["transformed", "panels", "in_place"])
@pytest.mark.parametrize(
    ("workload", "images"),
    [
        (layer(7, 16, 10, 5, 5, batch=2), 2),  # of which rows of tiles are at both borders
        (layer(7, 20, 33, 3, 3, batch=3, residual=True), 3),
        (layer(20, 8, 12, 1, 7, batch=2, activation="relu"), 2),
    ],
    ids=str,
)
def test_whole_images_make_up_one_strip(
    workload: Conv2dWorkload, images: int, weights: str, tmp_path: Path
) -> None:
    """Weights are read, or transformed, once for all of them."""
    form = f"winograd:weights={weights}:outputs=2:strip={workload.out_height}"
    plan = plan_kernel(workload, HOST, form)
    domain = Domain.of(workload, plan.knobs)
    assert (domain.strips, domain.images) == (1, images)
    kernel, case = HostKernel(plan, HOST, tmp_path), Case.random(workload)
    whole = kernel(case)
    case.check(whole, plan)
    np.testing.assert_array_equal(kernel(case, threads=2, pieces=3), whole)
    assert kernel.kernel.workspace_bytes == plan.workspace_bytes


def test_weights_in_place_are_not_held() -> None:
    workload = layer(14, 64, 40, 3, 3)
    held = {
        weights: plan.held_bytes - plan.workspace_bytes
        for weights in ("transformed", "panels", "in_place")
        for plan in [plan_kernel(workload, SIMD, f"winograd:weights={weights}:panel=8")]
    }
    taps = 64 * 40 * 4
    assert held == {"transformed": 36 * taps + 160, "panels": 9 * taps + 160, "in_place": 0}


def test_records_without_the_knob_hold_transformed_weights() -> None:
    plan = plan_kernel(layer(14, 64, 40, 3, 3), SIMD, "winograd:weights=transformed")
    knobs = {name: value for name, value in plan.knobs.items() if name != "weights"}
    old = Plan.of(Choice.of("winograd", knobs), plan.layer, SIMD)
    assert (old.knobs, old.parts, old.cost) == (plan.knobs, plan.parts, plan.cost)


@pytest.mark.parametrize(
    ("target", "size", "channels", "weights"),
    [
        ("sapphirerapids", 14, 256, "panels"),  # 9.4 MB of them and more would come from memory
        ("sapphirerapids", 56, 64, "transformed"),  # they stay in the L2 cache
        ("cortex-a76", 14, 256, "transformed"),  # read for one strip
        ("cortex-a76", 7, 512, "transformed"),  # likewise
        ("znver4", 28, 128, "transformed"),  # they come fast from the third cache
        ("cortex-a53", 28, 128, "transformed"),  # it would wait for V
    ],
)
def test_weights_that_leave_the_cache_are_transformed_in_the_kernel(
    target: str, size: int, channels: int, weights: str
) -> None:
    plan = plan_kernel(layer(size, channels, channels, 3, 3), PRESETS[target])
    assert (plan.algorithm, plan.knobs["weights"]) == ("winograd", weights)


@pytest.mark.parametrize(
    ("target", "size", "channels", "strip"),
    [
        ("cortex-a76", 28, 128, 7),  # 2.4 MB of weights would come from memory for each strip
        ("cortex-a53", 14, 256, 4),
        ("znver4", 28, 128, 1),  # they come fast from the third cache; V and M would, too
        ("sapphirerapids", 56, 64, 1),  # they stay in the L2 cache
        ("cortex-a76", 56, 64, 2),  # V and M of more rows would be more than the weights
    ],
)
def test_strips_for_which_weights_are_read(
    target: str, size: int, channels: int, strip: int
) -> None:
    """As few rows as fill a tile, or so many that weights are read less often."""
    workload = layer(size, channels, channels, 3, 3)
    plan = plan_kernel(workload, PRESETS[target], "winograd:weights=transformed:outputs=4")
    assert plan.knobs["strip"] == strip


@pytest.mark.parametrize("size", [11, 12, 13, 14, 15, 16, 28, 55])
def test_tiles_of_five_outputs_where_they_fit(size: int) -> None:
    """Three across 13 to 15 pixels, where tiles of four take four."""
    forms = REGISTRY.get("winograd").forms(layer(size, 256, 256, 3, 3))
    assert (5 in {form["outputs"] for form in forms}) == (size in (13, 14, 15, 55))


@pytest.mark.parametrize(("target", "columns"), [("znver4", 9), ("skylake", 5), ("cortex-a76", 5)])
def test_nine_tiles_are_multiplied_at_once(target: str, columns: int) -> None:
    """Where loads are cheap enough."""
    workload = layer(14, 256, 256, 3, 3)
    plan = plan_kernel(workload, PRESETS[target], "winograd:outputs=5:strip=3")
    assert plan.knobs["columns"] == columns


@pytest.mark.parametrize(
    ("target", "size", "strip"),
    [
        *(("cortex-a76", size, strip) for size, strip in ((7, 2), (28, 7), (56, 7), (112, 4))),
        *(("sapphirerapids", size, strip) for size, strip in ((28, 7), (52, 4), (56, 2), (112, 1))),
    ],
)
def test_strips_for_which_weights_are_transformed_once(target: str, size: int, strip: int) -> None:
    """All rows of few tiles, else the fewest equal strips of enough tiles."""
    plan = plan_kernel(layer(size, 512, 512, 3, 3), PRESETS[target], "winograd:weights=panels")
    assert plan.knobs["strip"] == strip


def test_fewer_products_than_the_definition() -> None:
    workload = layer(56, 64, 64, 3, 3)
    for outputs, pixels in ((2, 56), (4, 56), (6, 60)):
        plan = plan_kernel(workload, SIMD, f"winograd:outputs={outputs}")
        assert plan.macs == (outputs + 2) ** 2 * (pixels // outputs) ** 2 * 64 * 64


@pytest.mark.parametrize(
    ("size", "cores", "parts"),
    [(28, 1, 1), (28, 2, 1), (20, 2, 2), (20, 4, 4), (32, 4, 1), (7, 4, 2)],
)
def test_threads_share_parts_of_all_strips(size: int, cores: int, parts: int) -> None:
    """As few as make the shares even; each thread computes the V of its own."""
    simd = replace(SIMD, cores=cores)
    plan = plan_kernel(layer(size, 16, 64, 3, 3), simd, "winograd:strip=1:panel=8")
    assert plan.knobs["parts"] == parts
    kernel = compile_plans({"kernel": plan}, simd).kernels["kernel"]
    strips = -(-size // 4)
    assert [(stage.extent, stage.whole) for stage in kernel.stages] == [
        (strips * plan.knobs["parts"], plan.knobs["parts"] > 1)
    ]
    assert all(buffer.per_thread for buffer in kernel.buffers)


def test_every_plan_can_be_made_again_from_its_knobs() -> None:
    """Also one with as many parts as only its own tiles make."""
    simd = replace(PRESETS["znver4"], cores=2)
    plan = plan_kernel(layer(14, 96, 208, 3, 3), simd, "winograd:outputs=5")
    assert plan.knobs["parts"] == 13
    assert Plan.of(plan.choice, plan.workload, simd).knobs == plan.knobs


def test_threads_share_panels_that_transform_their_weights() -> None:
    plan = plan_kernel(layer(14, 64, 40, 3, 3), SIMD, "winograd:weights=in_place:panel=16")
    kernel = compile_plans({"kernel": plan}, SIMD).kernels["kernel"]
    assert [(stage.extent, stage.whole) for stage in kernel.stages] == [(3, True)]
    assert all(buffer.per_thread for buffer in kernel.buffers)
    assert {buffer.name for buffer in kernel.buffers} == {"V", "M", "U", "WT"}


def test_short_sums_are_more_accurate() -> None:
    workload = layer(14, 256, 256, 3, 3)
    errors = [
        plan_kernel(workload, SIMD, f"winograd:c_block={size}").expected_error
        for size in (16, 64, 256)
    ]
    assert errors == sorted(errors)
    assert errors[0] < errors[2] / 2
