"""Kernels of int8 layers against sums in 64 bits: every element is the same."""

from __future__ import annotations

import platform
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schedules.algorithms import Unsupported
from schedules.kernel import depthwise_tiles
from schedules.layer.workload import Conv2dWorkload
from schedules.lower.c_abi import assembly
from schedules.plan.plan import Plan
from schedules.plan.planner import Limits, plan_kernel
from schedules.target.cores import AVX_VNNI, VNNI
from schedules.target.simd import PRESETS, Simd
from scripts.board.board import Board
from tests.support.assembly import inner_loops
from tests.support.kernels import HostKernel, run_on_board
from tests.support.quantised import QuantisedCase

HOST = Simd.named("host")
#: What this machine can run: its own instructions, and on x86-64 also those of AVX2 alone.
RUNNABLE = [HOST] + [PRESETS["x86-64-v3"]] * (platform.machine() == "x86_64")
#: Zero points of input and output.
ZEROS = ((0, -5), (-128, 127), (127, -128))


def layer(
    size: int, channels: tuple[int, int], kernel: int, padding: str = "SAME", **more: Any
) -> Conv2dWorkload:
    """An int8 workload in few words."""
    for both in ("stride", "dilation"):
        if both in more:
            more[f"{both}_height"] = more[f"{both}_width"] = more.pop(both)
    types = {"dtype": "int8", "weight_dtype": "int8", "rounding": "xnn_fp32"}
    return Conv2dWorkload.with_padding(
        padding, in_height=size, in_width=size + 2, in_channels=channels[0],
        out_channels=channels[1], kernel_height=kernel, kernel_width=kernel, **types, **more,
    )  # fmt: skip


#: Each with what it is there for.
LAYERS = {
    "whole_words": layer(9, (16, 33), 3, activation="relu6"),
    "pointwise": layer(7, (64, 72), 1),
    "two_vectors_of_eight": layer(5, (12, 16), 3, dilation=2),
    "two_bytes_in_the_last_word": layer(6, (130, 10), 1),
    "two_words_the_last_not_full": layer(9, (6, 17), 3),
    "one_byte_in_the_last_word": layer(6, (13, 8), 3, batch=2),
    "first_layer": layer(11, (3, 16), 3, stride=2),
    "one_channel": layer(8, (1, 8), 3, activation="relu"),
    "one_channel_of_five_columns": layer(5, (1, 8), 5),
    "dilated": layer(9, (24, 12), 3, dilation=2),
    "depthwise": layer(9, (72, 72), 3, groups=72),
    "depthwise_with_a_tail": layer(11, (19, 19), 3, groups=19, stride=2, activation="relu6"),
    "depthwise_of_five_rows": layer(7, (8, 16), 5, groups=8),
    "unpadded": layer(9, (8, 12), 3, padding="VALID", stride=2),
    "residual": layer(7, (32, 24), 1, residual=True),
    "residual_and_clamps": layer(
        6, (16, 17), 3, activation="relu6", residual=True, output_activation="relu"
    ),
    "depthwise_residual": layer(8, (24, 24), 3, groups=24, residual=True),
}


def algorithm_of(name: str) -> str:
    """What takes weights of -128 wherever they are."""
    return "depthwise:products=single" if LAYERS[name].is_depthwise else "indirect"


def case_of(workload: Conv2dWorkload, simd: Simd, zeros: tuple[int, int]) -> QuantisedCase:
    return QuantisedCase.random(workload, simd, 1, *zeros)


@pytest.mark.parametrize("simd", RUNNABLE, ids=lambda simd: str(simd.name))
@pytest.mark.parametrize("name", LAYERS)
def test_is_exact(name: str, simd: Simd, tmp_path: Path) -> None:
    kernel = HostKernel(plan_kernel(LAYERS[name], simd, algorithm_of(name)), simd, tmp_path)
    for zeros in ZEROS:
        case = case_of(LAYERS[name], simd, zeros)
        case.check(kernel(case))


