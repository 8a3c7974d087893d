"""Operators that put the elements of tensors into another order or shape."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from tvm import relax

from schedules.errors import LeanconvError
from tflite_delegate.importer.conversions.indexing import checked
from tflite_delegate.importer.conversions.operation import Operation


def _reshape(operation: Operation) -> relax.Expr:
    wanted = list(operation.options["newShape"])
    if operation.has(1):
        wanted = operation.integers(1, "shapes")
    pair = [2] if operation.is_complex else []
    count = math.prod(operation.shape(0)) // math.prod(pair)
    if wanted.count(-1) == 1:
        rest = math.prod(size for size in wanted if size != -1)
        wanted[wanted.index(-1)] = count // max(1, rest)
    if wanted == [0] and count == 1:
        wanted = []  # as old converters wrote scalars
    if math.prod(wanted) != count or min(wanted, default=1) < 0:
        raise LeanconvError(f"{list(operation.shape(0))} has no shape {wanted}")
    return relax.op.reshape(operation.codes(0), [*wanted, *pair])


def _squeeze(operation: Operation) -> relax.Expr:
    """Without the dimensions that are named, or without all of size 1."""
    shape = operation.shape(0)
    axes = {operation.axis(a, len(shape)) for a in operation.options["squeezeDims"]}
    axes = axes or {axis for axis, size in enumerate(shape) if size == 1}
    if any(shape[axis] != 1 for axis in axes):
        raise LeanconvError(f"squeezeDims {sorted(axes)} of {list(shape)}")
    kept = [size for axis, size in enumerate(shape) if axis not in axes]
    return relax.op.reshape(operation.codes(0), kept)


def _expand_dims(operation: Operation) -> relax.Expr:
    shape = list(operation.shape(0))
    (axis,) = operation.integers(1, "axes")
    shape.insert(operation.axis(axis, len(shape) + 1), 1)
    return relax.op.reshape(operation.codes(0), shape)


def _transpose(operation: Operation) -> relax.Expr:
    rank = len(operation.shape(0))
    order = [operation.axis(a, rank) for a in operation.integers(1, "orders of dimensions")]
    return relax.op.permute_dims(operation.codes(0), order)


def _concatenation(operation: Operation) -> relax.Expr:
    """Inputs of another scale than the result are quantised again."""
    quantization, element = operation.output_quantization(), operation.output_type()
    parts = []
    for position in range(len(operation.inputs)):
        part = operation.codes(position)
        if quantization and operation.input_quantization(position) != quantization:
            part = operation.quantised(operation.value(position), quantization, element)
        parts.append(part)
    axis = operation.axis(operation.options["axis"], len(operation.shape(0)))
    return relax.op.concat(parts, axis)


def _pack(operation: Operation) -> relax.Expr:
    count = operation.options["valuesCount"]
    if count != len(operation.inputs):
        raise LeanconvError(f"valuesCount {count} of {len(operation.inputs)} inputs")
    shape = list(operation.shape(0))
    axis = operation.axis(operation.options["axis"], len(shape) + 1)
    shape.insert(axis, 1)
    parts = [relax.op.reshape(operation.codes(i), shape) for i in range(count)]
    return relax.op.concat(parts, axis)


def _unpack(operation: Operation) -> list[relax.Expr]:
    shape = list(operation.shape(0))
    axis = operation.axis(operation.options["axis"], len(shape))
    if operation.options["num"] != shape.pop(axis):
        raise LeanconvError(f"num {operation.options['num']} of {operation.shape(0)[axis]}")
    parts = _split_into(operation, 0, [1] * operation.options["num"], axis)
    return [relax.op.reshape(part, shape) for part in parts]


def _split(operation: Operation) -> list[relax.Expr]:
    (axis,) = operation.integers(0, "axes")
    axis, count = operation.axis(axis, len(operation.shape(1))), operation.options["numSplits"]
    if count != len(operation.outputs) or operation.shape(1)[axis] % count:
        raise LeanconvError(f"numSplits {count} of {operation.shape(1)[axis]}")
    return _split_into(operation, 1, [operation.shape(1)[axis] // count] * count, axis)


def _split_v(operation: Operation) -> list[relax.Expr]:
    (axis,) = operation.integers(2, "axes")
    axis = operation.axis(axis, len(operation.shape(0)))
    sizes, whole = operation.integers(1, "sizes"), operation.shape(0)[axis]
    if sizes.count(-1) == 1:
        sizes[sizes.index(-1)] = whole - sum(size for size in sizes if size != -1)
    counts = {operation.options["numSplits"], len(sizes), len(operation.outputs)}
    if len(counts) != 1 or sum(sizes) != whole or min(sizes) < 0:
        raise LeanconvError(f"sizes {sizes} of {whole}")
    return _split_into(operation, 0, sizes, axis)


def _split_into(
    operation: Operation, position: int, sizes: Sequence[int], axis: int
) -> list[relax.Expr]:
    """Slices of so many elements; a scale of their own, if they have one, is not read."""
    ends = np.cumsum(sizes).tolist()
    return [
        relax.op.strided_slice(operation.codes(position), [axis], [end - size], [end])
        for size, end in zip(sizes, ends, strict=True)
    ]


def _tile(operation: Operation) -> relax.Expr:
    return relax.op.tile(operation.codes(0), operation.integers(1, "multiples"))


def _broadcast_to(operation: Operation) -> relax.Expr:
    return relax.op.broadcast_to(operation.codes(0), operation.integers(1, "shapes"))


def _reverse(operation: Operation) -> relax.Expr:
    x, rank = operation.codes(0), len(operation.shape(0))
    for axis in operation.integers(1, "axes"):
        x = operation.emit(relax.op.flip(x, operation.axis(axis, rank)))
    return x


def _reverse_sequence(operation: Operation) -> relax.Expr:
    """The first elements of each row, whose number the second input is, in reverse."""
    rank = len(operation.shape(0))
    axis = operation.axis(operation.options["seqDim"], rank)
    batch = operation.axis(operation.options["batchDim"], rank)
    longest = operation.shape(0)[axis]
    lengths = operation.codes(1)
    if operation.constant(1) is None:
        lengths = checked(
            operation,
            lengths,
            lambda value, _: (value >= 0) & (value <= longest),
            f"a length is out of range, which ends at {longest}",
        )
    elif not all(0 <= length <= longest for length in operation.integers(1, "lengths")):
        raise LeanconvError(f"a length is out of range, which ends at {longest}")
    return relax.op.reverse_sequence(operation.codes(0), lengths, axis, batch)


# Blocks


def _space_to_depth(operation: Operation) -> relax.Expr:
    batch, height, width, channels = operation.shape(0)
    block = _block(operation, height, width)
    split = (batch, height // block, block, width // block, block, channels)
    blocks = relax.op.permute_dims(relax.op.reshape(operation.codes(0), split), [0, 1, 3, 2, 4, 5])
    return relax.op.reshape(
        blocks, (batch, height // block, width // block, block * block * channels)
    )


def _depth_to_space(operation: Operation) -> relax.Expr:
    batch, height, width, channels = operation.shape(0)
    block = operation.options["blockSize"]
    if block < 1 or channels % (block * block):
        raise LeanconvError(f"blockSize {block} of {channels} channels")
    split = (batch, height, width, block, block, channels // (block * block))
    blocks = relax.op.permute_dims(relax.op.reshape(operation.codes(0), split), [0, 1, 3, 2, 4, 5])
    return relax.op.reshape(blocks, (batch, height * block, width * block, split[-1]))


def _block(operation: Operation, *sizes: int) -> int:
    block = int(operation.options["blockSize"])
    if block < 1 or any(size % block for size in sizes):
        raise LeanconvError(f"blockSize {block} of {list(sizes)}")
    return block


def _space_to_batch(operation: Operation) -> relax.Expr:
    block = operation.integers(1, "blocks")
    pads = operation.parameter(2, "paddings").reshape(-1, 2).tolist()
    shape, spatial = operation.shape(0), len(block)
    amounts = [0, 0, *(amount for pad in pads for amount in pad)]
    amounts += [0] * (2 * len(shape) - len(amounts))
    x = operation.codes(0)
    if any(amounts):
        x = operation.emit(relax.op.nn.pad(x, amounts, pad_value=_zero(operation)))
    shape = operation.shape_of(x)
    if any(size % b for size, b in zip(shape[1:], block, strict=False)):
        raise LeanconvError(f"blocks {block} of {list(shape)}")
    outer = [size // b for size, b in zip(shape[1 : 1 + spatial], block, strict=True)]
    split = [shape[0]]
    for size, b in zip(outer, block, strict=True):
        split += [size, b]
    rest = shape[1 + spatial :]
    blocks = [2 + 2 * i for i in range(spatial)]
    order = [*blocks, 0, *(axis - 1 for axis in blocks)]
    order += [1 + 2 * spatial + i for i in range(len(rest))]
    x = relax.op.permute_dims(relax.op.reshape(x, [*split, *rest]), order)
    return relax.op.reshape(x, [shape[0] * math.prod(block), *outer, *rest])


def _batch_to_space(operation: Operation) -> relax.Expr:
    block = operation.integers(1, "blocks")
    crops = operation.parameter(2, "crops").reshape(-1, 2).tolist()
    shape, spatial = operation.shape(0), len(block)
    batch, remainder = divmod(shape[0], math.prod(block))
    if remainder:
        raise LeanconvError(f"blocks {block} of {shape[0]} images")
    rest = shape[1 + spatial :]
    x = relax.op.reshape(operation.codes(0), [*block, batch, *shape[1:]])
    order = [spatial]
    for axis in range(spatial):
        order += [spatial + 1 + axis, axis]
    order += [1 + 2 * spatial + i for i in range(len(rest))]
    whole = [size * b for size, b in zip(shape[1:], block, strict=False)]
    x = relax.op.reshape(relax.op.permute_dims(x, order), [batch, *whole, *rest])
    if not any(amount for crop in crops for amount in crop):
        return x
    starts = [start for start, _ in crops]
    ends = [size - end for size, (_, end) in zip(whole, crops, strict=True)]
    if any(start < 0 or start >= end for start, end in zip(starts, ends, strict=True)):
        raise LeanconvError(f"crops {crops} of {whole}")
    return relax.op.strided_slice(x, list(range(1, 1 + spatial)), starts, ends)


def _zero(operation: Operation) -> int:
    """The code of zero."""
    quantization = operation.output_quantization()
    return int(quantization.zero_point.ravel()[0]) if quantization else 0


# New tensors


def _fill(operation: Operation) -> relax.Expr:
    value = relax.op.reshape(operation.codes(1), ())
    return relax.op.broadcast_to(value, operation.integers(0, "shapes"))


def _shape(operation: Operation) -> relax.Expr:
    element = operation.output_type()
    return relax.const(np.array(operation.shape(0), element), element)


def _rank(operation: Operation) -> relax.Expr:
    element = operation.output_type()
    return relax.const(np.array(len(operation.shape(0)), element), element)


def _range(operation: Operation) -> relax.Expr:
    element = operation.output_type()
    start, limit, delta = (operation.parameter(i, "bounds").item() for i in range(3))
    if delta == 0:
        raise LeanconvError("a step of 0")
    count = max(0, math.ceil((limit - start) / delta))
    values = np.array(start, element) + np.arange(count).astype(element) * np.array(delta, element)
    return relax.const(values.astype(element), element)


def _zeros_like(operation: Operation) -> relax.Expr:
    return relax.op.zeros(operation.shape(0), operation.input_type(0))


def _matrix_diag(operation: Operation) -> relax.Expr:
    shape = operation.shape(0)
    rows = relax.op.expand_dims(operation.codes(0), -2)
    zero = relax.const(0, operation.input_type(0))
    return relax.op.where(_eye(shape[-1], shape[-1]), rows, zero)


def _matrix_set_diag(operation: Operation) -> relax.Expr:
    *batch, rows, columns = operation.shape(0)
    diagonal, least = operation.codes(1), min(rows, columns)
    if columns > least:
        diagonal = relax.op.nn.pad(diagonal, [0, 0] * len(batch) + [0, columns - least])
    return relax.op.where(
        _eye(rows, columns), relax.op.expand_dims(diagonal, -2), operation.codes(0)
    )


def _eye(rows: int, columns: int) -> relax.Expr:
    return relax.const(np.eye(rows, columns, dtype=bool), "bool")


ON_CODES = {
    "BATCH_TO_SPACE_ND": _batch_to_space,
    "BROADCAST_TO": _broadcast_to,
    "CONCATENATION": _concatenation,
    "DEPTH_TO_SPACE": _depth_to_space,
    "EXPAND_DIMS": _expand_dims,
    "FILL": _fill,
    "MATRIX_DIAG": _matrix_diag,
    "MATRIX_SET_DIAG": _matrix_set_diag,
    "PACK": _pack,
    "RANGE": _range,
    "RANK": _rank,
    "RESHAPE": _reshape,
    "REVERSE_SEQUENCE": _reverse_sequence,
    "REVERSE_V2": _reverse,
    "SHAPE": _shape,
    "SPACE_TO_BATCH_ND": _space_to_batch,
    "SPACE_TO_DEPTH": _space_to_depth,
    "SPLIT": _split,
    "SPLIT_V": _split_v,
    "SQUEEZE": _squeeze,
    "TILE": _tile,
    "TRANSPOSE": _transpose,
    "UNPACK": _unpack,
    "ZEROS_LIKE": _zeros_like,
}
