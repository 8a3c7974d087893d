"""The scripts' float32 convolutions: bit by bit those of the compiled kernels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tvm import tirx

from schedules.algorithms import REGISTRY
from schedules.layer.workload import Conv2dWorkload
from schedules.plan.plan import Plan
from schedules.target.simd import Simd
from schedules.transforms.cook_toom import filtering
from scripts.benchmarks.winograd import float32
from tests.support.kernels import Case, HostKernel


@pytest.mark.parametrize(
    ("algorithm", "taps", "outputs"),
    [("direct", 3, None), ("winograd", 3, 4), ("winograd", 4, 4)],
)
def test_bits_of_the_kernels(
    algorithm: str, taps: int, outputs: int | None, tmp_path: Path
) -> None:
    """Sizes that tiles do not divide, and no bias."""
    simd = Simd.named("host")
    workload = Conv2dWorkload(
        in_height=13,
        in_width=18,
        in_channels=19,
        out_channels=21,
        kernel_height=taps,
        kernel_width=taps,
    )
    chosen = REGISTRY.get(algorithm)
    knobs = dict(chosen.default_knobs(workload, simd))
    if outputs is not None:
        knobs["outputs"] = outputs
    plan = Plan(
        workload,
        algorithm,
        knobs,
        chosen.workspace_bytes(workload, knobs),
        chosen.packed_parts(workload, knobs),
    )
    case = Case.random(workload)
    case.bias[:] = 0
    if outputs is None:
        result = float32.direct(case.x[0], case.weights)
    else:
        result = float32.winograd(case.x[0], case.weights, filtering(outputs, taps))
    np.testing.assert_array_equal(result, HostKernel(plan, simd, tmp_path)(case)[0])


@pytest.mark.parametrize("block", [1, 4, 6, 100])
def test_sums_of_blocks(block: int) -> None:
    """What is exact in float32 does not depend on the blocks; what is not, does."""
    numbers = np.random.default_rng(0)
    image = numbers.integers(-9, 9, (6, 7, 6)).astype(np.float32)
    weights = 4 * numbers.integers(-9, 9, (3, 3, 3, 6)).astype(np.float32)
    form = filtering(2, 3)
    exact = float32.direct(image, weights)
    np.testing.assert_array_equal(float32.winograd(image, weights, form, block), exact)
    third = image / np.float32(3)
    one_sum, blocks = (float32.winograd(third, weights, form, b) for b in (None, block))
    assert np.array_equal(one_sum, blocks) == (block >= 6)


def test_fused_rounds_once() -> None:
    a = np.float32(1 + 2**-12)
    product = np.asarray(a * a)  # 1 + 2^-11 + 2^-24: the last is lost
    assert float32.fused(np.asarray(a), np.asarray(a), -product) == 2.0**-24


def test_what_is_no_arithmetic() -> None:
    x = tirx.Var("x", "float32")
    with pytest.raises(TypeError, match="no arithmetic: Div"):
        float32.evaluate(x / x, {"x": np.ones(1, np.float32)})
