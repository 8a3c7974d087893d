"""Geometry of convolutions of volumes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedules.errors import LeanconvError
from schedules.layer.block import workload_from_text
from schedules.layer.volume import Conv3dWorkload
from schedules.tuning.measure.problem import Problem
from tests.support.reference import conv2d

SMALL = st.integers(1, 3)


@st.composite
def volumes(draw: st.DrawFn) -> Conv3dWorkload:
    """Any small layer."""
    axes = ("depth", "height", "width")
    geometry = {f"{name}_{axis}": draw(SMALL) for name in ("kernel", "stride") for axis in axes}
    geometry |= {f"dilation_{axis}": draw(st.integers(1, 2)) for axis in axes}
    for axis in axes:
        span = (geometry[f"kernel_{axis}"] - 1) * geometry[f"dilation_{axis}"] + 1
        geometry[f"in_{axis}"] = span + draw(st.integers(0, 4))
    sizes = {name: draw(SMALL) for name in ("batch", "in_channels", "out_channels")}
    padding = draw(st.sampled_from(["SAME", "VALID"]))
    return Conv3dWorkload.with_padding(padding, **geometry, **sizes)


@given(workload=volumes())
def test_text_tells_everything(workload: Conv3dWorkload) -> None:
    assert workload_from_text(workload.to_text()) == workload


@given(workload=volumes())
def test_layers_of_images_compute_the_same(workload: Conv3dWorkload) -> None:
    images = workload.as_images()
    problem = Problem.of(workload)
    expected, bound = conv2d(workload, problem.x, *problem.weights, *problem.biases)
    assert expected.shape == workload.output_shape
    assert (abs(problem.expected - expected) <= bound + 1e-6).all()
    if images is None:
        return
    assert images.macs == workload.macs
    x, (weights,) = problem.x.reshape(images.input_shape), problem.weights
    same, _ = conv2d(images, x, weights.reshape(images.weight_shape), *problem.biases)
    np.testing.assert_allclose(same.reshape(expected.shape), expected, rtol=0, atol=1e-12)


def test_describes_itself() -> None:
    sizes = {"in_depth": 8, "in_height": 28, "in_width": 20, "in_channels": 3, "out_channels": 4}
    kernel = {"kernel_depth": 3, "kernel_height": 5, "kernel_width": 1}
    layer = Conv3dWorkload.with_padding("SAME", **sizes, **kernel, stride_depth=2, batch=2)
    assert layer.describe() == "conv3x5x1 sd2 2x8x28x20x3->4"
    assert layer.output_shape == (2, 4, 28, 20, 4)
    assert layer.macs == 2 * 4 * 28 * 20 * 4 * 3 * 5 * 3


@pytest.mark.parametrize(
    "wrong", [{"kernel_depth": 9}, {"groups": 3, "out_channels": 3}, {"weight_dtype": "int8"}]
)
def test_refuses_what_is_none(wrong: dict[str, Any]) -> None:
    layer = {"in_depth": 8, "in_height": 5, "in_width": 5, "in_channels": 3, "out_channels": 4}
    with pytest.raises(LeanconvError):
        Conv3dWorkload(**{**layer, "kernel_height": 1, "kernel_width": 1, **wrong})


def test_text_of_nothing_is_refused() -> None:
    with pytest.raises(LeanconvError, match="describes no convolution of volumes"):
        workload_from_text("8 of 3x3x3->4 k1x1")
