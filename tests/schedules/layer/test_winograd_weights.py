"""What is known of weights in Winograd's domain before they are."""

from __future__ import annotations

import numpy as np
import pytest

from schedules.errors import LeanconvError
from schedules.layer.winograd_weights import WinogradWeights
from schedules.layer.workload import Conv2dWorkload
from tests.support.winograd_weights import layer_of, pruned_at_random


@pytest.mark.parametrize("text", ["f2", "f4r", "f4z80x16", "f2rz5x8="])
def test_text_is_read_back(text: str) -> None:
    assert WinogradWeights.from_text(text).to_text() == text
    layer = Conv2dWorkload.from_text(f"8x8x4->8 k3x3 p1,1,1,1 relu {text}")
    assert layer.domain == WinogradWeights.from_text(text)
    assert Conv2dWorkload.from_text(layer.to_text()) == layer
    points = layer.domain.outputs + 2
    assert layer.weight_shape == (8, points, points, 4)
    assert layer.reduction == 36
    assert layer.macs == 64 * 8 * 36


@pytest.mark.parametrize("text", ["f3", "f4z80", "f4z80x12", "f4=", "f4z100x8"])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(LeanconvError):
        WinogradWeights.from_text(text)


@pytest.mark.parametrize("zeros", [(0, 8), (5, 0), (100, 8), (-1, 8)])
def test_impossible_zeros_are_refused(zeros: tuple[int, int]) -> None:
    with pytest.raises(LeanconvError, match="zero"):
        WinogradWeights(4, False, *zeros)


@pytest.mark.parametrize("block", [8, 16, 32])
def test_blocks_are_those_in_which_weights_are_zero(block: int) -> None:
    weights = pruned_at_random(64, 6, 16, 0.8, block)
    found = WinogradWeights.of(weights, 4)
    assert found.block == block
    assert abs(found.zeros - 80) < 5
    assert not found.balanced


def test_dense_weights_have_no_blocks() -> None:
    assert WinogradWeights.of(np.ones((8, 4, 4, 3)), 2) == WinogradWeights(2)


def test_zeros_here_and_there_are_no_zeros_of_blocks() -> None:
    weights = np.random.default_rng(0).standard_normal((32, 4, 4, 8))
    weights[np.random.default_rng(1).random(weights.shape) < 0.5] = 0
    assert WinogradWeights.of(weights, 2).zeros <= 1


def test_rows_of_equally_many_blocks_are_balanced() -> None:
    weights = np.ones((40, 4, 4, 8), np.float32)
    weights[..., 3:] = 0
    layer = layer_of(weights, 6, 6, 3)
    assert layer.domain == WinogradWeights(2, False, 62, 32, balanced=True)
    weights[0, 0, 0, 3] = 1
    assert not WinogradWeights.of(weights, 2).balanced
