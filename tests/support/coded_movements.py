"""Random operators that move codes of 8 bits; :mod:`tests.support.coded_operators` has others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tests.support.coded_operators import (
    Array,
    CodedCase,
    Codes,
    Operand,
    codes,
    image,
    like,
)
from tests.support.operator_models import Constant

Rng = np.random.Generator


def _ints(*values: Any) -> Array:
    return np.array(values, np.int32)


def _reshape(rng: Rng, x: Codes) -> CodedCase:
    n, h, w, c = x.shape
    shape = [(n * h, w * c), (n, h * w, 1, c), (c, n * h * w)][rng.integers(3)]
    return CodedCase("RESHAPE", [x, _ints(*shape)], [like(x, shape)], {"newShape": list(shape)})


def _expand_dims(rng: Rng, x: Codes) -> CodedCase:
    axis = int(rng.integers(5))
    shape = (*x.shape[:axis], 1, *x.shape[axis:])
    return CodedCase("EXPAND_DIMS", [x, _ints(axis)], [like(x, shape)])


def _paddings(rng: Rng, x: Codes) -> tuple[Array, tuple[int, ...]]:
    pads = rng.integers(0, 3, (4, 2)) * (rng.random((4, 1)) < 0.6)
    return pads.astype(np.int32), tuple(np.array(x.shape) + pads.sum(axis=1))


def _pad(rng: Rng, x: Codes) -> CodedCase:
    pads, shape = _paddings(rng, x)
    return CodedCase("PAD", [x, pads], [like(x, shape)])


def _padv2(rng: Rng, x: Codes) -> CodedCase:
    pads, shape = _paddings(rng, x)
    assert x.quantization
    value = Constant(like(x, (1,)).draw(rng), x.quantization)
    return CodedCase("PADV2", [x, pads, value], [like(x, shape)])


def _mirror_pad(rng: Rng, x: Codes) -> CodedCase:
    pads = np.minimum(rng.integers(0, 3, (4, 2)), np.array(x.shape)[:, None] - 1)
    shape = tuple(np.array(x.shape) + pads.sum(axis=1))
    options = {"mode": int(rng.integers(2))}
    return CodedCase("MIRROR_PAD", [x, pads.astype(np.int32)], [like(x, shape)], options)


def _slice(rng: Rng, x: Codes) -> CodedCase:
    begin = [int(rng.integers(size)) for size in x.shape]
    size = [int(rng.integers(1, s - b + 1)) for s, b in zip(x.shape, begin, strict=True)]
    return CodedCase("SLICE", [x, _ints(*begin), _ints(*size)], [like(x, tuple(size))])


def _strided_slice(rng: Rng, x: Codes) -> CodedCase:
    begin = [int(rng.integers(size)) for size in x.shape]
    strides = [int(rng.integers(1, 4)) for _ in x.shape]
    shape = tuple(-(-(s - b) // step) for s, b, step in zip(x.shape, begin, strides, strict=True))
    inputs: list[Operand] = [x, _ints(*begin), _ints(*x.shape), _ints(*strides)]
    return CodedCase("STRIDED_SLICE", inputs, [like(x, shape)])


def _split(rng: Rng, x: Codes) -> CodedCase:
    axis = int(rng.choice([a for a in range(4) if x.shape[a] % 2 == 0 or x.shape[a] == 1]))
    parts = 2 if x.shape[axis] % 2 == 0 else 1
    shape = tuple(s // parts if a == axis else s for a, s in enumerate(x.shape))
    outputs = [like(x, shape)] * parts
    return CodedCase("SPLIT", [_ints(axis), x], outputs, {"numSplits": parts}, data=1)


def _split_v(rng: Rng, x: Codes) -> CodedCase:
    size = x.shape[3]
    first = int(rng.integers(1, size))
    outputs = [like(x, (*x.shape[:3], part)) for part in (first, size - first)]
    inputs: list[Operand] = [x, _ints(first, size - first), np.array(3, np.int32)]
    return CodedCase("SPLIT_V", inputs, outputs, {"numSplits": 2})


def _concatenation(rng: Rng, x: Codes) -> CodedCase:
    axis = int(rng.integers(4))
    others = [
        like(x, tuple(int(rng.integers(1, 9)) if a == axis else s for a, s in enumerate(x.shape)))
        for _ in range(rng.integers(3))
    ]
    total = x.shape[axis] + sum(other.shape[axis] for other in others)
    shape = tuple(total if a == axis else s for a, s in enumerate(x.shape))
    options = {"axis": axis, "fusedActivationFunction": "none"}
    return CodedCase("CONCATENATION", [x, *others], [like(x, shape)], options)


def _pack(rng: Rng, x: Codes) -> CodedCase:
    axis = int(rng.integers(5))
    shape = (*x.shape[:axis], 2, *x.shape[axis:])
    options = {"axis": axis, "valuesCount": 2}
    return CodedCase("PACK", [x, like(x, x.shape)], [like(x, shape)], options)


def _unpack(rng: Rng, x: Codes) -> CodedCase:
    axis = int(np.argmin(x.shape))
    shape = tuple(s for a, s in enumerate(x.shape) if a != axis)
    parts = x.shape[axis]
    return CodedCase("UNPACK", [x], [like(x, shape)] * parts, {"axis": axis, "num": parts})


def _transpose(rng: Rng, x: Codes) -> CodedCase:
    order = rng.permutation(4)
    shape = tuple(x.shape[axis] for axis in order)
    return CodedCase("TRANSPOSE", [x, order.astype(np.int32)], [like(x, shape)])


def _depth_to_space(rng: Rng, x: Codes) -> CodedCase:
    n, h, w, c = x.shape
    block = 2 if c % 4 == 0 else 1
    shape = (n, h * block, w * block, c // block**2)
    return CodedCase("DEPTH_TO_SPACE", [x], [like(x, shape)], {"blockSize": block})


def _space_to_depth(rng: Rng, x: Codes) -> CodedCase:
    n, h, w, c = x.shape
    block = next(b for b in (4, 3, 2, 1) if h % b == 0 and w % b == 0)
    shape = (n, h // block, w // block, c * block**2)
    return CodedCase("SPACE_TO_DEPTH", [x], [like(x, shape)], {"blockSize": block})


def _resize(rng: Rng, x: Codes) -> CodedCase:
    size = rng.integers(1, 20, 2)
    shape = (x.shape[0], int(size[0]), int(size[1]), x.shape[3])
    corners = bool(rng.random() < 0.3)
    options = {"alignCorners": corners, "halfPixelCenters": not corners and rng.random() < 0.5}
    inputs: list[Operand] = [x, size.astype(np.int32)]
    return CodedCase("RESIZE_NEAREST_NEIGHBOR", inputs, [like(x, shape)], options)


#: By the operator's name: one, of codes that are given.
MOVEMENTS: Mapping[str, Callable[[Rng, Codes], CodedCase]] = {
    "RESHAPE": _reshape,
    "SQUEEZE": lambda rng, x: CodedCase(
        "SQUEEZE", [x], [like(x, tuple(s for s in x.shape if s > 1))]
    ),
    "EXPAND_DIMS": _expand_dims,
    "PAD": _pad,
    "PADV2": _padv2,
    "MIRROR_PAD": _mirror_pad,
    "SLICE": _slice,
    "STRIDED_SLICE": _strided_slice,
    "SPLIT": _split,
    "SPLIT_V": _split_v,
    "CONCATENATION": _concatenation,
    "PACK": _pack,
    "UNPACK": _unpack,
    "TRANSPOSE": _transpose,
    "DEPTH_TO_SPACE": _depth_to_space,
    "SPACE_TO_DEPTH": _space_to_depth,
    "RESIZE_NEAREST_NEIGHBOR": _resize,
}


def random_movements(name: str, dtype: str, count: int) -> list[CodedCase]:
    rng = np.random.default_rng(sum(name.encode()) + len(dtype))
    return [MOVEMENTS[name](rng, codes(rng, image(rng), dtype)) for _ in range(count)]
