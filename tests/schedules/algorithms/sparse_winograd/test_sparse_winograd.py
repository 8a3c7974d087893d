"""Sparse products in Winograd's domain: exact for every pattern, on this machine and on Arm's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schedules.algorithms import REGISTRY, Unsupported
from schedules.layer.workload import Conv2dWorkload
from schedules.plan.choice import Choice
from schedules.plan.plan import Plan
from schedules.plan.planner import plan_kernel
from schedules.target.simd import PRESETS, Simd
from tests.support.assembly import assembly_of, inner_loops
from tests.support.kernels import HostKernel, run_on_board
from tests.support.winograd_weights import DomainCase, layer_of, pruned_at_random

HOST = Simd.named("host")
#: (H, W, C, M, r, m, block, ReLU in the domain, batch): odd channels, tails of panels and tiles.
LAYERS = [
    (14, 13, 24, 40, 3, 4, 16, False, 1),
    (9, 7, 7, 20, 3, 2, 8, True, 2),
    (12, 11, 16, 33, 5, 4, 8, False, 1),
    (10, 10, 3, 64, 5, 2, 32, True, 1),
]


def planned(layer: Conv2dWorkload, choice: str, simd: Simd = HOST) -> Plan:
    return Plan.of(Choice.parse(choice), layer, simd)


def case_of(
    height: int, width: int, c: int, m: int, r: int, outputs: int, block: int, relu: bool, n: int
) -> DomainCase:
    weights = pruned_at_random(m, outputs + r - 1, c, 0.7, block)
    layer = layer_of(weights, height, width, r, relu, activation="relu6", batch=n)
    return DomainCase.of(layer, weights)


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_layers_are_computed_as_defined(layer: tuple, tmp_path: Path) -> None:
    case = case_of(*layer)
    outputs = []
    for name in ("sparse_winograd", "winograd"):
        folder = tmp_path / name
        folder.mkdir()
        kernel = HostKernel(planned(case.workload, name), HOST, folder)
        assert kernel.kernel.workspace_bytes == kernel.plan.workspace_bytes
        outputs.append(kernel(case, threads=2, pieces=3))
        case.check(outputs[-1])
    assert np.abs(outputs[0] - outputs[1]).max() <= case.bound.max()


def test_arm_computes_them_too(tmp_path: Path) -> None:
    # The last two have several groups in a row of tiles, and seven tiles of two vectors.
    layers = [*LAYERS[:3], (9, 29, 8, 20, 3, 4, 16, True, 2), (6, 14, 12, 16, 3, 2, 8, False, 1)]
    cases = {f"layer{i}": case_of(*layer) for i, layer in enumerate(layers)}
    simd = PRESETS["cortex-a76"]
    plans = {name: planned(case.workload, "sparse_winograd", simd) for name, case in cases.items()}
    for name, y in run_on_board("cortex-a76", plans, cases, tmp_path).items():
        cases[name].check(y)


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> HostKernel:
    """One for every pattern: at most 60 % of its blocks are left."""
    layer = Conv2dWorkload.from_text("7x6x5->24 k3x3 p1,1,1,1 f2z40x8")
    return HostKernel(planned(layer, "sparse_winograd"), HOST, tmp_path_factory.mktemp("kernel"))


@settings(max_examples=60, suppress_health_check=list(HealthCheck), deadline=None)
@given(
    kept=st.lists(st.integers(0, 3 * 16 * 5 - 1), max_size=144, unique=True),
    whole=st.integers(0, 3 * 16 - 1),
    value=st.floats(-4, 4, width=32).filter(bool),
)
def test_every_pattern_is_computed_by_one_kernel(
    kernel: HostKernel, kept: list[int], whole: int, value: float
) -> None:
    """Empty rows and points, whole rows, single blocks, and single weights in them."""
    blocks = np.zeros((3, 16, 5, 8), np.float32)
    blocks.reshape(-1, 8)[kept[:139]] = value
    blocks.reshape(-1, 5, 8)[whole] = value
    blocks.reshape(-1, 8)[kept[:5], 1:] = 0
    weights = blocks.transpose(0, 3, 1, 2).reshape(24, 4, 4, 5)
    case = DomainCase.of(kernel.plan.layer, weights)
    case.check(kernel(case))


def test_no_block_at_all_leaves_the_bias(kernel: HostKernel) -> None:
    case = DomainCase.of(kernel.plan.layer, np.zeros((24, 4, 4, 5), np.float32))
    np.testing.assert_array_equal(kernel(case), np.broadcast_to(case.bias, case.expected.shape))


def test_balanced_rows_need_no_data_to_loop(tmp_path: Path) -> None:
    weights = pruned_at_random(40, 6, 12, 0, 8)
    order = np.random.default_rng(3).permuted(np.tile(np.arange(12), (5, 6, 6, 1)), axis=-1)
    weights[np.repeat(order >= 3, 8, axis=0)] = 0
    case = DomainCase.of(layer_of(weights, 10, 9, 3), weights)
    plan = plan_kernel(case.workload, HOST, "sparse_winograd")
    assert plan.knobs["rows"] == "balanced"
    assert plan.packed.rows == 0
    case.check(HostKernel(plan, HOST, tmp_path)(case))


@pytest.mark.parametrize("target", ["cortex-a76", "cortex-a53"])
@pytest.mark.parametrize("zeros", ["f4z80x8", "f2z70x16=", "f4z90x16"])
def test_inner_loops_do_not_spill(target: str, zeros: str) -> None:
    simd = PRESETS[target]
    for size, channels in ((56, 64), (14, 256)):
        layer = f"{size}x{size}x{channels}->{channels} k3x3 p1,1,1,1 relu {zeros}"
        plan = planned(Conv2dWorkload.from_text(layer), "sparse_winograd", simd)
        loops = [loop for loop in inner_loops(assembly_of(plan, simd)) if loop.multiply_adds >= 8]
        assert loops
        assert not [loop for loop in loops if loop.spills], plan.knobs


def test_indices_are_added_to_addresses_as_they_are() -> None:
    """Beside multiply-adds and loads: one addition each for two addresses and for the count."""
    simd = PRESETS["cortex-a76"]
    layer = Conv2dWorkload.from_text("56x56x64->64 k3x3 p1,1,1,1 relu f4z90x16")
    loops = inner_loops(assembly_of(planned(layer, "sparse_winograd", simd), simd))
    ragged = [loop for loop in loops if any("ldrsh" in line for line in loop.instructions)]
    assert ragged
    for loop in ragged:
        assert not [line for line in loop.instructions if line.startswith(("lsl", "asr", "sxtw"))]
        assert loop.instructions[0].startswith("ldrsh\tx")


@pytest.mark.parametrize(
    ("target", "layer", "lanes", "columns"),
    [
        ("cortex-a76", "56x56x64->64 k3x3 p1,1,1,1 f4z90x16", "tiles", 7),
        ("cortex-a76", "14x14x256->256 k3x3 p1,1,1,1 f4z90x16", "tiles", 4),
        # Two tiles in a row are too few, three channels no vector, and two images in one strip.
        ("cortex-a76", "7x7x512->512 k3x3 p1,1,1,1 f4z90x16", "channels", 4),
        ("cortex-a76", "56x56x3->64 k3x3 p1,1,1,1 f4z90x16", "channels", 5),
        ("cortex-a76", "12x12x16->16 k3x3 n2 p1,1,1,1 f4z90x16", "channels", 5),
        ("cortex-a53", "56x56x64->64 k3x3 p1,1,1,1 f4z90x16", "channels", 5),
        ("x86-64-v4", "56x56x64->64 k3x3 p1,1,1,1 f4z90x16", "channels", 14),
    ],
)
def test_tiles_are_side_by_side_where_rows_are_made_of_them(
    target: str, layer: str, lanes: str, columns: int
) -> None:
    plan = planned(Conv2dWorkload.from_text(layer), "sparse_winograd", PRESETS[target])
    assert (plan.knobs["lanes"], plan.knobs["columns"]) == (lanes, columns)


SIZES = [(56, 64), (28, 128), (14, 256), (15, 96), (7, 512)]


@pytest.mark.parametrize("text", ["f4z90x16", "f2z90x16", "f4z90x8"])
@pytest.mark.parametrize("target", ["x86-64-v4", "cortex-a76"])
def test_strips_are_full_and_small_beside_the_l1_cache(text: str, target: str) -> None:
    simd = PRESETS[target]
    for size, channels in SIZES[:4]:
        layer = f"{size}x{size}x{channels}->{channels} k3x3 p1,1,1,1 {text}"
        plan = planned(Conv2dWorkload.from_text(layer), "sparse_winograd", simd)
        rows = -(-size // int(text[1]))
        strip = plan.knobs["strip"]
        assert rows % strip == 0
        assert strip == 1 or 8 * strip * rows * channels * 4 <= simd.l1_bytes


@pytest.mark.parametrize("block", [8, 16, 32])
@pytest.mark.parametrize("outputs", [2, 4])
def test_few_zeros_are_multiplied(block: int, outputs: int) -> None:
    simd = PRESETS["x86-64-v4"]
    for size, channels in SIZES:
        chosen = []
        for zeros in (1, 5, 10, 15, 70, 90):
            text = f"{size}x{size}x{channels}->{channels} k3x3 p1,1,1,1 f{outputs}z{zeros}x{block}"
            chosen.append(plan_kernel(Conv2dWorkload.from_text(text), simd).algorithm)
        assert chosen == ["winograd"] * 4 + ["sparse_winograd"] * 2


@pytest.mark.parametrize(
    ("text", "algorithm", "reason"),
    [
        ("8x8x4->8 k3x3 p1,1,1,1 f4", "sparse_winograd", "no zeros among weights"),
        ("8x8x1->8 k3x3 p1,1,1,1 f4z80x8", "sparse_winograd", "one input channel"),
        ("8x8x4->8 k3x3 p1,1,1,1", "sparse_winograd", "computes layers .* pruned in Winograd's"),
        ("8x8x4->8 k3x3 p1,1,1,1 f4", "indirect", "with Winograd's weights"),
        ("8x8x4->8 k3x3 s2x2 p1,1,1,1 f4z80x8", "sparse_winograd", "needs stride 1"),
    ],
)
def test_refusals(text: str, algorithm: str, reason: str) -> None:
    with pytest.raises(Unsupported, match=reason):
        planned(Conv2dWorkload.from_text(text), algorithm)


def test_only_winograds_serve_such_weights() -> None:
    layer = Conv2dWorkload.from_text("8x8x4->8 k3x3 p1,1,1,1 f4z80x8")
    serving = {a.name for a in REGISTRY if layer.types in a.types}
    assert serving == {"winograd", "sparse_winograd"}
