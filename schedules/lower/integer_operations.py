"""Integer operations that schedules vectorise like any other, lowered for each instruction set.

A compute definition multiplies integers by *words*: four of eight bits side by side, as one int32.
``dot4(w, x)`` is the sum of their four products, ``word(a, b, c, d)`` makes a word of four
elements, and ``requantised(v, zero, low, high)`` rounds a real number to an element. Where nothing
but the sum of four lanes matters, ``spread_dot4`` may put any products into each. TVM vectorises
them without knowing what they do; :func:`lower_integers` then writes the instructions of the target
for them, so that none is used which the target lacks.

Sums are exact, for all values of both operands: products are never added in 16 bits where two of
them may not fit. Only ``spread_dot4`` adds those of elements eight apart, which fit unless all four
factors are -128: whoever uses it has no weights like that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import tvm
from tvm import tirx
from tvm.sym import Analyzer
from tvm.tirx import Expr
from tvm_ffi import structural_map

from schedules.layer.words import WORD
from schedules.target.simd import Simd

_DOT4, _DOT4_ONTO, _SPREAD, _SPREAD_ONTO, _WORD, _REQUANTISED = _NAMES = tuple(
    f"leanconv.{name}"
    for name in ("dot4", "dot4_onto", "spread_dot4", "spread_dot4_onto", "word", "requantised")
)
for _name in _NAMES:
    tvm.ir.register_op_attr(_name, "TVectorizable", True)
    tvm.ir.register_op_attr(_name, "TCallEffectKind", 1)  # pure
    tvm.ir.register_op_attr(_name, "TScriptPrinterName", _name)


def dot4(weights: Expr, image: Expr) -> Expr:
    """Sum of the four products of two words of int8."""
    return tirx.call_intrin("int32", _DOT4, weights, image)


def spread_dot4(weights: Expr, image: Expr) -> Expr:
    """Like ``dot4``, but of four lanes only the sum is theirs; see :func:`spreads`."""
    return tirx.call_intrin("int32", _SPREAD, weights, image)


def spreads(simd: Simd) -> bool:
    """Whether ``simd`` has ``spread_dot4``: Arm without dot products, which it saves a lot."""
    return simd.arch == "aarch64" and "dotprod" not in simd.features


def word(*elements: Expr) -> Expr:
    """Four int8 as one word, the first in the lowest bits."""
    return tirx.call_intrin("int32", _WORD, *elements)


def requantised(value: Expr, zero: Expr, low: Expr, high: Expr) -> Expr:
    """float32 ``value``, rounded half to even, plus int32 ``zero``, clamped: an int8."""
    return tirx.call_intrin("int8", _REQUANTISED, value, zero, low, high)


def image_offset(simd: Simd) -> int:
    """What ``simd``'s ``dot4`` adds to every element of the image before it multiplies.

    Sums have so many times the sum of the weights too much, which whoever packs the bias takes off.
    """
    return 128 if _has_vnni(simd) else 0


def lower_integers(function: tirx.PrimFunc, simd: Simd) -> tirx.PrimFunc:
    """``function`` with instructions of ``simd`` for the operations of this file."""

    def onto(sum_: tirx.Add) -> Expr:
        for sums, product in ((sum_.a, sum_.b), (sum_.b, sum_.a)):
            for name, fused in ((_DOT4, _DOT4_ONTO), (_SPREAD, _SPREAD_ONTO)):
                if _is(product, name):
                    return _call(fused, product.ty, sums, *product.args)
        return sum_

    requantise: Callable[..., Expr] = partial(_requantise_x86, "avx512f" in simd.features)
    if simd.arch == "aarch64":
        requantise = _requantise_neon
    lowerings: dict[str, Callable[..., Expr]] = {
        _DOT4: lambda weights, image: dot(_zeros(weights), weights, image),
        _DOT4_ONTO: lambda sums, weights, image: dot(sums, weights, image),
        _SPREAD: lambda weights, image: _smlal(_zeros(weights), weights, image),
        _SPREAD_ONTO: lambda sums, weights, image: _smlal(sums, weights, image),
        _WORD: lambda *elements: _lower_word(elements),
        _REQUANTISED: requantise,
    }
    dot = _dot_lowering(simd)

    def lower(call: tvm.ir.Call) -> Expr:
        name = getattr(call.op, "name", None)
        return lowerings[name](*call.args) if name in lowerings else call

    body = structural_map(function.body, (tirx.Add, onto))
    return function.with_body(structural_map(body, (tvm.ir.Call, lower)))


# Vectors


def _is(value: Any, name: str) -> bool:
    return isinstance(value, tvm.ir.Call) and getattr(value.op, "name", None) == name


def _call(name: str, dtype: Any, *args: Expr) -> Expr:
    return tirx.call_intrin(str(getattr(dtype, "dtype", dtype)), name, *args)


def _dtype(value: Expr) -> tvm.DataType:
    return tvm.DataType(str(getattr(value.ty, "dtype", value.ty)))


def _lanes(value: Expr) -> int:
    return int(_dtype(value).lanes)


def _vector(element: str, lanes: int) -> str:
    return element if lanes == 1 else f"{element}x{lanes}"


def _constant(value: int | float, element: str, lanes: int) -> Expr:
    scalar = tirx.const(value, element)
    return scalar if lanes == 1 else tirx.Broadcast(scalar, lanes)


def _zeros(like: Expr) -> Expr:
    return _constant(0, "int32", _lanes(like))


def _llvm(dtype: str, name: str, *args: Expr) -> Expr:
    return tirx.call_llvm_pure_intrin(dtype, name, *args)


def _pick(vector: Expr, places: Sequence[int]) -> Expr:
    # TVM wants as many lanes as are picked.
    vectors = [vector] * -(-len(places) // _lanes(vector))
    return tirx.Shuffle(vectors, [tirx.const(place, "int32") for place in places])


def _in_pieces(lanes: int, lowering: Callable[..., Expr], *vectors: Expr) -> Expr:
    """``lowering`` of ``lanes`` lanes at a time; of a shorter vector, filled up with its first."""
    length = _lanes(vectors[0])
    if length == lanes:
        return lowering(*vectors)
    if length == 1:
        return _pick(lowering(*(tirx.Broadcast(vector, lanes) for vector in vectors)), [0])
    pieces = [
        lowering(
            *(
                _pick(vector, [min(start + i, length - 1) for i in range(lanes)])
                for vector in vectors
            )
        )
        for start in range(0, length, lanes)
    ]
    places = [tirx.const(place, "int32") for place in range(length)]
    return tirx.Shuffle(pieces, places)


# Products


def _has_vnni(simd: Simd) -> bool:
    return "avx512vnni" in simd.features


def _dot_lowering(simd: Simd) -> Callable[[Expr, Expr, Expr], Expr]:
    if simd.arch == "aarch64":
        piece = _sdot if "dotprod" in simd.features else _smull
        return lambda *vectors: _in_pieces(4, piece, *vectors)
    if _has_vnni(simd):
        return _vpdpbusd
    return _pmaddwd


def _sdot(sums: Expr, weights: Expr, image: Expr) -> Expr:
    name = "llvm.aarch64.neon.sdot.v4i32.v16i8"
    return _llvm("int32x4", name, sums, *_bytes(weights, image))


def _bytes(*words: Expr) -> list[Expr]:
    return [tirx.reinterpret(_vector("int8", WORD * _lanes(value)), value) for value in words]


def _smull(sums: Expr, weights: Expr, image: Expr) -> Expr:
    """Products in 16 bits, added in pairs to 32, and these in pairs to one a lane."""
    operands = _bytes(weights, image)

    def pairs(half: range) -> Expr:
        pieces = [_pick(operand, half) for operand in operands]
        products = _llvm("int16x8", "llvm.aarch64.neon.smull.v8i16", *pieces)
        return _llvm("int32x4", "llvm.aarch64.neon.saddlp.v4i32.v8i16", products)

    added = [pairs(range(8)), pairs(range(8, 16))]
    return sums + _llvm("int32x4", "llvm.aarch64.neon.addp.v4i32", *added)


def _smlal(sums: Expr, weights: Expr, image: Expr) -> Expr:
    """Products of both halves, added in 16 bits, and these in pairs onto the sums."""

    def piece(sums: Expr, weights: Expr, image: Expr) -> Expr:
        operands = _bytes(weights, image)
        first, second = (
            _llvm(
                "int16x8",
                "llvm.aarch64.neon.smull.v8i16",
                *(_pick(operand, half) for operand in operands),
            )
            for half in (range(8), range(8, 16))
        )
        name = "llvm.aarch64.neon.saddlp.v4i32.v8i16"
        return sums + _llvm("int32x4", name, first + second)

    return _in_pieces(4, piece, sums, weights, image)


def _vpdpbusd(sums: Expr, weights: Expr, image: Expr) -> Expr:
    """Unsigned by signed bytes: the image, with 128 added, by the weights; see image_offset."""
    lanes = _lanes(sums)
    width = min(size for size in (4, 8, 16) if size >= min(lanes, 16))

    def piece(sums: Expr, weights: Expr, image: Expr) -> Expr:
        image = image ^ _constant(-0x7F7F7F80, "int32", width)
        name = f"llvm.x86.avx512.vpdpbusd.{32 * width}"
        return _llvm(_vector("int32", width), name, sums, *_bytes(image, weights))

    return _in_pieces(width, piece, sums, weights, image)


def _pmaddwd(sums: Expr, weights: Expr, image: Expr) -> Expr:
    """Even and odd bytes apart, in 16 bits, multiplied and added in pairs to 32."""

    def halves(words: Expr) -> tuple[Expr, Expr]:
        lanes = 2 * _lanes(words)
        both = tirx.reinterpret(_vector("int16", lanes), words)
        eight = _constant(8, "int16", lanes)
        return (both << eight) >> eight, both >> eight

    def piece(sums: Expr, weights: Expr, image: Expr) -> Expr:
        for pair in zip(halves(weights), halves(image), strict=True):
            sums = sums + _llvm("int32x8", "llvm.x86.avx2.pmadd.wd", *pair)
        return sums

    return _in_pieces(8, piece, sums, weights, image)


# Words of the image


def _lower_word(elements: Sequence[Expr]) -> Expr:
    """One load of bytes that stand side by side, else the bytes shifted to their places."""
    lanes = max(map(_lanes, elements))
    start = _common_start(elements)
    if start is not None:
        count = WORD * lanes
        ramp = tirx.Ramp(start, tirx.const(1, "int32"), count)
        loaded = tirx.BufferLoad(elements[0].source, [ramp])
        return tirx.reinterpret(_vector("int32", lanes), loaded)
    value = None
    for place, element in enumerate(elements):
        element = tirx.Cast(_vector("int32", lanes), element) & _constant(255, "int32", lanes)
        if place:
            element = element << _constant(8 * place, "int32", lanes)
        value = element if value is None else value | element
    assert value is not None, "a word has four elements"
    return value


def _common_start(elements: Sequence[Expr]) -> Expr | None:
    """The index of the first of bytes that are loaded from places side by side, in every lane."""
    if not all(isinstance(element, tvm.ir.TensorLoad) for element in elements):
        return None
    first, indices, analyzer = elements[0], [element.indices[0] for element in elements], Analyzer()
    lanes = _lanes(first)
    if any(not element.source.same_as(first.source) for element in elements):
        return None
    if lanes > 1:
        ramps = all(isinstance(index, tirx.Ramp) for index in indices)
        if not ramps or not analyzer.can_prove_equal(indices[0].stride, WORD):
            return None
        indices = [index.base for index in indices]
    apart = (index - indices[0] for index in indices[1:])
    if not all(analyzer.can_prove_equal(d, place) for place, d in enumerate(apart, 1)):
        return None
    return indices[0]


# Requantisation


def _requantise_x86(wide: bool, value: Expr, zero: Expr, low: Expr, high: Expr) -> Expr:
    """Clamped above before it is rounded: what is too large becomes the smallest integer else."""
    lanes = _lanes(value)

    def by_sixteen(piece: Expr) -> Expr:
        current_direction = tirx.const(4, "int32")
        name, all_lanes = "llvm.x86.avx512.mask.cvtps2dq.512", tirx.const(-1, "int16")
        zeros = _constant(0, "int32", 16)
        return _llvm("int32x16", name, piece, zeros, all_lanes, current_direction)

    def by_eight(piece: Expr) -> Expr:
        return _llvm("int32x8", "llvm.x86.avx.cvt.ps2dq.256", piece)

    ceiling = tirx.Cast(_vector("float32", lanes), high - zero)
    value = tirx.min(value, ceiling)
    if wide and lanes == 64:
        quarters = [_pick(value, range(start, start + 16)) for start in range(0, lanes, 16)]
        return tirx.max(_packed([*map(by_sixteen, quarters)], zero), tirx.Cast("int8x64", low))
    in_sixteens = wide and lanes % 16 == 0
    whole = _in_pieces(16, by_sixteen, value) if in_sixteens else _in_pieces(8, by_eight, value)
    return tirx.Cast(_vector("int8", lanes), tirx.max(whole + zero, low))


def _packed(quarters: Sequence[Expr], zero: Expr) -> Expr:
    """64 elements of four vectors of 16, plus ``zero``, narrowed with saturation.

    Packing takes four bytes in turn of each vector, so these are put in order in the end.
    """
    zeros = _pick(tirx.Cast("int16x64", zero), range(32))

    def half(first: Expr, second: Expr) -> Expr:
        pair = _llvm("int16x32", "llvm.x86.avx512.packssdw.512", first, second)
        return _llvm("int16x32", "llvm.sadd.sat", pair, zeros)

    halves = (half(*quarters[:2]), half(*quarters[2:]))
    packed = _llvm("int8x64", "llvm.x86.avx512.packsswb.512", *halves)
    words = tirx.reinterpret("int32x16", packed)
    in_order = _pick(words, [place % 4 * 4 + place // 4 for place in range(16)])
    return tirx.reinterpret("int8x64", in_order)


def _requantise_neon(value: Expr, zero: Expr, low: Expr, high: Expr) -> Expr:
    """Narrowed with saturation, 32 to 16 to 8 bits: as many elements in each instruction."""
    lanes = _lanes(value)

    def rounded(piece: Expr) -> Expr:
        return _llvm("int32x4", "llvm.aarch64.neon.fcvtns.v4i32.v4f32", piece)

    def saturated(value: Expr, bits: int) -> Expr:
        element = str(_dtype(value)).split("x")[0]
        most, least = 2 ** (bits - 1) - 1, -(2 ** (bits - 1))
        value = tirx.min(value, _constant(most, element, lanes))
        value = tirx.max(value, _constant(least, element, lanes))
        return tirx.Cast(_vector(f"int{bits}", lanes), value)

    def narrow(value: Expr, element: str) -> Expr:
        return tirx.Cast(_vector(element, lanes), value)

    whole = saturated(_in_pieces(4, rounded, value), 16)
    shifted = _llvm(_vector("int16", lanes), "llvm.sadd.sat", whole, narrow(zero, "int16"))
    result = tirx.min(saturated(shifted, 8), narrow(high, "int8"))
    return tirx.max(result, narrow(low, "int8"))