@pytest.mark.parametrize(("cpu", "weights"), [("cortex-a53", "elements"), ("cortex-a76", "packed")])
def test_is_exact_on_the_board(cpu: str, weights: str, arm_board: Board, tmp_path: Path) -> None:
    plans = {}
    for name, workload in LAYERS.items():
        form = "" if workload.is_depthwise else f":weights={weights}"
        plans[name] = plan_kernel(workload, PRESETS[cpu], algorithm_of(name) + form)
    cases = {
        name: case_of(LAYERS[name], PRESETS[cpu], ZEROS[number % 3])
        for number, name in enumerate(LAYERS)
    }
    outputs = run_on_board(cpu, plans, cases, tmp_path)
    for name, case in cases.items():
        case.check(outputs[name])


#: Layers whose products may be added in pairs, and one of several panels, borders and images.
PAIRED_LAYERS = {
    **{name: workload for name, workload in LAYERS.items() if workload.is_depthwise},
    "depthwise_of_four_taps": layer(6, (33, 33), 2, groups=33, batch=2),
    "depthwise_of_two_columns": replace(layer(6, (16, 16), 3, groups=16), in_width=2, pad_right=1),
    **{name: LAYERS[name] for name in ("whole_words", "pointwise")},
    "one_pixel": replace(layer(1, (48, 21), 1), in_width=1),
    "strided": layer(9, (48, 20), 3, stride=2, batch=2),
    "dilated": layer(9, (32, 5), 3, dilation=2, activation="relu"),
}


def with_largest_pairs(case: QuantisedCase) -> QuantisedCase:
    """Some channels and pixels have the largest products that fit in pairs into 16 bits."""
    x, weights = case.x.copy(), case.weights.copy()
    x[:, ::2] = -128
    apart = 1 if case.workload.is_depthwise else 8
    largest = np.repeat(np.array([-128, -127], np.int8), apart)
    weights[::5] = np.resize(largest, weights[0].size).reshape(weights.shape[1:])
    return replace(case, x=x, weights=weights)


def test_sums_of_pairs_are_exact_on_the_board(arm_board: Board, tmp_path: Path) -> None:
    simd = PRESETS["cortex-a53"]
    plans = {name: plan_kernel(workload, simd) for name, workload in PAIRED_LAYERS.items()}
    for name, plan in plans.items():
        taps = depthwise_tiles.unrolled_taps(plan.layer)
        whole = (plan.layer.kernel_height, plan.layer.kernel_width)
        assert plan.packed.adds_pairs == (not plan.layer.is_depthwise or taps == whole), name
    cases = {
        name: with_largest_pairs(
            QuantisedCase.random(workload, simd, 1, *ZEROS[number % 3], least=-127)
        )
        for number, (name, workload) in enumerate(PAIRED_LAYERS.items())
    }
    outputs = run_on_board("cortex-a53", plans, cases, tmp_path)
    for name, case in cases.items():
        case.check(outputs[name])


#: Layers of uint8 whose sums are spread.
SPREAD_LAYERS = ("whole_words", "pointwise", "one_pixel", "strided", "dilated")


def as_unsigned(workload: Conv2dWorkload) -> Conv2dWorkload:
    return replace(workload, dtype="uint8", weight_dtype="uint8", rounding="xnn_rndnu16")


def test_spread_sums_of_uint8_are_exact_on_the_board(arm_board: Board, tmp_path: Path) -> None:
    """And those of others, which are multiplied as int8 too."""
    simd = PRESETS["cortex-a53"]
    workloads = {name: as_unsigned(PAIRED_LAYERS[name]) for name in SPREAD_LAYERS}
    plans = {name: plan_kernel(workload, simd) for name, workload in workloads.items()}
    assert all(plan.knobs["weights"] == "spread" for plan in plans.values())
    for name in ("two_bytes_in_the_last_word", "one_byte_in_the_last_word", "first_layer"):
        plans[name] = plan_kernel(as_unsigned(LAYERS[name]), simd, "indirect")
    cases = {
        name: QuantisedCase.random(plan.layer, simd, 1, *ZEROS[number % 3], least=-127)
        for number, (name, plan) in enumerate(plans.items())
    }
    outputs = run_on_board("cortex-a53", plans, cases, tmp_path)
    for name, case in cases.items():
        case.check(outputs[name])


