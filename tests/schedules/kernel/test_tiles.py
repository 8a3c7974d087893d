"""Default tiles: they fit, and follow the rule that their docstrings state."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest

from schedules.algorithms.indirect import Indirect, as_rows
from schedules.kernel.patches import Taps
from schedules.kernel.tiles import ORDERS, default_tile, fits_registers, tile_cost, vector_lanes
from schedules.layer.words import in_words
from schedules.layer.workload import Conv2dWorkload
from schedules.lower import c_abi
from schedules.plan.planner import plan_kernel
from schedules.target.simd import PRESETS, Simd
from tests.support.assembly import inner_loops
from tests.support.targets import TARGETS


def layer(size: int, channels: int, outputs: int, kernel: int = 3) -> Conv2dWorkload:
    return Conv2dWorkload.with_padding(
        "SAME",
        in_height=size,
        in_width=size,
        in_channels=channels,
        out_channels=outputs,
        kernel_height=kernel,
        kernel_width=kernel,
    )


LAYERS = [
    layer(56, 64, 64),
    layer(7, 512, 512),
    layer(1, 1024, 1001, 1),
    layer(13, 10, 17, 5),
    layer(224, 3, 32),
    layer(9, 1, 1),
]


@pytest.mark.parametrize("simd", TARGETS.values(), ids=lambda simd: simd.name)
@pytest.mark.parametrize("workload", LAYERS, ids=lambda workload: workload.describe())
def test_default_tiles_fit_into_the_registers(workload: Conv2dWorkload, simd: Simd) -> None:
    taps = Taps.of(workload, simd)
    tile = default_tile(workload, simd, taps, workload.out_width)
    assert tile.panel % vector_lanes(simd, workload.dtype) == 0
    assert fits_registers(workload, simd, taps, tile.columns, tile.panel)
    assert 1 <= tile.columns <= max(workload.out_width, 1)
    assert tile.order in ORDERS


def test_no_tile_of_another_shape_is_modelled_cheaper() -> None:
    simd = PRESETS["cortex-a76"]
    workload = layer(56, 64, 64)
    taps = Taps.of(workload, simd)
    tile = default_tile(workload, simd, taps, 56)
    chosen = tile_cost(workload, simd, taps, 56, tile.columns, tile.panel)
    for columns in range(1, 32):
        for panel in range(4, 128, 4):
            if fits_registers(workload, simd, taps, columns, panel):
                assert chosen <= tile_cost(workload, simd, taps, 56, columns, panel)


@pytest.mark.parametrize(("channels", "panel"), [(8, 8), (16, 16), (24, 24), (40, 40), (144, 16)])
def test_half_vectors_where_full_ones_would_be_half_empty(channels: int, panel: int) -> None:
    """Where two multiply-adds of half the lanes take as long as one, as on Zen 4."""
    workload = layer(56, 96, channels, 1)
    for name, expected in (("x86-64-v4", panel), ("x86-64-v3", None), ("cortex-a76", None)):
        simd = PRESETS[name]
        lanes = simd.lanes("float32")
        tile = default_tile(workload, simd, Taps.of(workload, simd), 56 * 56)
        if expected is None:
            assert tile.lanes(simd, "float32") == lanes
        else:
            assert tile.panel == expected
            assert tile.lanes(simd, "float32") == math.gcd(expected, lanes)


@pytest.mark.parametrize(("channels", "outputs", "together"), [(16, 96, 16), (24, 40, 8)])
def test_words_are_requantised_many_at_once(channels: int, outputs: int, together: int) -> None:
    """Panels of 12 would leave four channels for each instruction: 1.7 times as many in all."""
    simd = PRESETS["cortex-a76"]
    integers = replace(layer(56, channels, outputs, 1), dtype="int8", weight_dtype="int8")
    words = in_words(as_rows(replace(integers, rounding="xnn_fp32")))
    tile = default_tile(words, simd, Taps.of(words, simd), words.out_width)
    assert math.gcd(tile.panel, 16) == together


def test_several_vectors_of_channels_a_step_where_registers_are_left() -> None:
    out_of_order, in_order = PRESETS["cortex-a76"], PRESETS["cortex-a53"]

    def k_block(workload: Conv2dWorkload, simd: Simd) -> int:
        taps = Taps.of(workload, simd)
        return default_tile(workload, simd, taps, workload.out_width).k_block

    assert k_block(layer(56, 64, 64), out_of_order) == 16
    assert k_block(layer(56, 64, 64), in_order) == 4
    assert k_block(layer(56, 24, 64), out_of_order) == 8
    assert k_block(layer(56, 64, 64, kernel=5), out_of_order) == 8
    assert k_block(layer(56, 16, 64), out_of_order) == 8  # a loop is left
    assert k_block(layer(7, 64, 12), out_of_order) == 4  # its tiles take every register
    pointwise = layer(6, 64, 64, kernel=1)  # so do its
    assert k_block(pointwise, out_of_order) == 8
    space = Indirect().knobs(pointwise, out_of_order)
    assert 16 in space["k_block"].choices, "as of records, whatever is the default"


TILE_BY_TILE, ROW_BY_ROW, PANEL_BY_PANEL = ORDERS


@pytest.mark.parametrize(
    ("name", "workload", "order"),
    [
        # The image does not stay in the L2 cache, the weights do: it must not pass once a panel.
        ("x86-64-v4", layer(33, 512, 256, 1), TILE_BY_TILE),
        ("x86-64-v4", layer(33, 480, 160, 1), TILE_BY_TILE),
        ("neoverse-n1", layer(33, 512, 256, 1), TILE_BY_TILE),
        ("x86-64-v4", layer(224, 64, 64), TILE_BY_TILE),
        # Both stay there.
        ("x86-64-v4", layer(14, 512, 256, 1), PANEL_BY_PANEL),
        # The weights do not.
        ("x86-64-v4", layer(14, 256, 1024, 1), PANEL_BY_PANEL),
        ("cortex-a53", layer(7, 512, 512), PANEL_BY_PANEL),
        # Neither: the image once a panel, or all weights once a row. One row is the same for both.
        ("x86-64-v4", layer(96, 256, 512), PANEL_BY_PANEL),
        ("x86-64-v4", layer(320, 64, 512), ROW_BY_ROW),
        ("x86-64-v4", layer(33, 960, 160, 1), ROW_BY_ROW),
        # The weights stay in the L1 cache.
        ("x86-64-v4", layer(112, 32, 64, 1), TILE_BY_TILE),
    ],
)
def test_the_order_reads_least_again_from_beyond_the_l2_cache(
    name: str, workload: Conv2dWorkload, order: str
) -> None:
    simd = PRESETS[name]
    rows = as_rows(workload)
    tile = default_tile(rows, simd, Taps.of(rows, simd), rows.out_width)
    assert tile.order == order


def test_long_panels_that_stream_are_wide() -> None:
    """Where the image does not stay in the L2 cache, weights pass the L1 cache for every tile."""
    simd = PRESETS["x86-64-v4"]

    def panel(channels: int, size: int) -> int:
        rows = as_rows(layer(size, channels, 256, 1))
        return default_tile(rows, simd, Taps.of(rows, simd), rows.out_width).panel

    assert panel(512, 33) == 32
    assert panel(128, 66) == 16  # one panel and the image share the L1 cache
    assert panel(512, 14) == 16  # the image stays


@pytest.mark.parametrize(("size", "channels"), [(14, 256), (7, 512)])
def test_panels_stay_in_a_small_l2_cache_with_memory_behind_it(size: int, channels: int) -> None:
    """Else each tile reads its panel from memory: on a Cortex-A53 twice the modelled time."""
    workload = layer(size, channels, channels)
    for name in ("cortex-a53", "cortex-a55"):
        simd = PRESETS[name]
        panel = plan_kernel(workload, simd, "indirect").knobs["panel"]
        assert 4 * workload.reduction * panel <= simd.l2_bytes * 3 // 4


def test_a_panel_of_few_weights_is_outermost_and_stays_in_registers() -> None:
    simd = PRESETS["x86-64-v4"]
    panels, tiles = "panels,rows,columns", "rows,columns,panels"
    orders = {
        (8, 48, 2): panels,
        (8, 48, 8): tiles,  # three panels for eight cores
        (12, 72, 2): tiles,  # a pixel is no whole cache lines
        (16, 96, 2): tiles,  # as fast, and it would be read again
    }
    for (inputs, outputs, cores), order in orders.items():
        chosen = plan_kernel(layer(129, inputs, outputs, 1), replace(simd, cores=cores), "indirect")
        assert chosen.knobs["order"] == order, (inputs, outputs, cores)


def test_few_channels_are_flattened_unless_taps_lie_apart() -> None:
    simd = PRESETS["cortex-a76"]
    assert Taps.of(layer(32, 3, 8), simd) == Taps(3, 1, 9, flat=True)
    assert Taps.of(layer(32, 4, 8), simd) == Taps(3, 3, 4, flat=False)
    assert Taps.of(layer(32, 3, 8, 1), simd) == Taps(1, 1, 3, flat=False)
    dilated = Conv2dWorkload.with_padding(
        "SAME",
        in_height=9,
        in_width=9,
        in_channels=3,
        out_channels=8,
        kernel_height=3,
        kernel_width=3,
        dilation_width=2,
    )
    assert Taps.of(dilated, simd) == Taps(3, 3, 3, flat=False)


#: A vector register stored to the stack or loaded from there.
X86_SPILL = re.compile(r"[xyz]mm\d+,.*\(%rsp\)|\(%rsp\),.*[xyz]mm\d+")


@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (7, 2), (11, 4)])
def test_large_kernels_of_few_channels_do_not_spill(kernel: int, stride: int) -> None:
    """Pixels share ``K_w - stride`` columns of a kernel's row; registers must not hold them."""
    simd = PRESETS["x86-64-v4"]
    workload = Conv2dWorkload(64, 67, 3, 64, kernel, kernel, 1, stride, stride)
    assembly = c_abi.assembly(plan_kernel(workload, simd, "indirect").schedule(simd), simd)
    assert "vfmadd" in assembly
    assert not X86_SPILL.findall(assembly)


@pytest.mark.parametrize(("kernel", "shared"), [(3, True), (7, True), (2, False)])
def test_pixels_of_first_layers_share_what_they_load(kernel: int, shared: bool) -> None:
    """Of the vectors of five pixels in a kernel row, less than half are loaded."""
    simd = PRESETS["cortex-a76"]
    workload = Conv2dWorkload(64, 67, 3, 64, kernel, kernel, 1, 2, 2)
    plan = plan_kernel(workload, simd, "indirect")
    assert Taps.in_image(workload, simd).shared == shared
    assert not Taps.of(workload, simd).shared
    loops = inner_loops(c_abi.assembly(plan.schedule(simd), simd))
    largest = max(loops, key=lambda loop: loop.multiply_adds)
    assert largest.multiply_adds == 5 * 4 * kernel * 3
    loads = sum(line.startswith("ld") for line in largest.instructions)
    # Weights are loaded in pairs, but for those beyond the reach of such an instruction.
    weights = 2 * kernel * 3 + 2 * max(kernel * 3 - 16, 0)
    assert (2 * (loads - weights) < 5 * -(-kernel * 3 // 4)) == shared
    assert not largest.spills
