"""Kernels that compute in float16, against float64 and the bound of their roundings."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from schedules.algorithms import Unsupported
from schedules.kernel.accuracy import definition_error
from schedules.layer.block import Block
from schedules.layer.workload import Conv2dWorkload
from schedules.plan.planner import plan_kernel
from schedules.target.simd import PRESETS
from scripts.board.board import Board
from tests.schedules.algorithms.fused_block.test_fused_block import (
    depthwise_block,
    inverted_residual,
    stem,
)
from tests.support.assembly import assembly_of, inner_loops
from tests.support.blocks import FUSED_BLOCK, BlockCase, plan_of
from tests.support.kernels import Case, run_on_board


def layer(
    size: int, channels: tuple[int, int], kernel: int, padding: str = "SAME", **more: Any
) -> Conv2dWorkload:
    """A float16 workload in few words."""
    for both in ("stride", "dilation"):
        if both in more:
            more[f"{both}_height"] = more[f"{both}_width"] = more.pop(both)
    types = {"dtype": "float16", "weight_dtype": "float16", **more}
    return Conv2dWorkload.with_padding(
        padding, in_height=size, in_width=size + 2, in_channels=channels[0],
        out_channels=channels[1], kernel_height=kernel, kernel_width=kernel, **types,
    )  # fmt: skip


DENSE = Conv2dWorkload(1, 3, 70, 33, 1, 1, dtype="float16", weight_dtype="float16")
WHOLE = layer(9, (16, 33), 3, activation="relu6")
ODD = layer(9, (13, 21), 3, stride=2, batch=2, activation="relu")
#: Each with what it is there for, and the algorithm that computes it.
LAYERS = {
    "whole_vectors": (WHOLE, "indirect"),
    "odd_channels_of_two_images": (ODD, "indirect"),
    "model_of_float32": (replace(WHOLE, weight_dtype="float32"), "indirect"),
    "pointwise": (layer(7, (64, 72), 1, activation="swish"), "indirect"),
    "weights_in_place": (layer(6, (24, 17), 3), "indirect:weights=in_place"),
    "float32_weights_in_place": (
        layer(6, (24, 17), 3, weight_dtype="float32"),
        "indirect:weights=in_place",
    ),
    "first_layer": (layer(11, (3, 16), 3, stride=2), "indirect"),
    "one_channel_unpadded": (layer(8, (1, 8), 3, padding="VALID"), "indirect"),
    "dilated": (layer(9, (24, 12), 3, dilation=2, activation="hard_swish"), "indirect"),
    "residual": (
        layer(5, (16, 24), 3, residual=True, output_activation="relu"),
        "indirect",
    ),
    "depthwise": (layer(9, (72, 72), 3, groups=72, activation="relu6"), "depthwise"),
    "depthwise_with_a_tail": (layer(11, (19, 19), 3, groups=19, stride=2), "depthwise"),
    "depthwise_of_five_rows": (layer(7, (8, 16), 5, groups=8), "depthwise"),
    "dense": (DENSE, "dense"),
    "dense_in_place": (DENSE, "dense:weights=in_place"),
    "im2col": (ODD, "im2col"),
    "im2col_tiled": (ODD, "im2col_tiled"),
    "mec": (ODD, "mec"),
    "mec_strip": (ODD, "mec_strip"),
    "winograd": (layer(9, (16, 24), 3, activation="relu6"), "winograd"),
    "winograd_odd_channels": (layer(7, (13, 21), 3, batch=2), "winograd"),
    "winograd_of_float32": (layer(6, (8, 40), 3, weight_dtype="float32"), "winograd"),
    "kn2row_aa": (layer(7, (13, 21), 3, activation="relu"), "kn2row_aa"),
    "kn2row_as": (layer(7, (13, 21), 3), "kn2row_as"),
    "kn2row": (layer(7, (13, 21), 3), "kn2row"),
}


def test_is_within_the_bound_on_the_board(arm_board: Board, tmp_path: Path) -> None:
    simd = PRESETS["cortex-a76"]
    plans = {
        name: plan_kernel(workload, simd, choice) for name, (workload, choice) in LAYERS.items()
    }
    cases = {name: Case.random(workload, 1) for name, (workload, _) in LAYERS.items()}
    outputs = run_on_board("cortex-a76", plans, cases, tmp_path)
    for name, case in cases.items():
        assert outputs[name].dtype == "float16"
        case.check(outputs[name], plans[name])


def in_half(block: Block) -> Block:
    """The same layers of float16, with the model's weights of either type."""
    first, *others = block.layers
    halves = [replace(layer, dtype="float16", weight_dtype="float16") for layer in others]
    return Block((replace(first, dtype="float16"), *halves))