#: Layers that matrices serve: of one step and several, with odd rows, borders, strides and panels.
PAIRED_PIXELS = {
    "pointwise": LAYERS["pointwise"],
    "odd_pixels": layer(9, (16, 33), 3, activation="relu6"),
    "odd_channels": layer(7, (24, 21), 3, batch=2),
    "one_pixel": replace(layer(1, (48, 20), 1), in_width=1),
    "one_step": layer(5, (8, 7), 3, stride=2),
    "strided": layer(11, (40, 8), 3, stride=2),
    "strided_pointwise": layer(9, (56, 40), 1, stride=2, batch=2),
    "dilated": layer(9, (32, 5), 3, dilation=2, activation="relu"),
    "unpadded": layer(9, (8, 12), 3, padding="VALID", stride=2),
    "wide_kernel": layer(7, (8, 18), 5),
    "four_steps": layer(6, (32, 12), 2, padding="VALID"),
}


def test_products_of_matrices_are_exact_on_the_board(arm_board: Board, tmp_path: Path) -> None:
    simd = PRESETS["cortex-a710"]
    assert plan_kernel(LAYERS["pointwise"], simd).knobs["weights"] == "matrices"
    form = "indirect:weights=matrices"
    layers = PAIRED_PIXELS | {
        f"{name}_unsigned": as_unsigned(PAIRED_PIXELS[name])
        for name in ("pointwise", "odd_pixels", "one_pixel", "strided", "four_steps")
    }
    plans = {name: plan_kernel(layer_, simd, form) for name, layer_ in layers.items()}
    cases = {
        name: case_of(workload, simd, ZEROS[number % 3])
        for number, (name, workload) in enumerate(layers.items())
    }
    outputs = run_on_board("cortex-a710", plans, cases, tmp_path)
    for name, case in cases.items():
        case.check(outputs[name])


@pytest.mark.parametrize(("channels", "k_block"), [(24, 3), (40, 1), (48, 2), (64, 4)])
def test_blocks_of_matrices_are_whole_vectors(channels: int, k_block: int) -> None:
    plan = plan_kernel(layer(16, (channels, 16), 3), PRESETS["cortex-a710"])
    assert (plan.knobs["weights"], plan.knobs["k_block"]) == ("matrices", k_block)


def test_matrices_of_few_steps_spill_no_addresses() -> None:
    simd = PRESETS["cortex-a710"]
    plan = plan_kernel(layer(16, (32, 16), 3), simd)
    code = assembly(plan.schedule(simd), simd)
    assert "\tsmmla\t" in code
    assert "\tstr\tx" not in code


@pytest.mark.parametrize(("channels", "k_block"), [(40, 10), (56, 14), (72, 9), (64, 8)])
def test_words_that_fill_no_vectors_are_equal_blocks(channels: int, k_block: int) -> None:
    plan = plan_kernel(layer(16, (channels, 16), 3), PRESETS["cortex-a76"])
    assert (plan.knobs["weights"], plan.knobs["k_block"]) == ("packed", k_block)


def test_equal_blocks_take_few_instructions_beside_products() -> None:
    """In vectors and a rest, 40 channels took 1.4 times as many, with addresses spilt."""
    simd = PRESETS["cortex-a76"]
    plan = plan_kernel(layer(16, (40, 16), 3), simd)
    loops = list(inner_loops(assembly(plan.schedule(simd), simd)))
    products = [sum("sdot" in line for line in loop.instructions) for loop in loops]
    interior = min(
        (loop for loop, count in zip(loops, products, strict=True) if count == max(products)),
        key=lambda loop: len(loop.instructions),
    )
    assert len(interior.instructions) < 1.15 * max(products)
    assert interior.spills == 0


