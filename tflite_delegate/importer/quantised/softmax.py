"""SOFTMAX of codes, as TFLite's own kernels compute it: XNNPACK takes none.

e^x for all distances from the largest code is in a table: on Arm of 16 bits, and else of floats;
by the reference kernel's rounding see :mod:`tflite_delegate.importer.quantised.fixed_softmax`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from tvm import relax, te, tirx

from tflite_delegate.importer.conversions.operation import Operation
from tflite_delegate.importer.quantised import fixed_softmax
from tflite_delegate.importer.quantised.codes import Codes, clamped, integer, real

#: One in the table of integers.
_ONE = 65535


def _softmax(operation: Operation) -> relax.Expr | None:
    x, y, beta = Codes.of_input(operation), Codes.of_output(operation), operation.options["beta"]
    if x is None or y is None or x.dtype != y.dtype or y.zero != y.least:
        return None
    scale = x.scale * np.float32(beta)
    is_256th = abs(float(y.scale) * 256 - 1) <= 0.001
    if not is_256th or beta < 0 or not math.isfinite(scale):
        return None
    if operation.as_reference:
        return fixed_softmax.softmax(operation, x, y)
    powers = np.exp((-scale * np.arange(256, dtype=np.float32)).astype(np.float64))
    powers = powers.astype(np.float32)
    if operation.is_for_arm:
        scaled = (powers * np.float32(_ONE)).astype(np.float64)
        powers = np.minimum(scaled + 0.5, _ONE).astype(np.int32)
    return operation.compute(
        lambda codes, table: _shares(operation.is_for_arm, codes, table, y),
        operation.codes(0),
        relax.const(powers),
    )


def _shares(is_for_arm: bool, codes: te.Tensor, powers: te.Tensor, y: Codes) -> te.Tensor:
    *rows, count = codes.shape
    c, k = te.reduce_axis((0, count), "c"), te.reduce_axis((0, count), "k")

    def code_of(*index: Any) -> Any:
        return integer(codes[index])

    most = te.compute(rows, lambda *row: te.max(code_of(*row, c), axis=c), name="most")

    def power(*index: Any) -> Any:
        return powers[most[index[:-1]] - code_of(*index)]

    sums = te.compute(rows, lambda *row: te.sum(power(*row, k), axis=k), name="sums")

    def share(*index: Any) -> Any:
        total = sums[index[:-1]]
        if is_for_arm:
            code = _fixed_share(power(*index), total, y)
        else:
            inverse = real(1.0) / (total * real(y.scale))
            exact = power(*index) * inverse
            whole = integer(exact)
            is_up = exact >= real(whole) + real(0.5)
            code = whole + tirx.Select(is_up, tirx.const(1, "int32"), tirx.const(0, "int32"))
        return clamped(code + y.least, (y.least, y.most), y.dtype)

    return te.compute(codes.shape, share, name="share")


def _fixed_share(power: Any, total: Any, y: Codes) -> Any:
    """By the multiplier of 31 bits that is a float32, below 2^-7; rounded twice, ties up."""
    inverse = tirx.reinterpret("int32", real(1.0) / (real(total) * real(y.scale)))
    mantissa = integer(((inverse & 0x7FFFFF) | 0x800000) << 7, 64)
    right = integer(126 - (inverse >> 23), 64)
    high = (integer(power, 64) * mantissa + 2**30) >> 31
    return integer((high + (tirx.const(1, "int64") << (right - 1))) >> right)


CONVERSIONS = {"SOFTMAX": _softmax}