#: With several row blocks and blocks of channels, tails of vectors, and steps of what they omit.
BLOCKS = {
    "inverted": (inverted_residual(9, (13, 72, 24)), {}),
    "residual": (inverted_residual((12, 7), (16, 96, 16), residual=True), {"strip_rows": 4}),
    "strided": (inverted_residual(11, (8, 51, 20), stride=2), {}),
    "channels_in_blocks": (inverted_residual(7, (24, 144, 40)), {"c_block": 48}),
    "without_producer": (depthwise_block(10, (40, 33), activation="relu"), {}),
    "stem": (stem(21, (3, 24, 16), stride=2), {}),
}


def test_blocks_are_within_the_bound_on_the_board(arm_board: Board, tmp_path: Path) -> None:
    simd, plans, cases = PRESETS["cortex-a76"], {}, {}
    for name, (block, fixed) in BLOCKS.items():
        half = in_half(block)
        plans[name] = plan_of(half, FUSED_BLOCK.default_knobs(half, simd, fixed))
        cases[name] = BlockCase.random(half)
    outputs = run_on_board("cortex-a76", plans, cases, tmp_path)
    for name, case in cases.items():
        assert outputs[name].dtype == "float16"
        case.check(outputs[name])


#: What networks spend their time in.
COMMON = (
    layer(56, (64, 64), 3),
    layer(28, (128, 128), 1),
    layer(14, (96, 576), 1),
    layer(56, (144, 144), 3, groups=144),
)


@pytest.mark.parametrize("target", ["cortex-a55", "cortex-a76"])
def test_multiplies_eight_halves_by_one_of_them(target: str) -> None:
    simd = PRESETS[target]
    for workload in COMMON:
        code = assembly_of(plan_kernel(workload, simd), simd)
        scalar = "8h" if workload.is_depthwise else r"h\[\d\]"
        assert re.search(rf"fmla\s+v\d+\.8h, v\d+\.8h, v\d+\.{scalar}", code)
        assert not re.search(r"fmla\s+v\d+\.4s", code)
        loops = [loop for loop in inner_loops(code) if loop.multiply_adds]
        assert loops
        assert not [loop for loop in loops if loop.spills], workload


@pytest.mark.parametrize("target", ["znver4", "x86-64-v3", "cortex-a72"])
def test_other_processors_are_refused(target: str) -> None:
    simd = PRESETS[target]
    for choice in ("auto", "indirect"):
        with pytest.raises(Unsupported, match=f"{target} has no arithmetic of float16"):
            plan_kernel(WHOLE, simd, choice)


def test_winograds_error_is_within_that_of_the_definition() -> None:
    """So the planner takes F(2x2, 3x3), the only form: larger tiles need more than 11 bits."""
    simd = PRESETS["cortex-a76"]
    for workload in (layer(56, (64, 64), 3), layer(14, (256, 256), 3)):
        plan = plan_kernel(workload, simd)
        assert (plan.algorithm, plan.knobs["outputs"]) == ("winograd", 2)
        assert plan.expected_error < definition_error(workload)


def test_weights_and_workspace_take_half_the_bytes() -> None:
    simd = PRESETS["cortex-a76"]
    half = plan_kernel(WHOLE, simd, "im2col:panel=16")
    single = replace(WHOLE, dtype="float32", weight_dtype="float32")
    full = plan_kernel(single, simd, "im2col:panel=16")
    assert half.packed.weight_bytes * 2 == full.packed.weight_bytes
    assert half.workspace_bytes * 2 == full.workspace_bytes
    assert half.expected_error == pytest.approx(full.expected_error * 2**13)
