"""Weights that stay float16 in memory: the same sums, half the bytes, exact workspace."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from schedules.layer.block import Block
from schedules.layer.workload import Conv2dWorkload
from schedules.plan.plan import Plan
from schedules.plan.planner import plan_kernel, plans_within
from schedules.plan.stored_kernels import compile_plans
from schedules.target.simd import PRESETS, Simd
from tests.support.assembly import assembly_of
from tests.support.kernels import Case, HostKernel

HOST = Simd.named("host")
LAYER = Conv2dWorkload(
    9, 10, 24, 72, 3, 3, pad_top=1, pad_left=1, activation="relu", weight_dtype="float16"
)
MATRIX = Conv2dWorkload(1, 1, 250, 70, 1, 1, weight_dtype="float16")
CHANNELS = replace(LAYER, in_channels=40, out_channels=40, groups=40)
BLOCK = Block(
    (
        Conv2dWorkload(8, 8, 16, 48, 1, 1, activation="relu6", weight_dtype="float16"),
        replace(CHANNELS, in_height=8, in_width=8, in_channels=48, out_channels=48, groups=48),
        Conv2dWorkload(7, 7, 48, 20, 1, 1, weight_dtype="float16"),
    )
)
EACH = ":order=panels,rows,columns"


@pytest.mark.parametrize(
    ("workload", "choice"),
    [
        (LAYER, "indirect:weights=narrow"),
        (LAYER, f"indirect:weights=narrow{EACH}"),
        (LAYER, f"indirect:weights=in_place{EACH}"),
        (LAYER, "im2col_tiled:weights=narrow"),
        (LAYER, "kn2row_as:weights=narrow"),
        (CHANNELS, "depthwise:weights=narrow"),
    ],
)
def test_results_are_those_of_float32_weights_to_the_last_bit(
    workload: Conv2dWorkload, choice: str, tmp_path: Path
) -> None:
    narrow = plan_kernel(workload, HOST, choice)
    knobs = ":".join(f"{k}={v}" for k, v in {**narrow.knobs, "weights": "packed"}.items())
    packed = plan_kernel(workload, HOST, f"{narrow.algorithm}:{knobs}")
    assert (narrow.packed.dtype, packed.packed.dtype) == ("float16", "float32")
    assert narrow.packed.weight_bytes <= packed.packed.weight_bytes // 2
    case = Case.random(workload)
    result = HostKernel(narrow, HOST, tmp_path)(case)
    case.check(result, narrow)
    other = tmp_path / "packed"
    other.mkdir()
    np.testing.assert_array_equal(HostKernel(packed, HOST, other)(case), result)


INT8 = replace(LAYER, weight_dtype="int8")


@pytest.mark.parametrize(
    ("workload", "choice"),
    [
        (INT8, "indirect:weights=narrow"),
        (INT8, f"indirect:weights=narrow{EACH}"),
        (INT8, f"indirect:weights=in_place{EACH}"),
        (replace(MATRIX, weight_dtype="int8"), "dense:weights=in_place"),
    ],
)
def test_int8_weights_take_a_quarter(workload: Conv2dWorkload, choice: str, tmp_path: Path) -> None:
    plan = plan_kernel(workload, HOST, choice)
    packed = plan_kernel(workload, HOST, f"{plan.algorithm}:weights=packed")
    assert plan.packed.weight_bytes <= packed.packed.weight_bytes // 4
    case = Case.random(workload)
    kernel = HostKernel(plan, HOST, tmp_path)
    assert kernel.kernel.workspace_bytes == plan.workspace_bytes
    case.check(kernel(case), plan)


def test_other_algorithms_pack_int8_weights_as_floats(tmp_path: Path) -> None:
    for number, choice in enumerate(("im2col", "winograd", "depthwise")):
        layer = replace(CHANNELS if choice == "depthwise" else LAYER, weight_dtype="int8")
        plan = plan_kernel(layer, HOST, choice)
        assert plan.packed.dtype == "float32"
        folder = tmp_path / str(number)
        folder.mkdir()
        case = Case.random(layer)
        case.check(HostKernel(plan, HOST, folder)(case), plan)


def panels_held(plan: Plan) -> int:
    (buffer,) = compile_plans({"kernel": plan}, HOST).kernels["kernel"].buffers
    assert buffer.size == plan.workspace_bytes
    return buffer.size // (plan.layer.reduction * plan.knobs["panel"] * 4)


def test_one_panel_at_a_time_where_it_serves_the_whole_image() -> None:
    one = plan_kernel(LAYER, HOST, f"indirect:weights=narrow:panel=16{EACH}")
    assert panels_held(one) == 1
    every = plan_kernel(LAYER, HOST, "indirect:weights=narrow:panel=16:order=rows,columns,panels")
    assert panels_held(every) == 5


def test_many_weights_are_converted_panel_by_panel() -> None:
    large = replace(LAYER, in_channels=512, out_channels=512)
    for name in ("cortex-a53", "x86-64-v3"):
        knobs = plan_kernel(large, PRESETS[name], "indirect:weights=narrow").knobs
        assert knobs["order"] == "panels,rows,columns"


def test_a_block_of_layers_keeps_them_too() -> None:
    plan = plan_kernel(BLOCK, HOST, "fused_block")
    assert plan.knobs["weights"] == "narrow"
    assert [part.dtype for part in plan.parts] == ["float16"] * 3
    kernel = compile_plans({"kernel": plan}, HOST).kernels["kernel"]
    assert kernel.workspace_bytes == plan.workspace_bytes


@pytest.mark.parametrize("target", ["x86-64-v3", "x86-64-v4", "cortex-a53"])
@pytest.mark.parametrize(
    ("workload", "choice"),
    [(LAYER, "indirect:weights=narrow"), (MATRIX, "dense:weights=in_place")],
)
def test_vectors_are_converted_by_one_instruction(
    workload: Conv2dWorkload, choice: str, target: str
) -> None:
    text = assembly_of(plan_kernel(workload, PRESETS[target], choice), PRESETS[target])
    assert ("fcvtl" if target.startswith("cortex") else "vcvtph2ps") in text
    assert not re.search(r"\b(call|bl)\w*\s+__extendhfsf2", text)


@pytest.mark.parametrize("target", ["x86-64-v4", "cortex-a53"])
def test_weights_stay_narrow_where_that_is_hardly_slower(target: str) -> None:
    simd = PRESETS[target]
    matrix = plan_kernel(replace(MATRIX, in_channels=1280, out_channels=1000), simd)
    assert (matrix.algorithm, matrix.knobs["weights"]) == ("dense", "in_place")
    assert matrix.held_bytes == 0
    assert plan_kernel(CHANNELS, simd).knobs["weights"] == "narrow"
    large = replace(LAYER, in_height=56, in_width=56, in_channels=32, stride_height=2)
    assert plan_kernel(large, simd).knobs["weights"] in ("narrow", "in_place")


def test_weights_in_the_cache_that_serve_few_pixels_are_packed_as_float32() -> None:
    few_pixels = replace(LAYER, in_height=3, in_width=3, in_channels=256, stride_height=2)
    assert plan_kernel(few_pixels, PRESETS["x86-64-v4"]).packed.dtype == "float32"


def test_targets_that_cannot_convert_hold_float32() -> None:
    simd = replace(PRESETS["x86-64-v3"], features=frozenset({"avx2", "fma"}))
    for workload in (LAYER, MATRIX, CHANNELS, BLOCK):
        for plan in plans_within(workload, simd):
            assert {part.dtype for part in plan.parts} == {"float32"}
