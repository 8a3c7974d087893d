"""Geometry: against TensorFlow's definition of padding, by brute force, and past 32 bits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedules.errors import LeanconvError
from schedules.layer.merge import composed
from schedules.layer.padding import same_padding
from schedules.layer.sparsity import zeros_of
from schedules.layer.workload import (
    ACTIVATIONS,
    DTYPE_BYTES,
    HARD_SWISH,
    SWISH,
    Conv2dWorkload,
)

SMALL: dict[str, Any] = {
    "in_height": 5,
    "in_width": 7,
    "in_channels": 3,
    "out_channels": 4,
    "kernel_height": 3,
    "kernel_width": 2,
}


@given(st.integers(1, 40), st.integers(1, 7), st.integers(1, 4), st.integers(1, 3))
def test_same_padding_gives_ceil_and_an_odd_zero_behind(
    size: int, kernel: int, stride: int, dilation: int
) -> None:
    before, after = same_padding(size, kernel, stride, dilation)
    layer = Conv2dWorkload.with_padding(
        "SAME",
        in_height=size,
        in_width=1,
        in_channels=1,
        out_channels=1,
        kernel_height=kernel,
        kernel_width=1,
        stride_height=stride,
        dilation_height=dilation,
    )
    assert layer.out_height == -(-size // stride)
    assert after - before in (0, 1)


@given(st.integers(1, 20), st.integers(1, 5), st.integers(1, 4), st.integers(1, 3))
def test_valid_output_counts_the_positions_that_fit(
    size: int, kernel: int, stride: int, dilation: int
) -> None:
    span = (kernel - 1) * dilation + 1
    positions = [start for start in range(0, size, stride) if start + span <= size]
    geometry = {**SMALL, "in_width": size, "kernel_width": kernel}
    geometry |= {"stride_width": stride, "dilation_width": dilation}
    if positions:
        assert Conv2dWorkload.with_padding("VALID", **geometry).out_width == len(positions)
    else:
        with pytest.raises(LeanconvError, match="does not fit"):
            Conv2dWorkload.with_padding("VALID", **geometry)


def test_numbers_are_exact_past_32_bits() -> None:
    layer = Conv2dWorkload(
        batch=64,
        in_height=50000,
        in_width=50000,
        in_channels=3,
        out_channels=64,
        kernel_height=1,
        kernel_width=1,
    )
    assert layer.input_bytes == 64 * 50000 * 50000 * 3 * 4
    assert layer.output_bytes == 64 * 50000 * 50000 * 64 * 4
    assert layer.macs == 64 * 50000 * 50000 * 64 * 3
    assert layer.as_matrix().in_width == 64 * 50000 * 50000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stride_height": 0}, "stride_height = 0: must be >= 1"),
        ({"in_channels": -3}, "in_channels = -3"),
        ({"pad_left": -1}, "pad_left = -1: must be >= 0"),
        ({"activation": "tanh"}, "unknown activation 'tanh'"),
        ({"dtype": "float64"}, "unknown element type 'float64'"),
        ({"weight_dtype": "float64"}, "unknown element type 'float64'"),
        ({"groups": 2}, "do not divide into 2 groups"),
        ({"in_channels": 4, "groups": 2, "group_of": 2}, "no groups of its own"),
        ({"kernel_height": 6}, "does not fit"),
    ],
)
def test_impossible_geometry_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(LeanconvError, match=message):
        Conv2dWorkload(**{**SMALL, **change})


def test_unknown_padding_is_refused() -> None:
    with pytest.raises(LeanconvError, match="SAME or VALID"):
        Conv2dWorkload.with_padding("FULL", **SMALL)


def test_descriptions() -> None:
    layer = Conv2dWorkload(**SMALL)
    assert layer.describe() == "conv3x2 5x7x3->4"
    strided = Conv2dWorkload(**SMALL, stride_height=2, stride_width=2, activation="relu6", batch=2)
    assert strided.describe() == "conv3x2 s2 2x5x7x3->4 relu6"
    dilated = Conv2dWorkload(**SMALL, dilation_height=2)
    assert dilated.describe() == "conv3x2 d2x1 5x7x3->4"
    narrow = Conv2dWorkload(**SMALL, activation="relu", weight_dtype="float16")
    assert narrow.describe() == "conv3x2 5x7x3->4 relu float16 weights"
    assert replace(narrow, dtype="int8", weight_dtype="int8").describe().endswith("4 relu int8")


def test_bytes_are_those_of_each_type() -> None:
    layer = Conv2dWorkload(**SMALL, dtype="int8", weight_dtype="float16")
    assert (layer.input_bytes, layer.output_bytes) == (5 * 7 * 3, 3 * 6 * 4)
    assert layer.weight_bytes == 4 * 3 * 2 * 3 * 2


def test_one_group_reads_and_writes_among_the_others() -> None:
    layer = Conv2dWorkload(**{**SMALL, "in_channels": 6, "out_channels": 8}, groups=2, batch=3)
    group = layer.one_group()
    assert (group.input_shape, group.output_shape) == ((3, 5, 7, 3), (3, 3, 6, 4))
    assert group.weight_shape == (4, *layer.weight_shape[1:])
    assert (group.in_pitch, group.out_pitch) == (6, 8)
    assert (group.groups, group.group_of) == (1, 2)
    assert group.macs * 2 == layer.macs
    assert group.all_groups() == layer
    assert group.describe() == "one group of conv3x2 g2 3x5x7x6->8"
    assert group.one_group() == group


def test_a_layer_without_groups_is_its_own_only_one() -> None:
    layer = Conv2dWorkload(**SMALL)
    assert layer.one_group() == layer.all_groups() == layer
    assert (layer.in_pitch, layer.out_pitch) == (3, 4)


@st.composite
def layers(draw: st.DrawFn) -> Conv2dWorkload:
    """Any geometry whose kernel fits into the image."""

    def several(count: int, least: int, most: int) -> list[int]:
        return draw(st.lists(st.integers(least, most), min_size=count, max_size=count))

    groups, group_of = draw(st.sampled_from([(1, 1), (1, 3), (4, 1)]))
    kernel, strides, dilations = several(2, 1, 7), several(2, 1, 3), several(2, 1, 3)
    spans = [(size - 1) * dilation + 1 for size, dilation in zip(kernel, dilations, strict=True)]
    image = [span + more for span, more in zip(spans, several(2, 0, 300), strict=True)]
    activations = st.sampled_from([*ACTIVATIONS, HARD_SWISH, SWISH])
    residual = draw(st.booleans())
    values: list[Any] = [
        *image,
        *(groups * count for count in several(2, 1, 2000)),
        *kernel,
        draw(st.integers(1, 9)),
        *strides,
        *dilations,
        *several(4, 0, 3),
        groups,
        group_of,
        draw(activations),
        residual,
        draw(activations) if residual else "none",
        draw(st.sampled_from(list(DTYPE_BYTES))),
        draw(st.sampled_from(list(DTYPE_BYTES))),
    ]
    return Conv2dWorkload(*values)


def test_zeros_are_told_in_steps() -> None:
    weights = np.ones((10, 1, 1, 10), np.float32)
    for zeros, told in ((0, 0), (49, 0), (60, 60), (64, 60), (96, 95), (100, 95)):
        kept = np.where(np.arange(100) < zeros, 0, 1)
        assert zeros_of(weights.ravel() * kept, 100) == zeros_of(kept[zeros:], 100) == told
    layer = Conv2dWorkload(5, 7, 3, 4, 1, 1, zeros=70)
    assert layer.to_text() == "5x7x3->4 k1x1 z70"
    assert Conv2dWorkload.from_text(layer.to_text()) == layer
    for zeros, groups in ((71, 1), (70, 2), (-5, 1)):
        with pytest.raises(LeanconvError, match="zero"):
            Conv2dWorkload(5, 7, 4, 4, 1, 1, zeros=zeros, groups=groups)


@given(layers())
def test_survives_as_text(layer: Conv2dWorkload) -> None:
    assert Conv2dWorkload.from_text(layer.to_text()) == layer


def test_the_text() -> None:
    layer = Conv2dWorkload(**SMALL)
    assert layer.to_text() == "5x7x3->4 k3x2"
    assert Conv2dWorkload.from_text("5x7x3->4 k3x2 + relu6").output_activation == "relu6"
    assert Conv2dWorkload.from_text("5x7x3->4 k3x2 relu +").activation == "relu"
    narrow = Conv2dWorkload(**SMALL, activation="relu", weight_dtype="float16")
    assert narrow.to_text() == "5x7x3->4 k3x2 relu wfloat16"
    assert replace(narrow, dtype="int8", weight_dtype="int8").to_text().endswith("relu int8 wint8")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5x7x3->4",
        "5x7x3->4 k3x2 ",
        "5x7x3->4 k3x2\n",
        "5x7x3->4  k3x2",
        "5x7x3->4 k3x2 p1,1 s2x2",
        "5x7x3->4 k3x2 tanh",
        "5x7x3->4 k3x2 float64",
        "5x7x3->4 k3x2 wint8 int8",
        "5x7x\N{ARABIC-INDIC DIGIT THREE}->4 k3x2",
        "-5x7x3->4 k3x2",
    ],
)
def test_text_that_is_no_layer(text: str) -> None:
    with pytest.raises(LeanconvError, match="describes no convolution"):
        Conv2dWorkload.from_text(text)


def test_text_of_an_impossible_layer() -> None:
    with pytest.raises(LeanconvError, match="stride_height = 0"):
        Conv2dWorkload.from_text("5x7x3->4 k3x2 s0x1")


def clamped(value: float, activation: str) -> float:
    lower, upper = ACTIVATIONS[activation]
    value = value if lower is None else max(value, lower)
    return value if upper is None else min(value, upper)


def test_a_clamp_behind_a_clamp() -> None:
    values = [x / 2 for x in range(-20, 21)]
    graphs = {name: [clamped(x, name) for x in values] for name in ACTIVATIONS}
    for first in ACTIVATIONS:
        for second in ACTIVATIONS:
            both = [clamped(clamped(x, first), second) for x in values]
            known = next((name for name, graph in graphs.items() if graph == both), None)
            assert composed(first, second) == known, (first, second)
    assert composed("relu", "relu6") == composed("relu6", "relu") == "relu6"
    assert composed("relu", "relu_n1_to_1") is None


@pytest.mark.parametrize("activation", [*ACTIVATIONS, HARD_SWISH, SWISH])
def test_what_is_no_clamp_is_alone(activation: str) -> None:
    assert composed("none", activation) == activation
    for smooth in (HARD_SWISH, SWISH):
        assert composed(smooth, activation) is None
        if activation != "none":
            assert composed(activation, smooth) is None