def test_matrices_of_uint8_take_as_many_products_as_of_int8() -> None:
    simd, signed = PRESETS["cortex-a710"], layer(16, (64, 64), 1)
    counts = []
    for workload, name in ((signed, "smmla"), (as_unsigned(signed), "ummla")):
        plan = plan_kernel(workload, simd)
        assert plan.knobs["weights"] == "matrices"
        loops = list(inner_loops(assembly(plan.schedule(simd), simd)))
        main = max(loops, key=lambda loop: len(loop.instructions))
        assert main.spills == 0
        counts.append(sum(line.startswith(name) for line in main.instructions))
    assert counts[0] == counts[1] > 0


def test_spread_sums_take_three_instructions_for_sixteen_products() -> None:
    simd = PRESETS["cortex-a72"]
    plan = plan_kernel(LAYERS["pointwise"], simd)
    assert plan.knobs["weights"] == "spread"
    assert plan.packed.word == 16
    assert plan.packed.weight_bytes == 64 * 72
    code = assembly(plan.schedule(simd), simd)
    counts = {name: code.count(f"\t{name}\t") for name in ("smull", "smlal2", "sadalp", "sdot")}
    assert counts["smull"] == counts["smlal2"] == counts["sadalp"] > 0
    assert counts["sdot"] == 0


@pytest.mark.parametrize("target", ["cortex-a53", "cortex-a72"])
def test_spread_sums_of_uint8_take_one_instruction_more_for_a_vector(target: str) -> None:
    simd = PRESETS[target]
    plan = plan_kernel(as_unsigned(layer(16, (128, 64), 1)), simd)
    assert (plan.knobs["weights"], plan.knobs["k_block"]) == ("spread", 4)
    loops = inner_loops(assembly(plan.schedule(simd), simd))
    main = max(loops, key=lambda loop: len(loop.instructions)).instructions
    counts = {
        name: sum(line.split()[0] == name for line in main)
        for name in ("smull", "smlal2", "sadalp", "eor", "umull")
    }
    # Two pixels by eight channels.
    assert counts["smull"] == counts["smlal2"] == counts["sadalp"] == 8 * counts["eor"] > 0
    assert counts["umull"] == 0


def test_first_layers_make_words_once_for_all_channels() -> None:
    plan = plan_kernel(layer(224, (3, 32), 3, stride=2), PRESETS["cortex-a76"])
    assert (plan.knobs["columns"], plan.knobs["panel"]) == (2, 32)


def test_elements_are_multiplied_from_lanes() -> None:
    simd = PRESETS["cortex-a72"]
    plan = plan_kernel(layer(16, (24, 16), 1), simd)
    assert plan.knobs["weights"] == "elements"
    code = assembly(plan.schedule(simd), simd)
    products = [line for line in code.splitlines() if line.startswith(("\tsmlal", "\tsmull\tv"))]
    lanes = [line for line in products if ".h[" in line]
    # But for what widens elements, all products are of a lane, and half of them of upper halves.
    assert len(lanes) == sum(".4s" in line for line in products) > 0
    assert 2 * sum(line.startswith("\tsmlal2") for line in lanes) == len(lanes)
    assert "\tdup\t" not in code


def test_pairs_of_taps_take_one_widening_addition() -> None:
    simd = PRESETS["cortex-a53"]
    workload = layer(16, (16, 16), 3, "VALID", groups=16)
    code = assembly(plan_kernel(workload, simd).schedule(simd), simd)
    counts = {name: code.count(f"\t{name}\t") for name in ("smull", "smlal", "saddw", "sxtl")}
    # Nine taps are four pairs and one.
    assert 4 * counts["smull"] == 5 * counts["smlal"] > 0
    assert counts["saddw"] == 2 * counts["smull"]
    assert counts["sxtl"] == 0


