"""Sums times ratios in integers or float64, rounded by rules, for each instruction set.

The rules are those of :mod:`schedules.layer.rounding`. A ratio is ``mantissa 2^(shift - 31)``; a
positive shift is done before the product, a negative one behind it. ``xnn_rndnu16`` has mantissas
of 15 bits. NEON has instructions for all of this; elsewhere products have 64 bits.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from tvm import tirx
from tvm.tirx import Expr

from schedules.lower.integers.vectors import constant, in_pieces, lanes_of, llvm, vector_type
from schedules.target.simd import Simd

#: A shift to the left, the upper half of twice a product, and a rounded shift to the right.
Step = Callable[[Expr, Expr], Expr]


def scaling(rule: str, simd: Simd) -> Callable[..., Expr]:
    """The function of a sum and its ratio that a rule is computed by on ``simd``."""
    if rule == "real64":
        return _real64
    on_neon = simd.arch == "aarch64"
    if rule == "xnn_rndnu16":
        shift = _neon("sqrshl") if on_neon else _shift_either
        return partial(_rndnu16, shift)
    if on_neon:
        left = _neon("sqshl" if rule == "xnn_rndnu" else "sshl")
        high = _neon("sqrdmulh" if "double" in rule else "sqdmulh")
        right = _neon("srshl")
    else:
        left = _shift_left_saturating if rule == "xnn_rndnu" else _shift_left
        high = partial(_high, 1 << 30 if "double" in rule else 0)
        right = _shift_right
    if rule in ("double", "double_up"):
        return partial(_double, left, high, right, rule == "double")
    return partial(_single, left, high, right)


def _double(
    left: Step, high: Step, right: Step, is_away: bool, total: Expr, mantissa: Expr, shift: Expr
) -> Expr:
    """``right`` has ties go up; what is negative is one less first if they go away from zero."""
    zero, down = _like(total, 0), tirx.min(shift, _like(total, 0))
    value = high(left(total, tirx.max(shift, zero)), mantissa)
    if is_away:
        value = value + ((value & down) >> _like(total, 31))
    return right(value, down)


def _single(left: Step, high: Step, right: Step, total: Expr, mantissa: Expr, shift: Expr) -> Expr:
    """The product is cut off at 32 bits, and at least one more bit is then rounded off."""
    down = tirx.min(shift, _like(total, -1))
    return right(high(left(total, shift - down), mantissa), down)


def _rndnu16(shift_either: Step, total: Expr, mantissa: Expr, shift: Expr) -> Expr:
    least, most = _like(total, -(2**15)), _like(total, 2**15 - 1)
    value = tirx.max(tirx.min(shift_either(total, shift), most), least)
    return (value * mantissa + _like(total, 2**14)) >> _like(total, 15)


def _real64(total: Expr, ratio: Expr) -> Expr:
    lanes = lanes_of(total)
    real = vector_type("float64", lanes)
    value = llvm(real, "llvm.round", tirx.Cast(real, total) * ratio)
    value = tirx.min(value, constant(2.0**31 - 1, "float64", lanes))
    value = tirx.max(value, constant(-(2.0**31), "float64", lanes))
    return tirx.Cast(vector_type("int32", lanes), value)


def _like(value: Expr, number: int) -> Expr:
    return constant(number, "int32", lanes_of(value))


# NEON


def _neon(name: str) -> Step:
    def step(value: Expr, by: Expr) -> Expr:
        def piece(value: Expr, by: Expr) -> Expr:
            return llvm("int32x4", f"llvm.aarch64.neon.{name}.v4i32", value, by)

        return in_pieces(4, piece, value, by)

    return step


# Other instruction sets


def _shift_left(value: Expr, by: Expr) -> Expr:
    return value << by


def _shift_left_saturating(value: Expr, by: Expr) -> Expr:
    return llvm(vector_type("int32", lanes_of(value)), "llvm.sshl.sat", value, by)


def _high(rounding: int, value: Expr, mantissa: Expr) -> Expr:
    lanes = lanes_of(value)
    wide, narrow = vector_type("int64", lanes), vector_type("int32", lanes)
    product = tirx.Cast(wide, value) * tirx.Cast(wide, mantissa)
    if rounding:
        product = product + constant(rounding, "int64", lanes)
    return tirx.Cast(narrow, product >> constant(31, "int64", lanes))


def _shift_right(value: Expr, by: Expr) -> Expr:
    """By ``-by`` bits, 0 to 31; the last bit that is lost is added."""
    zero, one = _like(value, 0), _like(value, 1)
    bits = zero - by
    last = tirx.min(bits, one)
    return (value >> bits) + ((value >> (bits - last)) & last)


def _shift_either(value: Expr, by: Expr) -> Expr:
    """To the left by a positive ``by``, of what fits into 16 bits or more; else to the right."""
    zero = _like(value, 0)
    right = _shift_right(value, tirx.min(by, zero))
    fits = tirx.max(tirx.min(right, _like(value, 2**15 - 1)), _like(value, -(2**15)))
    return fits << tirx.max(by, zero)
