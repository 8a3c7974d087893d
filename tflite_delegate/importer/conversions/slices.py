"""Operators that cut tensors or put a border around them."""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import relax

from schedules.errors import LeanconvError
from tflite_delegate.importer.conversions.indexing import checked
from tflite_delegate.importer.conversions.operation import Operation


def _slice(operation: Operation) -> relax.Expr:
    shape, sizes = operation.shape(0), operation.integers(2, "sizes")
    if operation.constant(1) is None:
        return _slice_from_data(operation, sizes)
    begins = operation.integers(1, "begins")
    ends = [
        whole if size == -1 else begin + size
        for whole, begin, size in zip(shape, begins, sizes, strict=True)
    ]
    if any(not 0 <= b < e <= n for b, e, n in zip(begins, ends, shape, strict=True)):
        raise LeanconvError(f"begin {begins} and size {sizes} of {list(shape)}")
    return relax.op.strided_slice(operation.codes(0), list(range(len(shape))), begins, ends)


def _slice_from_data(operation: Operation, sizes: list[int]) -> relax.Expr:
    """From where the second input says, which is checked."""
    shape, x = operation.shape(0), operation.codes(0)
    if min(sizes) < 1 or any(size > whole for size, whole in zip(sizes, shape, strict=True)):
        raise LeanconvError(f"sizes {sizes} of {list(shape)} from where the model computes")
    room = [whole - size for whole, size in zip(shape, sizes, strict=True)]
    begins = checked(
        operation,
        operation.codes(1),
        _within(room),
        f"the slice of {sizes} begins outside of {list(shape)}",
    )
    for axis, size in enumerate(sizes):
        begin = relax.op.strided_slice(begins, [0], [axis], [axis + 1])
        steps = relax.const(np.arange(size), operation.input_type(1))
        x = operation.emit(relax.op.take(x, relax.op.add(begin, steps), axis, mode="clip"))
    return x


def _within(room: list[int]) -> Any:
    from tvm import tirx

    def is_right(value: Any, place: Any) -> Any:
        fits = [(place != axis) | (value <= most) for axis, most in enumerate(room)]
        return tirx.all(value >= 0, *fits)

    return is_right


def _strided_slice(operation: Operation) -> relax.Expr:
    """As Python slices, which have the same meaning."""
    options, shape = operation.options, operation.shape(0)
    begins, ends, steps = (
        operation.integers(position, what)
        for position, what in ((1, "begins"), (2, "ends"), (3, "strides"))
    )
    if options["offset"]:
        ends = [begin + end for begin, end in zip(begins, ends, strict=True)]
    places: list[Any] = []
    for i, (begin, end, step) in enumerate(zip(begins, ends, steps, strict=True)):
        masks = {name for name, bits in options.items() if name != "offset" and bits >> i & 1}
        if "ellipsisMask" in masks:
            places.append(...)
        elif "newAxisMask" in masks:
            places.append(None)
        elif "shrinkAxisMask" in masks:
            places.append(begin)
        else:
            first = None if "beginMask" in masks else begin
            last = None if "endMask" in masks else end
            places.append(slice(first, last, step))
    if 0 in steps:
        raise LeanconvError("a stride of 0")
    try:
        grid = np.broadcast_to(np.int8(0), shape)[tuple(places)]
    except IndexError as error:
        raise LeanconvError(str(error)) from None
    if grid.size == 0:
        raise LeanconvError("an empty result is not supported")
    kept = [place for place in places if place is not None]
    behind = kept[kept.index(...) + 1 :] if ... in kept else []
    before = kept[: kept.index(...)] if ... in kept else kept
    between = [slice(None)] * (len(shape) - len(before) - len(behind))
    x = _cut(operation, [*before, *between, *behind])
    return relax.op.reshape(x, grid.shape)


def _cut(operation: Operation, places: list[Any]) -> relax.Expr:
    """One slice, or one place, along every dimension."""
    shape = operation.shape(0)
    axes, begins, ends, steps = [], [], [], []
    for axis, (place, size) in enumerate(zip(places, shape, strict=True)):
        if isinstance(place, int):
            place = slice(place % size, place % size + 1)
        begin, end, step = place.indices(size)
        if (begin, end, step) == (0, size, 1):
            continue
        axes.append(axis)
        begins.append(begin)
        # Before the first element is -1 to Python, which TVM counts from the end.
        ends.append(end if end >= 0 else -size - 1)
        steps.append(step)
    if not axes:
        return operation.codes(0)
    return relax.op.strided_slice(operation.codes(0), axes, begins, ends, steps)


# Borders


def _pads(operation: Operation) -> list[tuple[int, int]]:
    pads = [tuple(pair) for pair in operation.parameter(1, "paddings").reshape(-1, 2).tolist()]
    if any(min(pair) < 0 for pair in pads):
        raise LeanconvError(f"paddings {pads}")
    return pads


def _pad(operation: Operation) -> relax.Expr:
    """With zeros, or with the one element of the third input."""
    if operation.has(2):
        value = operation.parameter(2, "values").ravel()[0].item()
    else:
        quantization = operation.output_quantization()
        value = int(quantization.zero_point.ravel()[0]) if quantization else 0
    amounts = [amount for pair in _pads(operation) for amount in pair]
    return relax.op.nn.pad(operation.codes(0), amounts, pad_value=value)


def _mirror_pad(operation: Operation) -> relax.Expr:
    """REFLECT leaves out the element at the edge, SYMMETRIC has it twice."""
    mode: Any = ("reflect", "symmetric")[operation.options["mode"]]
    x = operation.codes(0)
    for axis, (pads, size) in enumerate(zip(_pads(operation), operation.shape(0), strict=True)):
        if max(pads) > size - (mode == "reflect"):
            raise LeanconvError(f"paddings {pads} of {size}")
        if any(pads):
            places = np.pad(np.arange(size, dtype=np.int32), pads, mode=mode)
            x = operation.emit(relax.op.take(x, relax.const(places), axis, mode="clip"))
    return x


ON_CODES = {
    "MIRROR_PAD": _mirror_pad,
    "PAD": _pad,
    "PADV2": _pad,
    "SLICE": _slice,
    "STRIDED_SLICE": _strided_slice,
}
