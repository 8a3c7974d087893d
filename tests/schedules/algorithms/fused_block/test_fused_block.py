"""Chains of layers in one kernel against float64, over shapes around strips, blocks and tiles."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from schedules.algorithms import Unsupported
from schedules.algorithms.fused_block import knobs as fused_knobs
from schedules.algorithms.fused_block.fused_block import leaves_out
from schedules.algorithms.fused_block.strips import Strips
from schedules.kernel.knobs import Knobs
from schedules.kernel.patches import Taps
from schedules.kernel.tiles import fits_registers
from schedules.layer.block import Block
from schedules.layer.workload import Conv2dWorkload
from schedules.lower import c_abi
from schedules.target.simd import PRESETS, Simd
from tests.schedules.algorithms.test_algorithms import BOARDS, HOST, RUNNABLE, layer
from tests.support.assembly import inner_loops
from tests.support.blocks import FUSED_BLOCK, BlockCase, plan_of
from tests.support.kernels import HostKernel, run_on_board
from tests.support.turns import TURNS, of_turn


def depthwise_block(
    size: int | tuple[int, int],
    channels: tuple[int, int],
    kernel: int | tuple[int, int] = 3,
    padding: str = "SAME",
    activation: str = "relu6",
    batch: int = 1,
    residual: bool = False,
    last: str = "none",
    **more: Any,
) -> Block:
    """Depthwise -> pointwise in few words; ``more`` is of the depthwise layer."""
    inner, outer = channels
    common = {"batch": batch, "activation": activation}
    first = layer(size, (inner, inner), kernel, padding, groups=inner, **common, **more)
    second = layer(first.output_shape[1:3], (inner, outer), 1, batch=batch, activation=last)
    return Block((first, replace(second, residual=residual)))


def inverted_residual(
    size: int | tuple[int, int], channels: tuple[int, int, int], *rest: Any, **more: Any
) -> Block:
    """Pointwise -> depthwise -> pointwise."""
    first, *others = channels
    block = depthwise_block(size, (others[0], others[1]), *rest, **more)
    given = {name: more[name] for name in ("batch", "activation") if name in more}
    expand = layer(size, (first, others[0]), 1, **{"activation": "relu6", **given})
    return Block((expand, *block.layers))


def stem(size: int | tuple[int, int], channels: tuple[int, int, int], **more: Any) -> Block:
    """3x3 at stride 2 -> depthwise -> pointwise."""
    first = layer(size, channels[:2], 3, stride=2, activation="relu")
    return Block((first, *depthwise_block(first.output_shape[1:3], channels[1:], **more).layers))


#: Each with what it is there for, and knobs that differ from the defaults.
BLOCKS: dict[str, tuple[Block, dict[str, Any]]] = {
    "whole_strips": (inverted_residual(16, (8, 48, 16)), {}),
    "residual": (inverted_residual(14, (16, 96, 16), residual=True), {}),
    "odd_everything": (inverted_residual((15, 13), (9, 37, 11), residual=True), {}),
    "stride": (inverted_residual(17, (12, 40, 20), stride=2), {}),
    "large_kernel": (inverted_residual((13, 12), (5, 33, 7), 5), {}),
    "large_kernel_stride": (inverted_residual((15, 14), (8, 32, 24), 5, stride=2), {}),
    "batch": (inverted_residual(9, (6, 18, 6), batch=2, residual=True), {}),
    "hard_swish": (inverted_residual(10, (8, 24, 8), activation="hard_swish"), {}),
    "swish": (inverted_residual(10, (8, 24, 8), activation="swish", residual=True), {}),
    "no_activation": (inverted_residual(10, (8, 24, 8), activation="none", last="relu"), {}),
    "valid": (inverted_residual(12, (8, 24, 8), 3, "VALID"), {}),
    "dilated": (inverted_residual(12, (8, 24, 8), dilation=2), {}),
    "one_pixel": (inverted_residual(1, (5, 19, 3)), {}),
    "kernel_larger_than_image": (inverted_residual(2, (5, 19, 3), 7), {}),
    "several_blocks_of_channels": (
        inverted_residual(14, (16, 96, 20), residual=True),
        {"c_block": 32, "expand_panel": 16, "strip_rows": 4, "row_block": 2},
    ),
    "strips_beyond_the_image": (
        inverted_residual(11, (16, 96, 20)),
        {"c_block": 48, "expand_panel": 16, "strip_rows": 8, "row_block": 4},
    ),
    "strips_of_one_row": (
        inverted_residual(7, (16, 32, 20)),
        {"strip_rows": 1, "row_block": 1, "depthwise_rows": 1},
    ),
    "mobilenet_v1": (depthwise_block(14, (32, 64), last="relu6"), {}),
    "mobilenet_v1_stride": (depthwise_block((15, 17), (31, 65), stride=2, last="relu6"), {}),
    "depthwise_large_kernel": (depthwise_block((12, 9), (20, 9), 5, batch=2), {}),
    "depthwise_residual": (depthwise_block(9, (20, 20), residual=True), {}),
    "depthwise_rows_beyond_the_image": (
        depthwise_block(11, (33, 17)),
        {"strip_rows": 4, "row_block": 4},
    ),
    "depthwise_blocks_of_channels": (
        depthwise_block(9, (64, 17), residual=True),
        {"c_block": 16, "strip_rows": 2, "row_block": 2},
    ),
    "stem": (stem(33, (3, 24, 16)), {}),
    "stem_stride": (stem((29, 31), (3, 21, 9), stride=2), {}),
    "stem_of_many_channels": (stem(20, (24, 32, 16)), {"strip_rows": 4, "row_block": 2}),
}


def chosen(name: str, simd: Simd) -> tuple[Block, dict[str, Any]]:
    """A block, and its knobs on a target."""
    block, fixed = BLOCKS[name]
    return block, FUSED_BLOCK.default_knobs(block, simd, fixed)


def with_output_activation(block: Block) -> Block:
    last = replace(block.layers[-1], residual=True, output_activation="relu")
    return Block((*block.layers[:-1], last))


def check_on_host(block: Block, simd: Simd, knobs: Knobs, case: BlockCase) -> None:
    """Run a block whole and in pieces by several threads; check output and workspace."""
    with tempfile.TemporaryDirectory() as folder:
        kernel = HostKernel(plan_of(block, knobs), simd, Path(folder))
    whole = kernel(case)
    case.check(whole)
    assert (kernel(case, threads=2, pieces=3) == whole).all()
    assert kernel.kernel.workspace_bytes == FUSED_BLOCK.workspace_bytes(block, knobs)


def turns_of_blocks() -> list[Any]:
    """Every block on this machine's own vectors or on shorter ones, and on the others slow."""
    found = []
    for number, name in enumerate(BLOCKS):
        for place, simd in enumerate(RUNNABLE):
            marks = [] if number % len(RUNNABLE) == place else [pytest.mark.slow]
            found.append(pytest.param(name, simd, id=f"{simd.name}-{name}", marks=marks))
    return found