def test_who_knows_of_weights_of_128_gets_no_sums_of_pairs() -> None:
    limits = Limits(adds_pairs=False)
    depthwise = plan_kernel(LAYERS["depthwise"], PRESETS["cortex-a76"], limits=limits)
    assert depthwise.knobs["products"] == "single"
    assert plan_kernel(LAYERS["pointwise"], PRESETS["cortex-a53"]).packed.word == 16
    dense = plan_kernel(LAYERS["pointwise"], PRESETS["cortex-a53"], limits=limits)
    assert dense.packed.word == 1
    with pytest.raises(Unsupported, match="weights of -128 pass 16 bits"):
        plan_kernel(LAYERS["depthwise"], PRESETS["cortex-a76"], "depthwise:products=paired", limits)


@pytest.mark.parametrize(
    ("target", "instruction", "other"),
    [
        ("znver4", "vpdpbusd", "vpmaddwd"),
        ("x86-64-v4", "vpmaddwd", "vpdpbusd"),
        ("x86-64-v3", "vpmaddwd", "vpdpbusd"),
        ("alderlake", "vpdpbusd", "vpmaddwd"),
        ("cortex-a76", "sdot", "smull"),
        ("cortex-a53", "smull", "sdot"),
        ("cortex-a710", "sdot", "smmla"),
    ],
)
def test_multiplies_with_the_instructions_of_the_target(
    target: str, instruction: str, other: str
) -> None:
    simd = PRESETS[target]
    plan = plan_kernel(LAYERS["pointwise"], simd, "indirect:weights=packed")
    code = assembly(plan.schedule(simd), simd)
    assert f"\t{instruction}\t" in code
    assert f"\t{other}\t" not in code


def test_products_of_avx_vnni_stay_in_registers() -> None:
    simd = PRESETS["alderlake"]
    plan = plan_kernel(LAYERS["pointwise"], simd, "indirect")
    lines = assembly(plan.schedule(simd), simd).splitlines()
    products = [number for number, line in enumerate(lines) if "vpdpbusd" in line]
    sums = plan.knobs["columns"] * plan.knobs["panel"] // simd.lanes("int32")
    # A loop of two steps.
    assert len(products) == 2 * sums
    assert not any("rsp" in line for line in lines[products[0] : products[-1]])
    assert all("ymm" in lines[number] for number in products)


@pytest.mark.parametrize("name", ["whole_words", "two_bytes_in_the_last_word", "first_layer"])
def test_sums_of_vnni_in_short_vectors_are_exact(name: str, tmp_path: Path) -> None:
    """By the instructions of AVX-512 that AVX-VNNI has of its own, where this machine has those."""
    needed = {"avx512f", "avx512vl", VNNI}
    simd = PRESETS["alderlake"] if AVX_VNNI in HOST.features else PRESETS["x86-64-v3"]
    if needed <= HOST.features:
        attributes = tuple(f"+{feature}" for feature in sorted(needed))
        simd = replace(simd, features=simd.features | needed, mattr=attributes)
    kernel = HostKernel(plan_kernel(LAYERS[name], simd, "indirect"), simd, tmp_path)
    case = case_of(LAYERS[name], simd, ZEROS[1])
    case.check(kernel(case))


def test_images_of_other_sums_are_refused() -> None:
    without = Conv2dWorkload(4, 4, 8, 8, 1, 1, dtype="int8", weight_dtype="int8")
    with pytest.raises(Unsupported, match="no rule says"):
        plan_kernel(without, HOST, "indirect")
    swish = layer(4, (8, 8), 1, activation="swish")
    with pytest.raises(Unsupported, match="not linear"):
        plan_kernel(swish, HOST, "indirect")


def test_packed_bytes_are_those_of_weights_and_constants() -> None:
    plan: Plan = plan_kernel(LAYERS["one_byte_in_the_last_word"], HOST, "indirect")
    # 13 channels are 4 words, of 9 taps; 8 channels' bias and scales, and the parameters.
    assert plan.packed.weight_bytes == 9 * 16 * plan.packed.bias_elements
    assert plan.held_bytes == plan.packed.weight_bytes + 3 * 64
    assert np.prod(plan.packed.shape) == plan.packed.elements
