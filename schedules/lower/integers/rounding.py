"""Real numbers that become elements: rounded, clamped and narrowed, by each instruction set."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tvm import tirx
from tvm.tirx import Expr

from schedules.lower.integers.vectors import (
    constant,
    element_of,
    in_pieces,
    lanes_of,
    llvm,
    pick,
    vector_type,
)


def requantise_x86(wide: bool, dtype: str, value: Expr, zero: Expr, low: Expr, high: Expr) -> Expr:
    """Clamped above before it is rounded: what is too large becomes the smallest integer else."""
    lanes = lanes_of(value)

    def by_sixteen(piece: Expr) -> Expr:
        current_direction = tirx.const(4, "int32")
        name, all_lanes = "llvm.x86.avx512.mask.cvtps2dq.512", tirx.const(-1, "int16")
        zeros = constant(0, "int32", 16)
        return llvm("int32x16", name, piece, zeros, all_lanes, current_direction)

    def by_eight(piece: Expr) -> Expr:
        return llvm("int32x8", "llvm.x86.avx.cvt.ps2dq.256", piece)

    ceiling = tirx.Cast(vector_type("float32", lanes), high - zero)
    value = tirx.min(value, ceiling)
    if wide and lanes == 64:
        return _packed(dtype, [by_sixteen(quarter) for quarter in _quarters(value)], zero, low)
    in_sixteens = wide and lanes % 16 == 0
    whole = in_pieces(16, by_sixteen, value) if in_sixteens else in_pieces(8, by_eight, value)
    return tirx.Cast(vector_type(dtype, lanes), tirx.max(whole + zero, low))


def narrow_x86(wide: bool, dtype: str, value: Expr, zero: Expr, low: Expr, high: Expr) -> Expr:
    """Clamped before the zero point is added, which may not fit otherwise."""
    lanes = lanes_of(value)
    value = tirx.min(value, high - zero)
    if wide and lanes == 64:
        return _packed(dtype, _quarters(value), zero, low)
    return tirx.Cast(vector_type(dtype, lanes), tirx.max(value, low - zero) + zero)


def _quarters(value: Expr) -> list[Expr]:
    return [pick(value, range(start, start + 16)) for start in range(0, 64, 16)]


def _packed(dtype: str, quarters: Sequence[Expr], zero: Expr, low: Expr) -> Expr:
    """64 elements of four vectors of 16, plus ``zero``, narrowed with saturation, at least ``low``.

    Packing takes four bytes in turn of each vector, so these are put in order in the end.
    """
    zeros = pick(tirx.Cast("int16x64", zero), range(32))

    def half(first: Expr, second: Expr) -> Expr:
        pair = llvm("int16x32", "llvm.x86.avx512.packssdw.512", first, second)
        return llvm("int16x32", "llvm.sadd.sat", pair, zeros)

    halves, vector = (half(*quarters[:2]), half(*quarters[2:])), vector_type(dtype, 64)
    sign = "s" if dtype == "int8" else "u"
    packed = llvm(vector, f"llvm.x86.avx512.pack{sign}swb.512", *halves)
    words = tirx.reinterpret("int32x16", packed)
    in_order = pick(words, [place % 4 * 4 + place // 4 for place in range(16)])
    return tirx.max(tirx.reinterpret(vector, in_order), tirx.Cast(vector, low))


def requantise_neon(dtype: str, value: Expr, zero: Expr, low: Expr, high: Expr) -> Expr:
    """Rounded in one instruction, whatever does not fit to the nearest integer."""

    def rounded(piece: Expr) -> Expr:
        return llvm("int32x4", "llvm.aarch64.neon.fcvtns.v4i32.v4f32", piece)

    return narrow_neon(dtype, in_pieces(4, rounded, value), zero, low, high)


def narrow_neon(dtype: str, value: Expr, zero: Expr, low: Expr, high: Expr) -> Expr:
    """Narrowed with saturation, 32 to 16 to 8 bits: as many elements in each instruction."""
    lanes = lanes_of(value)

    def saturated(value: Expr, dtype: str) -> Expr:
        element, limits = element_of(value), np.iinfo(dtype)
        value = tirx.min(value, constant(int(limits.max), element, lanes))
        value = tirx.max(value, constant(int(limits.min), element, lanes))
        return tirx.Cast(vector_type(dtype, lanes), value)

    def narrow(value: Expr, element: str) -> Expr:
        return tirx.Cast(vector_type(element, lanes), value)

    whole = saturated(value, "int16")
    shifted = llvm(vector_type("int16", lanes), "llvm.sadd.sat", whole, narrow(zero, "int16"))
    result = tirx.min(saturated(shifted, dtype), narrow(high, dtype))
    return tirx.max(result, narrow(low, dtype))
