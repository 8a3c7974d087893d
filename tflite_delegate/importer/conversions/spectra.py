"""Spectra: complex numbers are pairs of float32 along a last axis, real part first."""

from __future__ import annotations

import numpy as np
import tvm
from tvm import relax

from schedules.errors import LeanconvError
from tflite_delegate.importer.conversions.operation import Operation


def _rfft2d(operation: Operation) -> relax.Expr:
    """As products with the matrices of the transform: rows first, then columns."""
    sizes, shape = operation.integers(1, "sizes"), operation.shape(0)
    if list(shape[-2:]) != sizes:
        raise LeanconvError(f"a spectrum of {sizes} of an image of {list(shape)}")
    height, width = sizes
    cosines, sines = _waves(width, width // 2 + 1)
    real = operation.emit(relax.op.matmul(operation.codes(0), cosines))
    imaginary = operation.emit(relax.op.negative(relax.op.matmul(operation.codes(0), sines)))
    if height > 1:
        cosines, sines = _waves(height, height)
        parts = [(cosines, real), (sines, imaginary), (cosines, imaginary), (sines, real)]
        products = [operation.emit(relax.op.matmul(waves, part)) for waves, part in parts]
        real = operation.emit(relax.op.add(products[0], products[1]))
        imaginary = operation.emit(relax.op.subtract(products[2], products[3]))
    return relax.op.stack([real, imaginary], axis=-1)


def _waves(size: int, count: int) -> tuple[tvm.ir.GenericConst, tvm.ir.GenericConst]:
    """Cosines and sines of ``count`` frequencies, (size, count)."""
    angles = 2 * np.pi * (np.outer(np.arange(size), np.arange(count)) % size) / size
    return relax.const(np.cos(angles, dtype=np.float64).astype(np.float32)), relax.const(
        np.sin(angles).astype(np.float32)
    )


def _part(operation: Operation, part: int) -> relax.Expr:
    pairs = operation.codes(0)
    shape = operation.shape_of(pairs)
    half = relax.op.strided_slice(pairs, [len(shape) - 1], [part], [part + 1])
    return operation.emit(relax.op.reshape(half, shape[:-1]))


def _absolute(operation: Operation) -> relax.Expr:
    parts = [_part(operation, part) for part in (0, 1)]
    squares = [relax.op.multiply(part, part) for part in parts]
    return relax.op.sqrt(relax.op.add(*squares))


ON_CODES = {
    "COMPLEX_ABS": _absolute,
    "IMAG": lambda operation: _part(operation, 1),
    "REAL": lambda operation: _part(operation, 0),
    "RFFT2D": _rfft2d,
}
