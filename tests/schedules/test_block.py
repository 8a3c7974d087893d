"""Blocks: layers that are chains, and numbers that follow from them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from schedules.block import Block
from schedules.errors import LeanconvError
from schedules.workload import Conv2dWorkload

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
    assert block.intermediate_bytes == (14 * 14 + 7 * 7) * 48 * 4
    assert not block.residual
    assert block.describe() == (
        "conv1x1 14x14x8->48 relu6 | dwconv3x3 s2 14x14x48 relu6 | conv1x1 7x7x48->16"
    )
    assert block.with_batch(3).output_shape == (3, 7, 7, 16)


def test_a_residual_belongs_to_the_last_layer() -> None:
    assert Block((DEPTHWISE, replace(PROJECT, residual=True))).residual
    with pytest.raises(LeanconvError, match="has a residual, but is not the block's last layer"):
        Block((replace(DEPTHWISE, residual=True), PROJECT))


def test_plain_values() -> None:
    block = Block((DEPTHWISE, PROJECT))
    assert Block.from_dict(json.loads(json.dumps(block.to_dict()))) == block


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
