"""Bounds that a NaN passes, as it does in TFLite's kernels.

``tirx.max(x, 0)`` is zero where x is NaN. x86's ``maxps a, b`` gives b if either is NaN, so that
the order of the operands decides; NEON's ``fmax`` gives NaN if either is, and LLVM uses ``fmaxnm``,
which does not, unless it is told. Both cost what ``tirx.max`` does.

They are operators of TIR, so that schedules handle them as any other and only lowering tells
targets apart.
"""

from __future__ import annotations

from collections.abc import Callable

import tvm
from tvm import tirx
from tvm.tirx.op import register_intrin_lowering

_LARGER, _SMALLER = "tirx.leanconv_larger", "tirx.leanconv_smaller"
_PURE = 1  # a TCallEffectKind


def at_least(value: tirx.Expr, bound: float | tirx.Expr) -> tirx.Expr:
    """``value`` or the bound, whichever is larger; NaN if ``value`` is."""
    return _call(_LARGER, value, bound)


def at_most(value: tirx.Expr, bound: float | tirx.Expr) -> tirx.Expr:
    """``value`` or the bound, whichever is smaller; NaN if ``value`` is."""
    return _call(_SMALLER, value, bound)


def _call(name: str, value: tirx.Expr, bound: float | tirx.Expr) -> tirx.Expr:
    dtype = str(value.ty.dtype)
    if isinstance(bound, int | float):
        bound = tirx.const(bound, dtype)
    return tirx.call_intrin(dtype, name, bound, value)


def _register(name: str, select: Callable[..., tirx.Expr], instruction: str) -> None:
    """``select`` keeps its second operand if the comparison with the first fails."""

    def lower(call: tirx.Call) -> tirx.Expr:
        return select(*call.args)

    def lower_for_aarch64(call: tirx.Call) -> tirx.Expr:
        return tirx.call_llvm_pure_intrin(str(call.ty.dtype), instruction, *call.args)

    tvm.ir.register_op_attr(name, "TVectorizable", True)
    tvm.ir.register_op_attr(name, "TCallEffectKind", _PURE)
    tvm.ir.register_op_attr(name, "TScriptPrinterName", name)
    register_intrin_lowering(name, target="default", f=lower)
    register_intrin_lowering(name, target="llvm.aarch64", f=lower_for_aarch64)


_register(_LARGER, tirx.max, "llvm.maximum")
_register(_SMALLER, tirx.min, "llvm.minimum")
