"""Instructions of a target for the operations of integers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import tvm
from tvm import tirx
from tvm.sym import Analyzer
from tvm.tirx import Expr
from tvm_ffi import structural_map, structural_walk

from schedules.lower.integers.operations import (
    DOT4,
    DOT4_ONTO,
    MATRIX,
    MATRIX_ONTO,
    NARROWED,
    NEGATED,
    REQUANTISED,
    SCALED,
    SPREAD,
    SPREAD_ONTO,
    UNSIGNED,
    UNSIGNED_MATRIX,
    UNSIGNED_MATRIX_ONTO,
    UNSIGNED_ONTO,
    WIDE,
    WORD_OF,
)
from schedules.lower.integers.products import (
    dot_lowering,
    matrix_product,
    negate,
    smlal,
    smull_by_element,
    unsigned_lowering,
)
from schedules.lower.integers.rounding import (
    narrow_neon,
    narrow_x86,
    requantise_neon,
    requantise_x86,
)
from schedules.lower.integers.scaling import scaling
from schedules.lower.integers.vectors import call, element_of, is_call, zeros
from schedules.lower.integers.words import lower_word
from schedules.target.simd import Simd

#: Products, and these added onto sums.
FUSED = (
    (DOT4, DOT4_ONTO),
    (SPREAD, SPREAD_ONTO),
    (UNSIGNED, UNSIGNED_ONTO),
    (MATRIX, MATRIX_ONTO),
    (UNSIGNED_MATRIX, UNSIGNED_MATRIX_ONTO),
)


def lower_integers(function: tirx.PrimFunc, simd: Simd) -> tirx.PrimFunc:
    """``function`` with instructions of ``simd`` for the operations of this file."""
    known = Analyzer()

    def onto(sum_: tirx.Add) -> Expr:
        for sums, product in ((sum_.a, sum_.b), (sum_.b, sum_.a)):
            for name, fused in FUSED:
                if is_call(product, name):
                    return call(fused, product.ty, sums, *product.args)
        return sum_

    is_wide = "avx512f" in simd.features
    # They take the type of the result first.
    to_elements: dict[str, Callable[..., Expr]] = {
        REQUANTISED: partial(requantise_x86, is_wide),
        NARROWED: partial(narrow_x86, is_wide),
    }
    if simd.arch == "aarch64":
        to_elements = {REQUANTISED: requantise_neon, NARROWED: narrow_neon}
    lowerings: dict[str, Callable[..., Expr]] = {
        DOT4: lambda weights, image: dot(zeros(weights), weights, image),
        DOT4_ONTO: lambda sums, weights, image: dot(sums, weights, image),
        SPREAD: lambda weights, image: smlal(zeros(weights), weights, image),
        SPREAD_ONTO: lambda sums, weights, image: smlal(sums, weights, image),
        UNSIGNED: lambda weights, image: unsigned(zeros(weights), weights, image),
        UNSIGNED_ONTO: lambda sums, weights, image: unsigned(sums, weights, image),
        MATRIX: lambda weights, image: matrix_product("s", zeros(weights), weights, image),
        MATRIX_ONTO: partial(matrix_product, "s"),
        UNSIGNED_MATRIX: lambda weights, image: matrix_product("u", zeros(weights), weights, image),
        UNSIGNED_MATRIX_ONTO: partial(matrix_product, "u"),
        NEGATED: negate,
        WIDE: smull_by_element,
        WORD_OF: lambda *elements: lower_word(elements, known),
        **{name: scaling(rule, simd) for rule, name in SCALED.items()},
    }
    dot, unsigned = dot_lowering(simd), unsigned_lowering(simd)
    # Indices that expressions have in common are variables, which stand before them.
    structural_walk(function.body, [(tirx.Bind, lambda b: known.bind(b.var, b.value))], order="pre")

    def lower(call: tvm.ir.Call) -> Expr:
        name = getattr(call.op, "name", None)
        if name in to_elements:
            return to_elements[name](element_of(call), *call.args)
        return lowerings[name](*call.args) if name in lowerings else call

    body = structural_map(function.body, (tirx.Add, onto))
    return function.with_body(structural_map(body, (tvm.ir.Call, lower)))
