"""Weights of Winograd's domain in blocks, of which those that are all zero are left out.

Layout ``blocks``, for each point and panel of output channels, a *row*::

    Ptr   int32 [rows + 1]       where the blocks of a row begin
    Idx   int16 [capacity]       input channels of the blocks, in each row ascending
    Val   [capacity][panel]      their weights

each behind the last cache line of the one before. Rows of equally many blocks need no Ptr; one with
fewer is filled up with zeros. What is packed for a kernel, whoever did it, must pass
:func:`check_blocks`: the kernel reads where they point.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from schedules.errors import LeanconvError
from schedules.lower.memory import align

if TYPE_CHECKING:
    from schedules.kernel.packing import PackedWeights


def pack_blocks(weights: np.ndarray, packed: PackedWeights) -> np.ndarray:
    """``weights`` (M, n_h, n_w, C) as float32 of ``packed.weight_bytes``.

    Raises
    ------
    LeanconvError
        If more blocks are not zero than the kernel takes.
    """
    channels = weights.shape[3]
    matrices = weights.transpose(1, 2, 0, 3).reshape(-1, len(weights), channels)
    count = -(-len(weights) // packed.panel)
    padded = np.zeros((len(matrices), count * packed.panel, channels), np.float32)
    padded[:, : len(weights)] = matrices
    blocks = padded.reshape(-1, packed.panel, channels).swapaxes(1, 2)
    kept = (blocks != 0).any(axis=2)
    if packed.rows:
        row, channel = np.nonzero(kept)
        pointers = np.concatenate([[0], np.cumsum(kept.sum(axis=1))])
        _require_room(len(row), packed.shape[0])
        return _joined(packed, channel, blocks[row, channel], pointers)
    size = packed.shape[0] // len(blocks)
    _require_room(int(kept.sum(axis=1).max()), size)
    # Those that are kept first, each part in the order of channels.
    order = np.argsort(~kept, axis=1, kind="stable")[:, :size]
    values = np.take_along_axis(blocks, order[..., None], axis=1)
    return _joined(packed, order.reshape(-1), values.reshape(-1, packed.panel))


def check_blocks(data: np.ndarray, packed: PackedWeights, channels: int) -> None:
    """Raise LeanconvError unless a kernel reads nothing but its own with ``data``."""
    if data.nbytes != packed.weight_bytes:
        raise LeanconvError(f"sparse weights of {data.nbytes} bytes, not {packed.weight_bytes}")
    memory, capacity = data.view(np.uint8).reshape(-1), packed.shape[0]
    used = capacity
    if packed.rows:
        pointers = memory[: 4 * (packed.rows + 1)].view(np.int32)
        if pointers[0] != 0 or (np.diff(pointers) < 0).any() or pointers[-1] > capacity:
            raise LeanconvError(f"sparse weights whose rows are not parts of {capacity} blocks")
        if (np.diff(pointers) > channels).any():
            raise LeanconvError(f"sparse weights of a row of more than {channels} blocks")
        used = int(pointers[-1])
    indices = memory[pointer_bytes(packed.rows) :][: 2 * used].view(np.int16)
    if ((indices < 0) | (indices >= channels)).any():
        raise LeanconvError(f"sparse weights of an input channel that is none of {channels}")


def pointer_bytes(rows: int) -> int:
    """Bytes of Ptr and what is between it and Idx."""
    return align(4 * (rows + 1)) if rows else 0


def index_bytes(capacity: int) -> int:
    """Bytes of Idx and what is between it and Val."""
    return align(2 * capacity)


def _joined(
    packed: PackedWeights,
    indices: np.ndarray,
    values: np.ndarray,
    pointers: np.ndarray | None = None,
) -> np.ndarray:
    memory = np.zeros(packed.weight_bytes, np.uint8)
    if pointers is not None:
        memory[: 4 * len(pointers)].view(np.int32)[...] = pointers
    behind = pointer_bytes(packed.rows)
    memory[behind : behind + 2 * len(indices)].view(np.int16)[...] = indices
    behind += index_bytes(packed.shape[0])
    memory[behind:].view(np.float32)[: values.size] = values.reshape(-1)
    return memory.view(np.float32)


def _require_room(blocks: int, capacity: int) -> None:
    if blocks > capacity:
        raise LeanconvError(f"sparse weights of {blocks} blocks: the kernel takes {capacity}")
