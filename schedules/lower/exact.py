"""Products and sums that are rounded just as often, and the way, that they say; largest words.

LLVM fuses a product with the sum that it is added to wherever the processor can, which rounds once.
Where the last bit counts, a definition says which of the two it means.

They are operators of TIR, so that schedules handle them as any other.
"""

from __future__ import annotations

import tvm
from tvm import tirx
from tvm.tirx.op import register_intrin_lowering

from schedules.lower.integers.vectors import in_pieces, lanes_of, llvm

_FUSED, _ROUNDED, _AWAY, _NEAREST, _EVEN, _LARGEST = _NAMES = [
    f"tirx.leanconv_{name}" for name in ("fused", "rounded", "away", "nearest", "even", "largest")
]
_PURE = 1  # a TCallEffectKind


def fused(a: tirx.Expr, b: tirx.Expr, c: tirx.Expr) -> tirx.Expr:
    """``a b + c``, rounded once."""
    return tirx.call_intrin(str(c.ty.dtype), _FUSED, a, b, c)


def rounded(value: tirx.Expr) -> tirx.Expr:
    """``value``, which is not fused with what it becomes a part of."""
    return tirx.call_intrin(str(value.ty.dtype), _ROUNDED, value)


def away(value: tirx.Expr) -> tirx.Expr:
    """The nearest integer, halves away from zero: ``tirx.round`` takes the even one."""
    return tirx.call_intrin(str(value.ty.dtype), _AWAY, value)


def nearest(value: tirx.Expr) -> tirx.Expr:
    """:func:`away` as an int32, which NEON has one instruction for."""
    return tirx.call_intrin("int32", _NEAREST, value)


def even(value: tirx.Expr, least: int, most: int) -> tirx.Expr:
    """The nearest integer as an int32, halves to even.

    Of a float32 that is no number, or one between ``least`` and ``most`` when it is rounded.
    """
    bounds = (tirx.const(float(bound), "float32") for bound in (least, most))
    return tirx.call_intrin("int32", _EVEN, value, *bounds)


def largest(*words: tirx.Expr) -> tirx.Expr:
    """The largest of four int32 or uint32, which NEON has one instruction for."""
    return tirx.call_intrin(str(words[0].ty.dtype), _LARGEST, *words)


def _lower_even(call: tirx.Call) -> tirx.Expr:
    value, least, most = call.args
    return tirx.Cast(str(call.ty.dtype), tirx.nearbyint(tirx.max(tirx.min(value, most), least)))


def _lower_even_for_aarch64(call: tirx.Call) -> tirx.Expr:
    def of_four(piece: tirx.Expr) -> tirx.Expr:
        return llvm("int32x4", "llvm.aarch64.neon.fcvtns.v4i32.v4f32", piece)

    value, *_ = call.args
    if lanes_of(value) == 1:
        return llvm("int32", "llvm.aarch64.neon.fcvtns.i32.f32", value)
    return in_pieces(4, of_four, value)


def _lower_largest(call: tirx.Call) -> tirx.Expr:
    first, second, third, fourth = call.args
    return tirx.max(tirx.max(first, second), tirx.max(third, fourth))


def _lower_largest_for_aarch64(call: tirx.Call) -> tirx.Expr:
    dtype = str(call.ty.dtype)
    words = tirx.Shuffle(list(call.args), [tirx.const(place, "int32") for place in range(4)])
    name = "umax" if dtype == "uint32" else "smax"
    return tirx.call_llvm_pure_intrin(dtype, f"llvm.vector.reduce.{name}.v4i32", words)


def _lower_nearest(call: tirx.Call) -> tirx.Expr:
    (value,) = call.args
    whole = tirx.call_llvm_pure_intrin(str(value.ty.dtype), "llvm.round", value)
    return tirx.Cast(str(call.ty.dtype), whole)


def _lower_nearest_for_aarch64(call: tirx.Call) -> tirx.Expr:
    def of_four(piece: tirx.Expr) -> tirx.Expr:
        return llvm("int32x4", "llvm.aarch64.neon.fcvtas.v4i32.v4f32", piece)

    return in_pieces(4, of_four, *call.args)


def _register(name: str, instruction: str) -> None:
    def lower(call: tirx.Call) -> tirx.Expr:
        return tirx.call_llvm_pure_intrin(str(call.ty.dtype), instruction, *call.args)

    register_intrin_lowering(name, target="default", f=lower)


for _name in _NAMES:
    tvm.ir.register_op_attr(_name, "TVectorizable", True)
    tvm.ir.register_op_attr(_name, "TCallEffectKind", _PURE)
    tvm.ir.register_op_attr(_name, "TScriptPrinterName", _name)
for _name, _lower, _lower_for_aarch64 in (
    (_NEAREST, _lower_nearest, _lower_nearest_for_aarch64),
    (_EVEN, _lower_even, _lower_even_for_aarch64),
    (_LARGEST, _lower_largest, _lower_largest_for_aarch64),
):
    register_intrin_lowering(_name, target="default", f=_lower)
    register_intrin_lowering(_name, target="llvm.aarch64", f=_lower_for_aarch64)
_register(_FUSED, "llvm.fma")
_register(_ROUNDED, "llvm.arithmetic.fence")
_register(_AWAY, "llvm.round")
