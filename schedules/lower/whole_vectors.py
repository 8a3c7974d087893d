"""Vectors that are loaded whole, although only single elements of them are used.

NEON multiplies by any lane of a vector; but where a few instructions use all lanes of a vector one
by one, LLVM's "vector combine" loads element by element instead. A fence for arithmetic, of which
no instruction is left, hides from it where the vector is from.
"""

from __future__ import annotations

import tvm
from tvm import tirx
from tvm.tirx.op import register_intrin_lowering

_WHOLE = "tirx.leanconv_whole"
_PURE = 1  # a TCallEffectKind


def whole(value: tirx.Expr) -> tirx.Expr:
    """``value``, which LLVM does not take apart where it is vectorised."""
    return tirx.call_intrin(str(value.ty.dtype), _WHOLE, value)


def _unchanged(call: tirx.Call) -> tirx.Expr:
    return call.args[0]


def _fenced(call: tirx.Call) -> tirx.Expr:
    return tirx.call_llvm_pure_intrin(str(call.ty.dtype), "llvm.arithmetic.fence", call.args[0])


tvm.ir.register_op_attr(_WHOLE, "TVectorizable", True)
tvm.ir.register_op_attr(_WHOLE, "TCallEffectKind", _PURE)
tvm.ir.register_op_attr(_WHOLE, "TScriptPrinterName", _WHOLE)
register_intrin_lowering(_WHOLE, target="default", f=_unchanged)
register_intrin_lowering(_WHOLE, target="llvm.aarch64", f=_fenced)
