"""What a compute definition says of integers; :mod:`schedules.lower.integers` explains it."""

from __future__ import annotations

import tvm
from tvm import tirx
from tvm.tirx import Expr

from schedules.target.simd import Simd

DOT4, DOT4_ONTO, SPREAD, SPREAD_ONTO, WORD_OF, REQUANTISED = NAMES = tuple(
    f"leanconv.{name}"
    for name in ("dot4", "dot4_onto", "spread_dot4", "spread_dot4_onto", "word", "requantised")
)
for _name in NAMES:
    tvm.ir.register_op_attr(_name, "TVectorizable", True)
    tvm.ir.register_op_attr(_name, "TCallEffectKind", 1)  # pure
    tvm.ir.register_op_attr(_name, "TScriptPrinterName", _name)


def dot4(weights: Expr, image: Expr) -> Expr:
    """Sum of the four products of two words of int8."""
    return tirx.call_intrin("int32", DOT4, weights, image)


def spread_dot4(weights: Expr, image: Expr) -> Expr:
    """Like ``dot4``, but of four lanes only the sum is theirs; see :func:`spreads`."""
    return tirx.call_intrin("int32", SPREAD, weights, image)


def spreads(simd: Simd) -> bool:
    """Whether ``simd`` has ``spread_dot4``: Arm without dot products, which it saves a lot."""
    return simd.arch == "aarch64" and "dotprod" not in simd.features


def word(*elements: Expr) -> Expr:
    """Four int8 as one word, the first in the lowest bits."""
    return tirx.call_intrin("int32", WORD_OF, *elements)


def requantised(value: Expr, zero: Expr, low: Expr, high: Expr) -> Expr:
    """float32 ``value``, rounded half to even, plus int32 ``zero``, clamped: an int8."""
    return tirx.call_intrin("int8", REQUANTISED, value, zero, low, high)


def image_offset(simd: Simd) -> int:
    """What ``simd``'s ``dot4`` adds to every element of the image before it multiplies.

    Sums have so many times the sum of the weights too much, which whoever packs the bias takes off.
    """
    return 128 if has_vnni(simd) else 0


def has_vnni(simd: Simd) -> bool:
    """Whether one instruction multiplies words of unsigned by signed bytes onto sums."""
    return "avx512vnni" in simd.features
