"""Blocks of weights: what is kept, and what a kernel must not be given."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from schedules.algorithms.sparse_winograd.blocks import packed_blocks
from schedules.errors import LeanconvError
from schedules.kernel import packing
from schedules.kernel.packing import PackedWeights
from schedules.kernel.sparse.blocks import check_blocks, index_bytes, pointer_bytes
from tests.support.winograd_weights import layer_of, pruned_at_random

WEIGHTS = pruned_at_random(20, 4, 6, 0.6, 8)
LAYER = layer_of(WEIGHTS, 8, 8, 3)


def parts(data: np.ndarray, packed: PackedWeights) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Views: where rows begin, channels, and values."""
    memory, capacity = data.view(np.uint8), packed.shape[0]
    first = pointer_bytes(packed.rows)
    second = first + index_bytes(capacity)
    return (
        memory[: 4 * (packed.rows + 1)].view(np.int32),
        memory[first : first + 2 * capacity].view(np.int16),
        memory[second:].view(np.float32).reshape(packed.shape),
    )


def unpacked(data: np.ndarray, packed: PackedWeights) -> np.ndarray:
    """``WEIGHTS`` again, filled up to whole panels, from a packed form."""
    pointers, indices, values = parts(data, packed)
    panels = -(-20 // packed.panel)
    rows = np.zeros((16, panels, 6, packed.panel), np.float32)
    size = packed.shape[0] // (16 * panels)
    for row, blocks in enumerate(rows.reshape(-1, 6, packed.panel)):
        first, last = pointers[row : row + 2] if packed.rows else (row * size, (row + 1) * size)
        blocks[indices[first:last]] = values[first:last]
    return rows.swapaxes(1, 2).reshape(4, 4, 6, -1).transpose(3, 0, 1, 2)


def test_blocks_that_are_not_zero_are_kept() -> None:
    packed = packed_blocks(LAYER, 8, balanced=False)
    assert packed.rows == 16 * 3
    data = packing.pack(WEIGHTS, packed)
    assert data.nbytes == packed.weight_bytes
    check_blocks(data, packed, 6)
    np.testing.assert_array_equal(unpacked(data, packed)[:20], WEIGHTS)
    pointers, _, values = parts(data, packed)
    assert (values[: pointers[-1]] != 0).any(axis=1).all()


def test_balanced_rows_are_filled_up() -> None:
    weights = np.ones((20, 4, 4, 6), np.float32)
    weights[..., 4:] = 0
    weights[:8, 0, 0, 0] = 0
    layer = layer_of(np.where(weights.sum(3, keepdims=True), weights, 1), 8, 8, 3)
    packed = replace(packed_blocks(layer, 8, balanced=True))
    assert packed.shape == (16 * 3 * 5, 8)
    data = packing.pack(weights, packed)
    check_blocks(data, packed, 6)
    np.testing.assert_array_equal(unpacked(data, packed)[:20], weights)


@pytest.mark.parametrize("balanced", [False, True])
def test_more_blocks_than_the_kernel_takes_are_refused(balanced: bool) -> None:
    with pytest.raises(LeanconvError, match="the kernel takes"):
        packing.pack(np.ones_like(WEIGHTS), packed_blocks(LAYER, 8, balanced))


@pytest.mark.parametrize(
    ("part", "place", "value", "reason"),
    [
        (0, 0, 1, "rows are not parts"),
        (0, 5, -3, "rows are not parts"),
        (0, 48, 1 << 30, "rows are not parts"),
        (0, 9, 3, "more than 6 blocks"),
        (1, 2, -1, "an input channel that is none of 6"),
        (1, 2, 6, "an input channel that is none of 6"),
    ],
)
def test_corrupt_data_is_refused(part: int, place: int, value: int, reason: str) -> None:
    packed = packed_blocks(LAYER, 8, balanced=False)
    data = packing.pack(WEIGHTS, packed)
    pointers = parts(data, packed)[0]
    if reason.startswith("more"):
        pointers[1:10] = 0
        value = pointers[10]
    parts(data, packed)[part][place] = value
    with pytest.raises(LeanconvError, match=reason):
        check_blocks(data, packed, 6)


def test_data_of_another_size_is_refused() -> None:
    packed = packed_blocks(LAYER, 8, balanced=False)
    with pytest.raises(LeanconvError, match="bytes"):
        check_blocks(packing.pack(WEIGHTS, packed)[1:], packed, 6)
