"""Kernels that are called bare compute their layers."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from schedules.kernel import packing
from schedules.layer.workload import Conv2dWorkload
from schedules.plan.planner import plan_kernel
from schedules.target.simd import Simd
from scripts.benchmarks.harness.bare import aligned, bare_kernels
from tests.support.reference import conv2d


def test_bare_kernels_compute_their_layers(tmp_path: Path) -> None:
    layer = Conv2dWorkload.from_text("6x5x4->7 k3x3 p1,1,1,1 relu")
    random = np.random.default_rng(0)
    x = random.standard_normal(layer.input_shape, np.float32)
    weights = random.standard_normal(layer.weight_shape, np.float32)
    bias = random.standard_normal(7, np.float32)
    plan = plan_kernel(layer, Simd.named("host"), "indirect")
    y = aligned(np.full(layer.output_shape, np.nan, np.float32))
    constants = [packing.pack(weights, plan.packed), packing.pack_bias(bias, plan.packed)]
    arguments = {"kernel": (aligned(x), *map(aligned, constants), y)}
    bare_kernels({"kernel": plan}, arguments, tmp_path)["kernel"]()
    expected, bound = conv2d(layer, x, weights, bias)
    assert (abs(y - expected) <= bound).all()
