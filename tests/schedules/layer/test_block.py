"""Blocks: layers that are chains, and numbers that follow from them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedules.errors import LeanconvError
from schedules.layer.block import Block, workload_from_text
from schedules.layer.workload import Conv2dWorkload

EXPAND = Conv2dWorkload(14, 14, 8, 48, 1, 1, activation="relu6")
DEPTHWISE = Conv2dWorkload.with_padding(
    "SAME",
    in_height=14,
    in_width=14,
    in_channels=48,
    out_channels=48,
    kernel_height=3,
    kernel_width=3,
    stride_height=2,
    stride_width=2,
    groups=48,
    activation="relu6",
)
PROJECT = Conv2dWorkload(7, 7, 48, 16, 1, 1)


def test_a_chain_of_layers() -> None:
    block = Block((EXPAND, DEPTHWISE, PROJECT))
    assert block.input_shape == (1, 14, 14, 8)
    assert block.output_shape == (1, 7, 7, 16)
    assert block.macs == 14 * 14 * 8 * 48 + 7 * 7 * 9 * 48 + 7 * 7 * 48 * 16
    assert block.describe() == (
        "conv1x1 14x14x8->48 relu6 | dwconv3x3 s2 14x14x48 relu6 | conv1x1 7x7x48->16"
    )


def test_a_residual_belongs_to_the_last_layer() -> None:
    Block((DEPTHWISE, replace(PROJECT, residual=True)))
    with pytest.raises(LeanconvError, match="has a residual, but is not the block's last layer"):
        Block((replace(DEPTHWISE, residual=True), PROJECT))


@pytest.mark.parametrize(
    ("layers", "reason"),
    [
        ((PROJECT,), "at least two layers"),
        ((EXPAND, PROJECT), "conv1x1 7x7x48->16 does not read the output of conv1x1 14x14x8->48"),
        ((DEPTHWISE, PROJECT.with_batch(2)), "does not read the output"),
        ((replace(EXPAND, group_of=2), DEPTHWISE), "one group of a layer"),
    ],
)
def test_what_is_no_chain(layers: tuple[Conv2dWorkload, ...], reason: str) -> None:
    with pytest.raises(LeanconvError, match=reason):
        Block(layers)


@given(
    *(st.integers(1, 300) for _ in range(4)),
    st.sampled_from([1, 3, 5]),
    st.integers(1, 2),
    st.booleans(),
)
def test_survives_as_text(
    size: int, channels: int, expanded: int, outputs: int, kernel: int, stride: int, residual: bool
) -> None:
    expand = Conv2dWorkload(size, size, channels, expanded, 1, 1, activation="hard_swish")
    depthwise = Conv2dWorkload.with_padding(
        "SAME",
        in_height=size,
        in_width=size,
        in_channels=expanded,
        out_channels=expanded,
        kernel_height=kernel,
        kernel_width=kernel,
        stride_height=stride,
        stride_width=stride,
        groups=expanded,
    )
    image = (depthwise.out_height, depthwise.out_width)
    project = Conv2dWorkload(*image, expanded, outputs, 1, 1, residual=residual)
    for layers in ((expand, depthwise, project), (depthwise, project)):
        assert workload_from_text(Block(layers).to_text()) == Block(layers)
    assert workload_from_text(project.to_text()) == project


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "describes no convolution"),
        ("14x14x8->48 k1x1 | ", "describes no convolution"),
        ("14x14x8->48 k1x1|14x14x48->16 k1x1", "describes no convolution"),
        ("14x14x8->48 k1x1 | 14x14x47->16 k1x1", "does not read the output"),
    ],
)
def test_text_that_is_no_block(text: str, reason: str) -> None:
    with pytest.raises(LeanconvError, match=reason):
        workload_from_text(text)
