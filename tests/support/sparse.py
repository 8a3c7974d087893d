"""Sparse constants as converters write them, from dense ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

VECTORS = {"int32": "Int32Vector", "uint16": "Uint16Vector", "uint8": "Uint8Vector"}


def sparse(
    dense: np.ndarray,
    order: Sequence[int],
    blocks: Sequence[tuple[int, int]] = (),
    compressed: Sequence[int] = (),
    index_type: str = "int32",
) -> tuple[np.ndarray, Any]:
    """The stored elements of ``dense``, and their description in TFLite's schema.

    Parameters
    ----------
    order : sequence of int
        Dimensions from the outermost level to the innermost.
    blocks : sequence of (int, int)
        Dimension and size of its blocks; innermost levels, in this order.
    compressed : sequence of int
        The levels that are sparse: positions at which everything below is zero are left out.
    index_type : {"int32", "uint16", "uint8"}
        Of the indices; segments are int32.
    """
    sizes = dict(blocks)
    levels = [(axis, dense.shape[axis] // sizes.get(axis, 1), sizes.get(axis, 1)) for axis in order]
    levels += [(axis, size, 1) for axis, size in blocks]
    starts: list[tuple[int, ...]] = [(0,) * dense.ndim]
    metadata = []
    for number, (axis, size, step) in enumerate(levels):
        data = schema.DimensionMetadataT()
        segments, positions, following = [0], [], []
        for start in starts:
            for position in range(size):
                place = (*start[:axis], start[axis] + position * step, *start[axis + 1 :])
                if number not in compressed or _below(dense, place, levels[number:]).any():
                    positions.append(position)
                    following.append(place)
            segments.append(len(positions))
        data.denseSize = size
        if number in compressed:
            data.format = schema.DimensionType.SPARSE_CSR
            data.arraySegmentsType, data.arraySegments = _vector("int32", segments)
            data.arrayIndicesType, data.arrayIndices = _vector(index_type, positions)
        metadata.append(data)
        starts = following
    sparsity = schema.SparsityParametersT()
    sparsity.traversalOrder = [*order, *(dense.ndim + block for block in range(len(blocks)))]
    sparsity.blockMap = [axis for axis, _ in blocks]
    sparsity.dimMetadata = metadata
    return np.array([dense[start] for start in starts], dense.dtype), sparsity


def _below(dense: np.ndarray, place: Sequence[int], levels: Sequence[Any]) -> np.ndarray:
    """All elements under a position of the first of ``levels``."""
    (axis, _, step), *rest = levels
    part = [slice(start, start + 1) for start in place]
    part[axis] = slice(place[axis], place[axis] + step)
    for other, size, step in rest:
        if other != axis:
            part[other] = slice(place[other], place[other] + size * step)
    return dense[tuple(part)]


def _vector(name: str, values: Sequence[int]) -> tuple[int, Any]:
    vector = getattr(schema, f"{VECTORS[name]}T")()
    vector.values = np.array(values, name)
    return getattr(schema.SparseIndexVector, VECTORS[name]), vector
