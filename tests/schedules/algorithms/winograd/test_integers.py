"""Winograd's algorithm in integers against sums in 64 bits: every element is the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from schedules.algorithms import REGISTRY, Unsupported
from schedules.algorithms.winograd import integers
from schedules.layer.workload import Conv2dWorkload
from schedules.lower.c_abi import assembly
from schedules.plan.planner import plan_kernel
from schedules.target.simd import PRESETS, Simd
from schedules.transforms.cook_toom import filtering
from scripts.board.board import Board
from tests.schedules.algorithms.test_quantised import HOST, RUNNABLE, ZEROS, layer
from tests.support.kernels import HostKernel, run_on_board
from tests.support.quantised import QuantisedCase

#: Each with what it is there for, and knobs that differ from the defaults.
LAYERS: dict[str, tuple[Conv2dWorkload, str]] = {
    "whole_vectors": (layer(8, (16, 32), 3, activation="relu6"), ""),
    "odd_everything": (layer(7, (13, 19), 3), ""),
    "strips_and_parts": (layer(10, (24, 48), 3), ":strip=2:parts=2:panel=16"),
    "batch": (layer(5, (8, 12), 3, batch=2), ""),
    "unpadded": (layer(9, (8, 16), 3, padding="VALID"), ""),
    "along_one_axis": (replace(layer(6, (8, 9), 3), kernel_height=1, pad_top=0, pad_bottom=0), ""),
    "two_taps": (layer(6, (12, 8), 2), ""),
    "residual": (layer(6, (16, 24), 3, residual=True, output_activation="relu"), ""),
    "another_rule": (replace(layer(6, (8, 16), 3), rounding="double"), ""),
}


def with_extremes(case: QuantisedCase) -> QuantisedCase:
    """Some channels and all of the image are such that sums are as large as they can be."""
    weights = case.weights.copy()
    weights[1::3] = -128
    weights[2::3] = 127
    return replace(case, x=np.full_like(case.x, -128), weights=weights)


@pytest.mark.parametrize("simd", RUNNABLE, ids=lambda simd: str(simd.name))
def test_is_exact(simd: Simd, tmp_path: Path) -> None:
    for number, (name, (workload, knobs)) in enumerate(LAYERS.items()):
        folder = tmp_path / name
        folder.mkdir()
        kernel = HostKernel(plan_kernel(workload, simd, f"winograd{knobs}"), simd, folder)
        assert kernel.kernel.workspace_bytes == kernel.plan.workspace_bytes
        case = QuantisedCase.random(workload, simd, 1, *ZEROS[number % 3])
        for given in (case, with_extremes(case)):
            given.check(kernel(given, threads=2, pieces=3))


@pytest.mark.parametrize("cpu", ["cortex-a53", "cortex-a72"])
def test_is_exact_on_the_board(cpu: str, arm_board: Board, tmp_path: Path) -> None:
    simd = PRESETS[cpu]
    plans = {
        name: plan_kernel(workload, simd, f"winograd{knobs}")
        for name, (workload, knobs) in LAYERS.items()
    }
    cases = {
        name: with_extremes(QuantisedCase.random(workload, simd, 1, *ZEROS[number % 3]))
        for number, (name, (workload, _)) in enumerate(LAYERS.items())
    }
    for name, y in run_on_board(cpu, plans, cases, tmp_path).items():
        cases[name].check(y)


def test_the_most_channels_pass_no_bits(tmp_path: Path) -> None:
    """Elements and weights of -128 make the largest sums that there are, of every point."""
    channels = integers.most_channels(LAYERS["whole_vectors"][0])
    workload = Conv2dWorkload.with_padding(
        "SAME", in_height=4, in_width=4, in_channels=channels, out_channels=3, kernel_height=3,
        kernel_width=3, dtype="int8", weight_dtype="int8", rounding="xnn_fp32",
    )  # fmt: skip
    simd = PRESETS["x86-64-v3"] if HOST.arch == "x86_64" else HOST
    kernel = HostKernel(plan_kernel(workload, simd, "winograd"), simd, tmp_path)
    case = QuantisedCase.random(workload, simd, 1)
    signs = np.where(np.indices(case.x.shape[1:3]).sum(axis=0) % 2, 127, -128).astype(np.int8)
    for x in (np.full_like(case.x, -128), np.broadcast_to(signs[None, :, :, None], case.x.shape)):
        given = replace(
            case, x=np.ascontiguousarray(x), weights=np.full_like(case.weights, -128),
            bias=np.zeros_like(case.bias), scales=np.full_like(case.scales, 1e-5),
        )  # fmt: skip
        given.check(kernel(given))
    assert (channels + 1) * 36 * 128**2 >= 2**31 > channels * 36 * 128**2
    wider = replace(workload, in_channels=channels + 1)
    with pytest.raises(Unsupported, match="may pass 32 bits"):
        plan_kernel(wider, HOST, "winograd")


def test_transforms_are_of_integers() -> None:
    for taps in (2, 3):
        form = filtering(integers.OUTPUTS, taps)
        scale = integers.scale_of(form)
        assert scale == 2
        kernel = np.array(integers.whole(form))
        image, output = (
            np.array([[float(value) for value in row] for row in matrix])
            for matrix in (form.image, form.output)
        )
        assert set(np.unique(image)) | set(np.unique(output)) <= {-1, 0, 1}
        assert (kernel == np.round(kernel)).all()
        assert np.abs(kernel).sum(axis=1).max() == taps
        # The definition, of unit images and kernels.
        for tap in range(taps):
            found = output @ (kernel[:, tap, None] * image)
            shifted = np.eye(integers.OUTPUTS, integers.OUTPUTS + taps - 1, k=tap)
            np.testing.assert_array_equal(found, scale * shifted)


def test_larger_kernels_are_refused() -> None:
    with pytest.raises(Unsupported, match="more than 3 taps"):
        plan_kernel(layer(9, (8, 8), 5), HOST, "winograd")


def test_is_chosen_where_words_have_no_instruction() -> None:
    workload = layer(28, (64, 64), 3)
    cpus = ("cortex-a72", "cortex-a76")
    chosen = [plan_kernel(workload, PRESETS[cpu]).algorithm for cpu in cpus]
    assert chosen == ["winograd", "indirect"]


def test_products_take_lanes_and_do_not_spill() -> None:
    for cpu in ("cortex-a53", "cortex-a72"):
        simd = PRESETS[cpu]
        plan = plan_kernel(layer(26, (64, 64), 3), simd, "winograd")
        kernel = REGISTRY.get("winograd").schedule(plan.workload, simd, plan.knobs)
        lines = assembly(kernel, simd).splitlines()
        products = [number for number, line in enumerate(lines) if "smlal" in line]
        assert len(products) > 100
        assert all(".h[" in lines[number] for number in products)
        assert not any("[sp" in line for line in lines[products[0] : products[-1]])