@pytest.mark.parametrize(("name", "simd"), turns_of_blocks())
def test_agrees_with_float64(name: str, simd: Simd) -> None:
    block, knobs = chosen(name, simd)
    assert FUSED_BLOCK.supports(block, simd) is None
    check_on_host(block, simd, knobs, BlockCase.random(block))


@pytest.mark.parametrize("name", ["residual", "several_blocks_of_channels", "mobilenet_v1"])
def test_adds_any_residual(name: str) -> None:
    block, knobs = chosen(name, HOST)
    block = with_output_activation(block)
    case = BlockCase.random(block, own_input=False)
    assert case.residual is not case.x
    check_on_host(block, HOST, knobs, case)


@TURNS
@pytest.mark.parametrize("cpu", BOARDS)
def test_agrees_with_float64_on_the_board(cpu: str, turns: bool, tmp_path: Path) -> None:
    simd = PRESETS[cpu]
    plans = {}
    names = of_turn(BLOCKS, cpu, BOARDS, turns)
    for name in names:
        block, fixed = BLOCKS[name]
        # Of what differs from the defaults, only the strips: tiles are of other vectors.
        fixed = {knob: value for knob, value in fixed.items() if knob != "expand_panel"}
        if len(block.layers) == 3 and "c_block" in fixed:
            fixed["expand_panel"] = 8
        plans[name] = plan_of(block, FUSED_BLOCK.default_knobs(block, simd, fixed))
    cases = {name: BlockCase.random(BLOCKS[name][0]) for name in names}
    outputs = run_on_board(cpu, plans, cases, tmp_path)
    for name, case in cases.items():
        case.check(outputs[name])


ACTIVATIONS = st.sampled_from(["none", "relu", "relu6", "relu_n1_to_1", "hard_swish", "swish"])


