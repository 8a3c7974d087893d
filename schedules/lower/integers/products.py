"""Sums of products of words, by each instruction set."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from tvm import tirx
from tvm.tirx import Expr

from schedules.lower.integers.operations import SIGNS, has_vnni
from schedules.lower.integers.vectors import (
    bytes_of,
    constant,
    in_pieces,
    lanes_of,
    llvm,
    pick,
    vector_type,
)
from schedules.target.byte_products import spreads
from schedules.target.simd import Simd


def dot_lowering(simd: Simd) -> Callable[[Expr, Expr, Expr], Expr]:
    """The function of sums, weights and image that adds ``dot4`` onto the sums."""
    return _lowering(simd, "s")


def unsigned_lowering(simd: Simd) -> Callable[[Expr, Expr, Expr], Expr]:
    """Likewise ``unsigned_dot4``: weights are unsigned too on Arm with dot products, else signed.

    Arm without them multiplies an image of signed bytes.
    """
    if spreads(simd):
        dot = _lowering(simd, "s")
        return lambda sums, weights, image: dot(
            sums, weights, image ^ constant(SIGNS, "int32", lanes_of(image))
        )
    return _lowering(simd, "u")


def _lowering(simd: Simd, sign: str) -> Callable[[Expr, Expr, Expr], Expr]:
    """For an image of signed bytes, ``s``, or unsigned ones, ``u``."""
    if simd.arch == "aarch64":
        piece = _long_products if spreads(simd) else partial(_dot, sign)
        return lambda *vectors: in_pieces(4, piece, *vectors)
    return partial(_vpdpbusd if has_vnni(simd) else _pmaddwd, sign == "s")


def _dot(sign: str, sums: Expr, weights: Expr, image: Expr) -> Expr:
    """By one instruction."""
    name = f"llvm.aarch64.neon.{sign}dot.v4i32.v16i8"
    return llvm("int32x4", name, sums, *bytes_of(weights, image))


def _long_products(sums: Expr, weights: Expr, image: Expr) -> Expr:
    """Products in 16 bits, added in pairs to 32, and these in pairs to one a lane."""
    operands = bytes_of(weights, image)

    def pairs(half: range) -> Expr:
        pieces = [pick(operand, half) for operand in operands]
        products = llvm("int16x8", "llvm.aarch64.neon.smull.v8i16", *pieces)
        return llvm("int32x4", "llvm.aarch64.neon.saddlp.v4i32.v8i16", products)

    added = [pairs(range(8)), pairs(range(8, 16))]
    return sums + llvm("int32x4", "llvm.aarch64.neon.addp.v4i32", *added)


def smlal(sums: Expr, weights: Expr, image: Expr) -> Expr:
    """Products of both halves, added in 16 bits, and these in pairs onto the sums."""

    def piece(sums: Expr, weights: Expr, image: Expr) -> Expr:
        operands = bytes_of(weights, image)
        first, second = (
            llvm(
                "int16x8",
                "llvm.aarch64.neon.smull.v8i16",
                *(pick(operand, half) for operand in operands),
            )
            for half in (range(8), range(8, 16))
        )
        name = "llvm.aarch64.neon.saddlp.v4i32.v8i16"
        return sums + llvm("int32x4", name, first + second)

    return in_pieces(4, piece, sums, weights, image)


def matrix_product(sign: str, sums: Expr, weights: Expr, image: Expr) -> Expr:
    """Two rows of the image by two of the weights: signed bytes, ``s``, or unsigned, ``u``."""

    def piece(sums: Expr, weights: Expr, image: Expr) -> Expr:
        name = f"llvm.aarch64.neon.{sign}mmla.v4i32.v16i8"
        return llvm("int32x4", name, sums, *bytes_of(image, weights))

    return in_pieces(4, piece, sums, weights, image)


def smull_by_element(weights: Expr, image: Expr) -> Expr:
    """Products of int16, with NEON."""

    def piece(weights: Expr, image: Expr) -> Expr:
        return llvm("int32x4", "llvm.aarch64.neon.smull.v4i32", weights, image)

    return in_pieces(4, piece, weights, image)


def negate(elements: Expr) -> Expr:
    """Products with -1, as LLVM moves what widens alone behind what picks a lane."""

    def piece(elements: Expr) -> Expr:
        ones = constant(-1, "int8", 8)
        return llvm("int16x8", "llvm.aarch64.neon.smull.v8i16", elements, ones)

    return in_pieces(8, piece, elements)


def _vpdpbusd(is_signed: bool, sums: Expr, weights: Expr, image: Expr) -> Expr:
    """Unsigned by signed bytes: the image, a signed one with 128 added, by the weights."""
    lanes = lanes_of(sums)
    width = min(size for size in (4, 8, 16) if size >= min(lanes, 16))

    def piece(sums: Expr, weights: Expr, image: Expr) -> Expr:
        if is_signed:
            image = image ^ constant(SIGNS, "int32", width)
        name = f"llvm.x86.avx512.vpdpbusd.{32 * width}"
        return llvm(vector_type("int32", width), name, sums, *bytes_of(image, weights))

    return in_pieces(width, piece, sums, weights, image)


def _pmaddwd(is_signed: bool, sums: Expr, weights: Expr, image: Expr) -> Expr:
    """Even and odd bytes apart, in 16 bits, multiplied and added in pairs to 32.

    ``is_signed`` are those of the image; the others always are.
    """

    def halves(words: Expr, is_signed: bool) -> tuple[Expr, Expr]:
        lanes = 2 * lanes_of(words)
        both = tirx.reinterpret(vector_type("int16", lanes), words)
        eight, low = constant(8, "int16", lanes), constant(255, "int16", lanes)
        if is_signed:
            return (both << eight) >> eight, both >> eight
        return both & low, (both >> eight) & low

    def piece(sums: Expr, weights: Expr, image: Expr) -> Expr:
        for pair in zip(halves(weights, True), halves(image, is_signed), strict=True):
            sums = sums + llvm("int32x8", "llvm.x86.avx2.pmadd.wd", *pair)
        return sums

    return in_pieces(8, piece, sums, weights, image)
