"""What operators compute from constants: sizes, above all, that a graph works out as it runs.

A converter that does not know the batch writes SHAPE, STRIDED_SLICE and PACK in front of a RESHAPE.
Once the shapes are known, all of them are numbers. Whatever is not understood to the last option
is left to the importer.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tflite_delegate.importer.editable import (
    TYPE_NAMES,
    EditableGraph,
    EditableOperator,
    EditableTensor,
)

Array = NDArray[Any]
#: Elements of the largest result of arithmetic: sizes are few, and weights are for TVM to fold.
MAX_ELEMENTS = 1024


def folded(graph: EditableGraph, node: EditableOperator) -> list[Array] | None:
    """The results of a node that depends on nothing but constants and known shapes.

    Returns
    -------
    list of array or None
        One for each output, of its type; ``None`` if the node has to be imported.
    """
    tensors = [None if index < 0 else graph.tensors[index] for index in node.inputs]
    results = [graph.tensors[index] for index in node.outputs if index >= 0]
    if len(results) != len(node.outputs) or not results:
        return None
    try:
        found = _results(node, tensors, results)
    except (ValueError, IndexError, TypeError, AttributeError, OverflowError, ArithmeticError):
        return None  # an operator that cannot be right: the importer says what it makes of it
    types = [TYPE_NAMES.get(tensor.type) for tensor in results]
    if found is None or [value.dtype.name for value in found] != types:
        return None
    return found


def _results(
    node: EditableOperator,
    tensors: Sequence[EditableTensor | None],
    results: Sequence[EditableTensor],
) -> list[Array] | None:
    dtype = np.dtype(TYPE_NAMES[results[0].type]) if results[0].type in TYPE_NAMES else None
    if dtype is None or not tensors:
        return None
    if node.name in ("SHAPE", "RANK"):
        source = tensors[0]
        if source is None or not source.is_inferred:
            return None
        value = source.shape if node.name == "SHAPE" else len(source.shape)
        return [np.array(value, dtype)]
    values = [None if tensor is None else tensor.data for tensor in tensors]
    if any(tensor is not None and tensor.data is None for tensor in tensors):
        return None
    if node.name == "DENSIFY":  # dense since it was read
        return [value for value in values if value is not None]
    if node.name == "DEQUANTIZE":
        assert tensors[0] is not None
        return [_dequantised(tensors[0])]
    if any(t is not None and t.quantization is not None for t in (*tensors, *results)):
        return None
    function = _FUNCTIONS.get(node.name)
    if function is None or max(v.size for v in values if v is not None) > MAX_ELEMENTS:
        return None
    with np.errstate(all="raise", over="ignore"):  # integers wrap around, as TFLite's do
        found = function(node, values, dtype)
    found = found if isinstance(found, list) else [found]
    return found if max(value.size for value in found) <= MAX_ELEMENTS else None


def _dequantised(tensor: EditableTensor) -> Array:
    """float16 or quantised constants as float32."""
    assert tensor.data is not None
    quantization = tensor.quantization
    if quantization is None:
        if tensor.data.dtype != np.float16:
            raise ValueError("DEQUANTIZE without scales")
        return tensor.data.astype(np.float32)
    along = [1] * tensor.data.ndim
    if quantization.scales.size > 1:
        along[quantization.axis] = -1
    scales = quantization.scales.reshape(along)
    zeros = quantization.zero_points.reshape(along)
    values: Array = scales * (tensor.data.astype(np.int64) - zeros).astype(np.float32)
    return values.reshape(tensor.data.shape)


def _options(node: EditableOperator, kind: str) -> Any:
    """The options, as TFLite reads them where a node has none: all at their defaults."""
    options = node.options(kind)
    if options is None:
        raise ValueError(f"{node.name} without {kind}")
    return options


def _elementwise(function: Callable[..., Array], kind: str | None = None) -> Callable[..., Array]:
    """An operator on one or two operands, which are broadcast; no fused activation."""

    def fold(node: EditableOperator, values: Sequence[Array], dtype: np.dtype) -> Array:
        if kind is not None:
            options = node.options(kind)
            if options is not None and options.FusedActivationFunction():
                raise ValueError("a fused activation")
        return np.asarray(function(*values))

    return fold


def _divide(one: Array, other: Array) -> Array:
    if one.dtype.kind != "i":
        return one / other
    quotient = np.abs(one) // np.abs(other)  # towards zero, as in C
    return (quotient * np.sign(one) * np.sign(other)).astype(one.dtype)


def _cast(node: EditableOperator, values: Sequence[Array], dtype: np.dtype) -> Array:
    cast = values[0].astype(dtype)
    if dtype.kind in "iu" and not np.array_equal(np.trunc(values[0]), cast):
        raise ValueError("a number that the type does not hold")
    return cast


def _strided_slice(node: EditableOperator, values: Sequence[Array], dtype: np.dtype) -> Array:
    source, begin, end, strides = values
    options = _options(node, "StridedSliceOptions")
    if options.Offset():
        raise ValueError("an end that counts from the begin")
    index: list[Any] = []
    for place in range(begin.size):
        bit = 1 << place
        if options.EllipsisMask() & bit:
            index.append(Ellipsis)
        elif options.NewAxisMask() & bit:
            index.append(None)
        elif options.ShrinkAxisMask() & bit:
            index.append(int(begin[place]))
        else:
            start = None if options.BeginMask() & bit else int(begin[place])
            stop = None if options.EndMask() & bit else int(end[place])
            index.append(slice(start, stop, int(strides[place])))
    return np.asarray(source[tuple(index)])


def _slice(node: EditableOperator, values: Sequence[Array], dtype: np.dtype) -> Array:
    source, begin, size = values
    index = []
    for start, count, length in zip(begin.tolist(), size.tolist(), source.shape, strict=True):
        count = length - start if count == -1 else count
        if not 0 <= start <= start + count <= length:
            raise ValueError("a slice beyond the tensor")
        index.append(slice(start, start + count))
    return source[tuple(index)]


def _gather(node: EditableOperator, values: Sequence[Array], dtype: np.dtype) -> Array:
    options = _options(node, "GatherOptions")
    source, indices = values
    if options.BatchDims() or not 0 <= options.Axis() < source.ndim or (indices < 0).any():
        raise ValueError("a GATHER of rows of rows")
    return np.take(source, indices, axis=options.Axis())


def _concatenation(node: EditableOperator, values: Sequence[Array], dtype: np.dtype) -> Array:
    options = _options(node, "ConcatenationOptions")
    if options.FusedActivationFunction():
        raise ValueError("a fused activation")
    return np.concatenate(values, axis=options.Axis())


def _pack(node: EditableOperator, values: Sequence[Array], dtype: np.dtype) -> Array:
    options = _options(node, "PackOptions")
    if options.ValuesCount() != len(values):
        raise ValueError("another number of operands")
    return np.stack(values, axis=options.Axis())


def _unpack(node: EditableOperator, values: Sequence[Array], dtype: np.dtype) -> list[Array]:
    options = _options(node, "UnpackOptions")
    parts = list(np.moveaxis(values[0], options.Axis(), 0))
    if not len(parts) == options.Num() == len(node.outputs):
        raise ValueError("another number of results")
    return [np.array(part) for part in parts]


def _reshape(node: EditableOperator, values: Sequence[Array], dtype: np.dtype) -> Array:
    shape = values[1] if len(values) > 1 else _options(node, "ReshapeOptions").NewShapeAsNumpy()
    return values[0].reshape(np.asarray(shape).reshape(-1).tolist())


def _squeeze(node: EditableOperator, values: Sequence[Array], dtype: np.dtype) -> Array:
    options = _options(node, "SqueezeOptions")
    axes = options.SqueezeDimsAsNumpy().tolist() if options.SqueezeDimsLength() else None
    return np.squeeze(values[0], None if axes is None else tuple(axes))


def _reduced(function: Callable[..., Array]) -> Callable[..., Array]:
    def fold(node: EditableOperator, values: Sequence[Array], dtype: np.dtype) -> Array:
        source, axes = values
        keep = _options(node, "ReducerOptions").KeepDims()
        axis = tuple({int(a) % max(source.ndim, 1) for a in axes.reshape(-1)})
        keywords = {} if function in (np.max, np.min) else {"dtype": source.dtype}
        return np.asarray(function(source, axis=axis, keepdims=bool(keep), **keywords))

    return fold


def _range(node: EditableOperator, values: Sequence[Array], dtype: np.dtype) -> Array:
    if dtype.kind != "i":
        raise ValueError("steps that are rounded")
    start, limit, delta = (int(value.reshape(())) for value in values)
    return np.array(range(start, limit, delta)[: MAX_ELEMENTS + 1], dtype)


def _filled(shape: Array, value: Array) -> Array:
    if math.prod(shape.tolist()) > MAX_ELEMENTS:
        raise ValueError("too many elements")
    return np.full(shape.tolist(), value.reshape(()))


def _broadcast(source: Array, shape: Array) -> Array:
    if math.prod(shape.tolist()) > MAX_ELEMENTS:
        raise ValueError("too many elements")
    return np.broadcast_to(source, shape.tolist())


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "ABS": _elementwise(np.abs),
    "ADD": _elementwise(np.add, "AddOptions"),
    "BROADCAST_ARGS": lambda node, values, dtype: np.array(
        np.broadcast_shapes(*(tuple(value.tolist()) for value in values)), dtype
    ),
    "BROADCAST_TO": _elementwise(_broadcast),
    "CAST": _cast,
    "CEIL": _elementwise(np.ceil),
    "CONCATENATION": _concatenation,
    "DIV": _elementwise(_divide, "DivOptions"),
    "EQUAL": _elementwise(np.equal),
    "EXPAND_DIMS": _elementwise(lambda x, axis: np.expand_dims(x, int(axis.reshape(())))),
    "FILL": _elementwise(_filled),
    "FLOOR": _elementwise(np.floor),
    "FLOOR_DIV": _elementwise(np.floor_divide),
    "FLOOR_MOD": _elementwise(np.mod),
    "GATHER": _gather,
    "GREATER": _elementwise(np.greater),
    "GREATER_EQUAL": _elementwise(np.greater_equal),
    "LESS": _elementwise(np.less),
    "LESS_EQUAL": _elementwise(np.less_equal),
    "LOGICAL_AND": _elementwise(operator.and_),
    "LOGICAL_NOT": _elementwise(operator.invert),
    "LOGICAL_OR": _elementwise(operator.or_),
    "MAXIMUM": _elementwise(np.maximum),
    "MINIMUM": _elementwise(np.minimum),
    "MUL": _elementwise(np.multiply, "MulOptions"),
    "NEG": _elementwise(np.negative),
    "NOT_EQUAL": _elementwise(np.not_equal),
    "PACK": _pack,
    "RANGE": _range,
    "REDUCE_MAX": _reduced(np.max),
    "REDUCE_MIN": _reduced(np.min),
    "REDUCE_PROD": _reduced(np.prod),
    "RESHAPE": _reshape,
    "SELECT_V2": _elementwise(np.where),
    "SLICE": _slice,
    "SQUEEZE": _squeeze,
    "STRIDED_SLICE": _strided_slice,
    "SUB": _elementwise(np.subtract, "SubOptions"),
    "SUM": _reduced(np.sum),
    "TRANSPOSE": _elementwise(lambda x, axes: np.transpose(x, axes.tolist())),
    "UNPACK": _unpack,
}
