"""Instructions of a target for the operations of integers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import tvm
from tvm import tirx
from tvm.tirx import Expr
from tvm_ffi import structural_map

from schedules.lower.integers.operations import (
    DOT4,
    DOT4_ONTO,
    REQUANTISED,
    SPREAD,
    SPREAD_ONTO,
    WORD_OF,
)
from schedules.lower.integers.products import dot_lowering, smlal
from schedules.lower.integers.rounding import requantise_neon, requantise_x86
from schedules.lower.integers.vectors import call, is_call, zeros
from schedules.lower.integers.words import lower_word
from schedules.target.simd import Simd


def lower_integers(function: tirx.PrimFunc, simd: Simd) -> tirx.PrimFunc:
    """``function`` with instructions of ``simd`` for the operations of this file."""

    def onto(sum_: tirx.Add) -> Expr:
        for sums, product in ((sum_.a, sum_.b), (sum_.b, sum_.a)):
            for name, fused in ((DOT4, DOT4_ONTO), (SPREAD, SPREAD_ONTO)):
                if is_call(product, name):
                    return call(fused, product.ty, sums, *product.args)
        return sum_

    requantise: Callable[..., Expr] = partial(requantise_x86, "avx512f" in simd.features)
    if simd.arch == "aarch64":
        requantise = requantise_neon
    lowerings: dict[str, Callable[..., Expr]] = {
        DOT4: lambda weights, image: dot(zeros(weights), weights, image),
        DOT4_ONTO: lambda sums, weights, image: dot(sums, weights, image),
        SPREAD: lambda weights, image: smlal(zeros(weights), weights, image),
        SPREAD_ONTO: lambda sums, weights, image: smlal(sums, weights, image),
        WORD_OF: lambda *elements: lower_word(elements),
        REQUANTISED: requantise,
    }
    dot = dot_lowering(simd)

    def lower(call: tvm.ir.Call) -> Expr:
        name = getattr(call.op, "name", None)
        return lowerings[name](*call.args) if name in lowerings else call

    body = structural_map(function.body, (tirx.Add, onto))
    return function.with_body(structural_map(body, (tvm.ir.Call, lower)))