@st.composite
def geometries(draw: st.DrawFn) -> Block:
    """Small blocks of every kind that is served."""
    kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    dilation = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    least = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    stride = [draw(st.integers(1, min(3, span))) for span in least]
    height, width = (draw(st.integers(span, span + 9)) for span in least)
    first, inner, last = (draw(st.integers(low, 35)) for low in (1, 2, 1))
    block = depthwise_block(
        (height, width),
        (inner, last),
        kernel,
        draw(st.sampled_from(["SAME", "VALID"])),
        draw(ACTIVATIONS),
        draw(st.integers(1, 2)),
        draw(st.booleans()),
        draw(ACTIVATIONS),
        stride_height=stride[0],
        stride_width=stride[1],
        dilation_height=dilation[0],
        dilation_width=dilation[1],
    )
    producer = draw(st.sampled_from(["none", "pointwise", "dense"]))
    if producer == "none":
        return block
    taps = 1 if producer == "pointwise" else draw(st.integers(2, 3))
    assume(not leaves_out(block.layers[0]))
    expand = layer(
        (height, width),
        (first, inner),
        taps,
        batch=block.input_shape[0],
        activation=draw(ACTIVATIONS),
    )
    return Block((expand, *block.layers))


def tiles_that_fit(
    name: str, workload: Conv2dWorkload, taps: Taps, simd: Simd
) -> st.SearchStrategy[dict[str, Any]]:
    """Register tiles of one product that exist on the target, as knobs."""
    lanes = simd.lanes(workload.dtype)
    tiles = [
        (columns, vectors * lanes)
        for columns in range(1, 9)
        for vectors in range(1, 5)
        if fits_registers(workload, simd, taps, columns, vectors)
    ]
    return st.sampled_from(tiles).map(
        lambda tile: {f"{name}_columns": tile[0], f"{name}_panel": tile[1]}
    )


@st.composite
def knobs_that_fit(draw: st.DrawFn, block: Block, simd: Simd) -> dict[str, Any]:
    """Any of the knobs that go together, whose register tiles exist on the target."""
    choices = FUSED_BLOCK.knobs(block, simd)
    knobs = {name: draw(st.sampled_from(knob.choices)) for name, knob in choices.items()}
    *producers, depthwise, projection = block.layers
    knobs["depthwise_rows"] = draw(st.integers(1, 2)) if producers else 1
    knobs["row_block"] = knobs["depthwise_rows"] * draw(st.integers(1, 2))
    knobs["strip_rows"] = knobs["row_block"] * draw(st.integers(1, 3))
    taps = Taps(1, 1, knobs["c_block"], flat=False)
    knobs |= draw(tiles_that_fit("project", projection, taps, simd))
    for producer in producers:
        knobs |= draw(tiles_that_fit("expand", producer, Taps.of(producer, simd), simd))
        if knobs["c_block"] % knobs["expand_panel"]:
            knobs["c_block"] = depthwise.in_channels
    assert fused_knobs.misfit(block, knobs) is None
    return knobs


def check_any_geometry_and_knobs(data: st.DataObject) -> None:
    simd = data.draw(st.sampled_from(RUNNABLE), "simd")
    block = data.draw(geometries(), "block")
    knobs = data.draw(knobs_that_fit(block, simd), "knobs")
    check_on_host(block, simd, knobs, BlockCase.random(block))


@settings(max_examples=12)
@given(data=st.data())
def test_any_geometry_and_knobs(data: st.DataObject) -> None:
    check_any_geometry_and_knobs(data)


@pytest.mark.slow
@settings(max_examples=400)
@given(data=st.data())
def test_any_geometry_and_knobs_at_length(data: st.DataObject) -> None:
    check_any_geometry_and_knobs(data)


#: Image, channels, kernel, stride: the blocks of MobileNetV2 whose expanded tensors are largest,
#: and of EfficientNet-Lite with larger kernels.
INVERTED_RESIDUALS = [
    inverted_residual(112, (16, 96, 24), stride=2),
    inverted_residual(56, (24, 144, 24), residual=True),
    inverted_residual(28, (32, 192, 32), residual=True),
    inverted_residual(14, (96, 576, 96), residual=True),
    inverted_residual(56, (24, 144, 40), 5, stride=2),
    inverted_residual(28, (40, 240, 40), 5, residual=True),
]
SEPARABLE = [
    depthwise_block(112, (32, 64), last="relu6"),
    depthwise_block(112, (64, 128), stride=2, last="relu6"),
    depthwise_block(56, (128, 128), last="relu6"),
    depthwise_block(28, (256, 256), last="relu6"),
]
STEM = stem(224, (3, 32, 16))
NETWORK_BLOCKS = [*INVERTED_RESIDUALS, *SEPARABLE, STEM]


