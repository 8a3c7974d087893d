"""What a compute definition says of integers; :mod:`schedules.lower.integers` explains it."""

from __future__ import annotations

from collections.abc import Mapping

import tvm
from tvm import tirx
from tvm.tirx import Expr

from schedules.target.byte_products import spreads
from schedules.target.cores import AVX_VNNI, VNNI
from schedules.target.simd import Simd

DOT4, DOT4_ONTO, SPREAD, SPREAD_ONTO, WORD_OF, NEGATED, WIDE, REQUANTISED = NAMES = tuple(
    f"leanconv.{name}"
    for name in (
        "dot4",
        "dot4_onto",
        "spread_dot4",
        "spread_dot4_onto",
        "word",
        "negated",
        "wide_product",
        "requantised",
    )
)
UNSIGNED, UNSIGNED_ONTO, NARROWED, *MATRICES = MORE_NAMES = tuple(
    f"leanconv.{name}"
    for name in (
        "unsigned_dot4",
        "unsigned_dot4_onto",
        "narrowed",
        "matrix_dot8",
        "matrix_dot8_onto",
        "unsigned_matrix_dot8",
        "unsigned_matrix_dot8_onto",
    )
)
MATRIX, MATRIX_ONTO, UNSIGNED_MATRIX, UNSIGNED_MATRIX_ONTO = MATRICES
#: The highest bits of the elements of a word.
SIGNS = -0x7F7F7F80
#: Rule of :mod:`schedules.layer.rounding` -> operation, of those that multiply integers or float64.
SCALED: Mapping[str, str] = {
    rule: f"leanconv.{rule}"
    for rule in (
        "xnn_rndnu", "xnn_rndnu_wrapping", "xnn_rndnu16", "double", "double_up", "single", "real64",
    )
}  # fmt: skip
for _name in (*NAMES, *MORE_NAMES, *SCALED.values()):
    tvm.ir.register_op_attr(_name, "TVectorizable", True)
    tvm.ir.register_op_attr(_name, "TCallEffectKind", 1)  # pure
    tvm.ir.register_op_attr(_name, "TScriptPrinterName", _name)


def dot4(weights: Expr, image: Expr) -> Expr:
    """Sum of the four products of two words of int8."""
    return tirx.call_intrin("int32", DOT4, weights, image)


def spread_dot4(weights: Expr, image: Expr) -> Expr:
    """Like ``dot4``, but of four lanes only the sum is theirs; see :func:`spreads`."""
    return tirx.call_intrin("int32", SPREAD, weights, image)


def matrix_dot8(weights: Expr, image: Expr, dtype: str = "int8") -> Expr:
    """Products of two rows of eight int8 by two others, or uint8, where ``multiplies_matrices``.

    Two lanes of four are a row, and those of the result are the first row of ``image`` by both of
    ``weights``, and the second one.
    """
    name = UNSIGNED_MATRIX if dtype == "uint8" else MATRIX
    return tirx.call_intrin("int32", name, weights, image)


def negated(element: Expr) -> Expr:
    """An int8 as an int16 of the other sign, which LLVM does not narrow again; on Arm only."""
    return tirx.call_intrin("int16", NEGATED, element)


def product16(weight: Expr, image: Expr) -> Expr:
    """The product of two int16."""
    return tirx.Cast("int32", weight) * tirx.Cast("int32", image)


def wide_product(weight: Expr, image: Expr) -> Expr:
    """The product of two int16, the second of them perhaps a lane of a vector; on Arm only."""
    return tirx.call_intrin("int32", WIDE, weight, image)


def word(*elements: Expr) -> Expr:
    """Four int8 as one word, the first in the lowest bits."""
    return tirx.call_intrin("int32", WORD_OF, *elements)


def unsigned_dot4(weights: Expr, image: Expr) -> Expr:
    """Like ``dot4``, of a word of uint8 by one of uint8 less :func:`weight_offset`."""
    return tirx.call_intrin("int32", UNSIGNED, weights, image)


def requantised(value: Expr, zero: Expr, low: Expr, high: Expr, dtype: str) -> Expr:
    """float32 ``value``, rounded half to even, plus int32 ``zero``, clamped: an int8 or uint8."""
    return tirx.call_intrin(dtype, REQUANTISED, value, zero, low, high)


def scaled(rule: str, total: Expr, *ratio: Expr) -> Expr:
    """int32 ``total`` times a ratio, rounded as the rule of that name does: an int32.

    ``ratio`` has the types that :data:`schedules.layer.rounding.ROUNDINGS` says.
    """
    return tirx.call_intrin("int32", SCALED[rule], total, *ratio)


def narrowed(value: Expr, zero: Expr, low: Expr, high: Expr, dtype: str) -> Expr:
    """int32 ``value`` plus int32 ``zero``, clamped: an int8 or uint8."""
    return tirx.call_intrin(dtype, NARROWED, value, zero, low, high)


def signed(word: Expr) -> Expr:
    """A word of uint8 as one of int8, each less 128."""
    return word ^ tirx.const(SIGNS, "int32")


def weight_offset(simd: Simd) -> int:
    """What is added to every uint8 weight as it is packed for ``unsigned_dot4`` of ``simd``."""
    return -128 if simd.arch == "x86_64" or spreads(simd) else 0


def image_offset(simd: Simd, dtype: str = "int8") -> int:
    """What is added on ``simd`` to every element of an image of words before it is multiplied.

    Sums have so many times the sum of the weights too much, which whoever packs the bias takes off.
    """
    if dtype == "uint8":
        return -128 if spreads(simd) else 0
    return 128 if has_vnni(simd) else 0


def has_vnni(simd: Simd) -> bool:
    """Whether one instruction multiplies words of unsigned by signed bytes onto sums."""
    return not simd.features.isdisjoint((VNNI, AVX_VNNI))
