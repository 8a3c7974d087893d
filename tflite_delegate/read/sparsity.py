"""Sparse constants: where the elements that a model stores lie in the dense tensor.

TFLite describes a sparse tensor as a tree (tensorflow/lite/schema/schema.fbs,
``SparsityParameters``): a level for every dimension in the order of traversal, and behind these a
level for every dimension that is divided into blocks. A dense level has all positions; a sparse one
is compressed rows (CSR): ``array_segments[i]`` to ``array_segments[i + 1]`` are what it has of the
``i``-th path above, at the positions ``array_indices``. The stored elements are the paths to the
leaves, in order; all others are zeros. The delegate reads the same
(csrc/layer/constants/sparsity.c).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tflite

#: Dimensions of a tensor.
MAX_RANK = 8
#: Elements of a dense tensor: TFLite counts bytes of a file in 31 bits.
MAX_ELEMENTS = 2**31 - 1


@dataclass(frozen=True)
class _Level:
    """One level of the tree; ``segments`` and ``positions`` are ``None`` if it is dense.

    Along dimension ``axis`` of the dense tensor, its positions lie ``step`` elements apart.
    """

    axis: int
    size: int
    step: int
    segments: np.ndarray | None
    positions: np.ndarray | None


def densify(
    shape: Sequence[int], sparsity: tflite.SparsityParameters, values: np.ndarray
) -> np.ndarray:
    """The dense tensor of ``shape`` whose stored elements are ``values``, of any type.

    Raises
    ------
    ValueError
        If the description makes no sense, or there are fewer values than it has leaves.
    """
    places = stored_places(shape, sparsity)
    if values.size < places.size:
        raise ValueError(f"sparse tensor: {values.size} of {places.size} elements are stored")
    dense = np.zeros(math.prod(shape), values.dtype)
    dense[places] = values.reshape(-1)[: places.size]
    return dense.reshape(shape)


def stored_places(shape: Sequence[int], sparsity: tflite.SparsityParameters) -> np.ndarray:
    """For every stored element its index in the flattened dense tensor of ``shape``.

    Raises
    ------
    ValueError
        If the description makes no sense: levels that do not make up the shape, positions outside
        of it, more leaves than elements.
    """
    levels = _levels(shape, sparsity)
    elements = math.prod(shape)
    _check(elements <= MAX_ELEMENTS, "more elements than any tensor has")
    places = np.zeros(1, np.int64)
    for level in levels:
        step = level.step * math.prod(shape[level.axis + 1 :])
        if level.segments is None or level.positions is None:
            _check(places.size * level.size <= elements, "more leaves than elements")
            places = (places[:, None] + step * np.arange(level.size)).reshape(-1)
        else:
            _check(level.segments.size == places.size + 1, "segments for another number of paths")
            _check(level.positions.size <= elements, "more leaves than elements")
            places = np.repeat(places, np.diff(level.segments)) + step * level.positions
    return places


def _levels(shape: Sequence[int], sparsity: tflite.SparsityParameters) -> list[_Level]:
    rank, blocked = len(shape), sparsity.BlockMapLength()
    count = rank + blocked
    _check(1 <= rank <= MAX_RANK and blocked <= rank and min(shape) >= 1, "shape")
    _check(sparsity.TraversalOrderLength() == count, "traversal order")
    _check(sparsity.DimMetadataLength() == count, "levels")
    order = [sparsity.TraversalOrder(level) for level in range(count)]
    blocks = [sparsity.BlockMap(block) for block in range(blocked)]
    # As every converter writes them; TFLite itself takes no other order of blocks.
    _check(sorted(order[:rank]) == list(range(rank)), "traversal order")
    _check(order[rank:] == list(range(rank, count)), "traversal order")
    _check(blocks == sorted(set(blocks)) and set(blocks) <= set(range(rank)), "block map")
    metadata = [sparsity.DimMetadata(level) for level in range(count)]
    block_size = {axis: metadata[rank + block].DenseSize() for block, axis in enumerate(blocks)}
    levels = []
    for number, (dimension, data) in enumerate(zip(order, metadata, strict=True)):
        is_block = number >= rank
        axis = blocks[dimension - rank] if is_block else dimension
        size = block_size.get(axis, 1)
        _check(size >= 1 and shape[axis] % size == 0, "blocks do not divide the shape")
        extent = size if is_block else shape[axis] // size
        levels.append(_level(data, axis, extent, 1 if is_block else size))
    return levels


def _level(data: tflite.DimensionMetadata, axis: int, size: int, step: int) -> _Level:
    if data.Format() == tflite.DimensionType.DENSE:
        _check(data.DenseSize() == size, "size of a level")
        return _Level(axis, size, step, None, None)
    _check(data.Format() == tflite.DimensionType.SPARSE_CSR, "format of a level")
    segments = _indices(data.ArraySegmentsType(), data.ArraySegments())
    positions = _indices(data.ArrayIndicesType(), data.ArrayIndices())
    _check(segments.size >= 1 and segments[0] == 0 and segments[-1] == positions.size, "segments")
    _check(bool((np.diff(segments) >= 0).all()), "segments")
    _check(bool(((positions >= 0) & (positions < size)).all()), "positions")
    return _Level(axis, size, step, segments, positions)


def _indices(kind: int, table: object) -> np.ndarray:
    """A vector of integers of any of the three types."""
    names = {
        tflite.SparseIndexVector.Int32Vector: tflite.Int32Vector,
        tflite.SparseIndexVector.Uint16Vector: tflite.Uint16Vector,
        tflite.SparseIndexVector.Uint8Vector: tflite.Uint8Vector,
    }
    _check(kind in names and table is not None, "vector of indices")
    vector = names[kind]()
    vector.Init(table.Bytes, table.Pos)  # type: ignore[attr-defined]
    values = vector.ValuesAsNumpy()
    # An empty vector is 0 instead of an array.
    return values.astype(np.int64) if isinstance(values, np.ndarray) else np.zeros(0, np.int64)


def _check(condition: bool, what: str) -> None:
    if not condition:
        raise ValueError(f"malformed sparse tensor: {what}")
