"""Bounds that a NaN passes cost what others cost; what they compute is tested with the delegate."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import tvm
from tvm import s_tir, te, tirx

from schedules.lower.clamping import at_least, at_most
from schedules.target.simd import PRESETS, Simd

Clamp = Callable[[tirx.Expr], tirx.Expr]


def relu6(value: tirx.Expr) -> tirx.Expr:
    return at_most(at_least(value, 0.0), 6.0)


def relu6_without_nan(value: tirx.Expr) -> tirx.Expr:
    zero, six = tirx.const(0.0, "float32"), tirx.const(6.0, "float32")
    return tirx.min(tirx.max(value, zero), six)


def instructions(simd: Simd, clamp: Clamp) -> list[str]:
    """Of a loop over two vectors that are doubled and clamped."""
    lanes = simd.lanes("float32")
    x = te.placeholder((2 * lanes,), "float32", name="X")
    y = te.compute(x.shape, lambda i: clamp(x(i) + x(i)), name="Y")
    schedule = s_tir.Schedule(te.create_prim_func([x, y]))
    outer, inner = schedule.split(schedule.get_loops(schedule.get_sblock("Y"))[0], [2, lanes])
    schedule.unroll(outer)
    schedule.vectorize(inner)
    module = tvm.compile(schedule.mod, target=tvm.target.Target(simd.target)).mod
    assembly = module.inspect_source("asm")
    return re.findall(r"^\s+([a-z][\w.]*)\s", assembly, re.MULTILINE)


@pytest.mark.parametrize("target", ["x86-64-v3", "x86-64-v4", "cortex-a53", "cortex-a76"])
def test_nothing_is_added(target: str) -> None:
    ours, plain = (instructions(PRESETS[target], clamp) for clamp in (relu6, relu6_without_nan))
    assert len(ours) <= len(plain)
    if "cortex" in target:
        assert {"fmax", "fmin"} <= set(ours)
        assert not {"fmaxnm", "fminnm", "bif", "bsl"} & set(ours)
    else:
        assert {"vmaxps", "vminps"} <= set(ours)
        assert not {"vcmpps", "vblendvps"} & set(ours)
