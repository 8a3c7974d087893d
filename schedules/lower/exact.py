"""Products and sums that are rounded just as often, and the way, that they say.

LLVM fuses a product with the sum that it is added to wherever the processor can, which rounds once.
Where the last bit counts, a definition says which of the two it means.

They are operators of TIR, so that schedules handle them as any other.
"""

from __future__ import annotations

import tvm
from tvm import tirx
from tvm.tirx.op import register_intrin_lowering

from schedules.lower.integers.vectors import in_pieces, llvm

_FUSED, _ROUNDED, _AWAY, _NEAREST = _NAMES = [
    f"tirx.leanconv_{name}" for name in ("fused", "rounded", "away", "nearest")
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
register_intrin_lowering(_NEAREST, target="default", f=_lower_nearest)
register_intrin_lowering(_NEAREST, target="llvm.aarch64", f=_lower_nearest_for_aarch64)
_register(_FUSED, "llvm.fma")
_register(_ROUNDED, "llvm.arithmetic.fence")
_register(_AWAY, "llvm.round")
