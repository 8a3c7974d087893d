"""Sparse products: exact for every pattern, on this machine and on Arm's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schedules.algorithms import Unsupported
from schedules.errors import LeanconvError
from schedules.kernel import packing
from schedules.kernel.sparse.blocks import check_blocks, pointer_bytes
from schedules.layer.workload import Conv2dWorkload
from schedules.plan.choice import Choice
from schedules.plan.plan import Plan
from schedules.plan.planner import plan_kernel
from schedules.target.simd import PRESETS, Simd
from tests.support.assembly import assembly_of, inner_loops
from tests.support.kernels import Case, HostKernel, run_on_board
from tests.support.reference import conv2d

HOST = Simd.named("host")
#: Tiles of every size are transposed; strips are cut short; several blocks of channels.
LAYERS = {
    "14x13x32->48 k1x1 relu z70": "pixels=32:c_block=16",
    "9x7x24->20 k1x1 n2 relu6 z60": "",
    "5x5x15->9 k1x1 hard_swish wfloat16 z80": "",
    "6x9x64->16 k1x1 + relu z95": "pixels=16:c_block=32",
    "9x8x16->24 k3x3 n2 s2x1 p1,1,0,2 relu z70": "pixels=32:c_block=16",
    "7x7x12->16 k5x3 d1x2 p2,2,2,2 z60": "",
    "11x10x3->20 k3x3 s2x2 p0,1,0,1 relu6 z50": "",
}


def planned(text: str, knobs: str = "", simd: Simd = HOST) -> Plan:
    choice = Choice.parse(f"sparse_direct{knobs and ':'}{knobs}")
    return Plan.of(choice, Conv2dWorkload.from_text(text), simd)


def pruned(layer: Conv2dWorkload, kept: np.ndarray | None = None) -> Case:
    """A random layer of which as many weights are zero as it says, or those that are not kept."""
    case = Case.random(layer)
    if kept is None:
        order = np.random.default_rng(1).permutation(case.weights.size)
        kept = order >= np.ceil(case.weights.size * layer.zeros / 100)
    weights = case.weights * kept.reshape(case.weights.shape)
    exact, bound = conv2d(layer, case.x, weights, case.bias, case.residual)
    return replace(case, weights=weights, expected=exact, bound=bound)


@pytest.mark.parametrize(("text", "knobs"), LAYERS.items())
def test_layers_are_computed_as_defined(text: str, knobs: str, tmp_path: Path) -> None:
    kernel = HostKernel(planned(text, knobs), HOST, tmp_path)
    assert kernel.kernel.workspace_bytes == kernel.plan.workspace_bytes
    case = pruned(kernel.plan.layer)
    case.check(kernel(case, threads=2, pieces=3), kernel.plan)


def test_arm_computes_them_too(tmp_path: Path) -> None:
    simd = PRESETS["cortex-a76"]
    plans = {
        f"layer{i}": planned(text, knobs, simd)
        for i, (text, knobs) in enumerate(LAYERS.items())
        if "+" not in text
    }
    cases = {name: pruned(plan.layer) for name, plan in plans.items()}
    for name, y in run_on_board("cortex-a76", plans, cases, tmp_path).items():
        cases[name].check(y, plans[name])


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> HostKernel:
    """One for every pattern: at most 40 % of its weights are left."""
    plan = planned("5x4x32->8 k1x1 z60", "pixels=32:c_block=16")
    return HostKernel(plan, HOST, tmp_path_factory.mktemp("kernel"))


@settings(max_examples=60, suppress_health_check=list(HealthCheck), deadline=None)
@given(
    places=st.lists(st.integers(0, 8 * 32 - 1), max_size=70, unique=True),
    whole=st.integers(0, 8),
)
def test_every_pattern_is_computed_by_one_kernel(
    kernel: HostKernel, places: list[int], whole: int
) -> None:
    """No weight at all, one, empty rows and blocks of channels, and perhaps a full row."""
    kept = np.zeros((8, 32), bool)
    kept.reshape(-1)[places] = True
    kept[whole : whole + 1] = True
    case = pruned(kernel.plan.layer, kept)
    case.check(kernel(case), kernel.plan)


def test_what_no_weight_multiplies_gets_nowhere(kernel: HostKernel) -> None:
    kept = np.ones((8, 32), bool)
    kept[:, 10:] = False
    case = pruned(kernel.plan.layer, kept)
    case.x[..., 10:] = np.nan
    case.check(kernel(case), kernel.plan)


def test_kernels_are_given_nothing_that_points_elsewhere() -> None:
    layer = Conv2dWorkload.from_text("5x4x32->8 k1x1 z60")
    packed = planned(layer.to_text(), "c_block=16").packed
    data = packing.pack(pruned(layer).weights, packed)
    assert (packed.rows, packed.run, data.nbytes) == (2 * 8, 16, packed.weight_bytes)
    check_blocks(data, packed, packed.run)
    indices = data.view(np.uint8)[pointer_bytes(packed.rows) :].view(np.int16)
    indices[3] = 16
    with pytest.raises(LeanconvError, match="an input channel that is none of 16"):
        check_blocks(data, packed, packed.run)
    with pytest.raises(LeanconvError, match="of 256 blocks: the kernel takes 103"):
        packing.pack(np.ones((8, 1, 1, 32), np.float32), packed)


@pytest.mark.parametrize("target", ["cortex-a76", "cortex-a53"])
def test_inner_loops_do_not_spill(target: str) -> None:
    """One multiply-add for each vector of pixels that is loaded, and few instructions beside."""
    simd = PRESETS[target]
    plan = planned("14x14x512->512 k1x1 relu z80", simd=simd)
    vectors = plan.knobs["pixels"] // 4
    loops = [loop for loop in inner_loops(assembly_of(plan, simd)) if loop.multiply_adds]
    assert loops
    assert not [loop for loop in loops if loop.spills]
    assert min(len(loop.instructions) / loop.multiply_adds for loop in loops) < 2
    assert all(loop.multiply_adds % vectors == 0 for loop in loops)


@pytest.mark.parametrize("target", ["x86-64-v4", "x86-64-v3", "cortex-a76", "cortex-a53"])
def test_zeros_are_left_out_where_that_saves_time(target: str) -> None:
    simd = PRESETS[target]

    def chosen(text: str) -> str:
        return plan_kernel(Conv2dWorkload.from_text(text), simd).algorithm

    for size, channels in ((14, 512), (28, 256), (56, 128)):
        layer = f"{size}x{size}x{channels}->{channels} k1x1 relu"
        assert chosen(layer) != "sparse_direct"
        assert chosen(f"{layer} z80") == chosen(f"{layer} z95") == "sparse_direct"
    assert chosen("1x1x512->512 k1x1 z60") != "sparse_direct"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("8x8x32->8 k1x1", "computes layers of which most weights are zero"),
        ("8x8x32->8 k1x1 float16 z80", "does not compute float16"),
    ],
)
def test_refusals(text: str, reason: str) -> None:
    with pytest.raises(Unsupported, match=reason):
        planned(text)