@pytest.mark.parametrize("target", ["host", "cortex-a53", "cortex-a76"])
def test_intermediates_take_a_fraction_of_their_memory(target: str) -> None:
    simd = Simd.named(target)
    for block in NETWORK_BLOCKS:
        knobs = FUSED_BLOCK.default_knobs(block, simd)
        workspace = FUSED_BLOCK.workspace_bytes(block, knobs)
        between = sum(layer.output_bytes for layer in block.layers[:-1])
        assert 4 * workspace < between, block.describe()
        assert workspace <= simd.l2_bytes * 3 // 4
        strips = Strips.of(block, knobs)
        if strips.c_blocks == 1:  # threads share row blocks: one thread computes no row twice
            assert strips.row_block * 2 <= block.layers[-1].out_height
            assert strips.macs == block.macs
        else:
            assert strips.count >= 2
            assert strips.macs <= (1 + fused_knobs.MAX_RECOMPUTED) * block.macs


def test_what_it_computes_moves_and_costs() -> None:
    """Two strips share three rows of E at stride 1, of which the padding is not computed."""
    block = inverted_residual(14, (16, 96, 16), residual=True)
    fixed = {"strip_rows": 7, "row_block": 7, "depthwise_rows": 1}
    knobs = FUSED_BLOCK.default_knobs(block, HOST, fixed)
    rows = 2 * (7 + 1)
    assert FUSED_BLOCK.macs(block, knobs) == block.macs + (rows - 14) * 14 * 16 * 96
    assert FUSED_BLOCK.moved_elements(block, knobs) == 0
    stages = FUSED_BLOCK.stages(block, HOST, knobs)
    assert sum(work.macs for work in stages) == FUSED_BLOCK.macs(block, knobs)
    # Few weights: every strip finds them in the cache.
    assert sum(work.memory_bytes for work in stages) == sum(la.weight_bytes for la in block.layers)
    assert sum(work.l3_bytes for work in stages) == 0
    blocked = {**knobs, "c_block": 32, "expand_panel": 16}
    assert FUSED_BLOCK.moved_elements(block, blocked) == 3 * 14 * 14 * 16
    expanded, depthwise = 9 * 14 * 32 * 4, 7 * 14 * 32 * 4
    assert FUSED_BLOCK.workspace_bytes(block, blocked) == expanded + depthwise
    assert FUSED_BLOCK.expected_error(block, blocked) < FUSED_BLOCK.expected_error(block, knobs)


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        (Block((layer(9, (8, 8), 1),) * 2), "is not depthwise"),
        (
            Block((layer(9, (8, 16), 3, groups=8), layer(9, (16, 4), 1))),
            "as many outputs as inputs",
        ),
        (Block((layer(9, (8, 8), 3, groups=8), layer(9, (8, 4), 3))), "is not pointwise"),
        (Block((layer(9, (8, 8), 3, groups=8), layer(9, (8, 4), 1, groups=2))), "is not pointwise"),
        (
            Block((layer(9, (8, 8), 1, groups=2), *depthwise_block(9, (8, 4)).layers)),
            "is grouped",
        ),
        (inverted_residual(9, (4, 8, 4), 1, stride=2), "leaves out rows or columns"),
        (inverted_residual(10, (4, 8, 4), 3, "VALID", stride=2), "leaves out rows or columns"),
        (
            Block((layer(9, (3, 4), 1), *inverted_residual(9, (4, 8, 4)).layers)),
            "more than one layer before",
        ),
        (depthwise_block(3000, (256, 1)), "its input of 2304000000 elements needs 64-bit indices"),
    ],
)
def test_what_it_does_not_serve(block: Block, reason: str) -> None:
    text = FUSED_BLOCK.supports(block, HOST)
    assert text is not None
    assert reason in text


@pytest.mark.parametrize(
    ("fixed", "reason"),
    [
        ({"strips": 3}, "has no knob 'strips'"),
        ({"strip_rows": 99}, "has no strip_rows = 99"),
        ({"strip_rows": 3, "row_block": 2}, "whole row blocks"),
        ({"row_block": 1, "depthwise_rows": 2}, "whole tiles"),
        ({"c_block": 48, "expand_panel": 32}, "whole panels"),
    ],
)
def test_knobs_that_do_not_go_together(fixed: dict[str, Any], reason: str) -> None:
    with pytest.raises(Unsupported, match=reason):
        FUSED_BLOCK.default_knobs(BLOCKS["residual"][0], HOST, fixed)


@TURNS
@pytest.mark.parametrize("target", BOARDS)
def test_inner_loops_do_not_spill(target: str, turns: bool) -> None:
    simd = PRESETS[target]
    for block in of_turn(NETWORK_BLOCKS, target, BOARDS, turns):
        knobs = FUSED_BLOCK.default_knobs(block, simd)
        assembly = c_abi.assembly(FUSED_BLOCK.schedule(block, simd, knobs), simd)
        loops = [loop for loop in inner_loops(assembly) if loop.multiply_adds]
        assert loops
        spilling = [loop for loop in loops if loop.spills]
        assert not spilling, f"{block.describe()} {knobs}: {spilling[0].instructions}"
