"""Vectors of TIR: their types, pieces and constants, and calls of LLVM's intrinsics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tvm
from tvm import tirx
from tvm.tirx import Expr

from schedules.layer.words import WORD


def is_call(value: Any, name: str) -> bool:
    """Whether ``value`` calls the operation ``name``."""
    return isinstance(value, tvm.ir.Call) and getattr(value.op, "name", None) == name


def call(name: str, dtype: Any, *args: Expr) -> Expr:
    """The operation ``name``, whose result has the type ``dtype``."""
    return tirx.call_intrin(str(getattr(dtype, "dtype", dtype)), name, *args)


def dtype_of(value: Expr) -> tvm.DataType:
    """Element type and lanes of ``value``."""
    return tvm.DataType(str(getattr(value.ty, "dtype", value.ty)))


def element_of(value: Expr) -> str:
    """Element type of ``value``."""
    return str(dtype_of(value)).split("x")[0]


def lanes_of(value: Expr) -> int:
    """Elements of a vector; 1 of a scalar."""
    return int(dtype_of(value).lanes)


def vector_type(element: str, lanes: int) -> str:
    """The name of the type of ``lanes`` elements."""
    return element if lanes == 1 else f"{element}x{lanes}"


def constant(value: int | float, element: str, lanes: int) -> Expr:
    """``value`` in every lane."""
    scalar = tirx.const(value, element)
    return scalar if lanes == 1 else tirx.Broadcast(scalar, lanes)


def zeros(like: Expr) -> Expr:
    """A vector of int32 zeros with as many lanes as ``like``."""
    return constant(0, "int32", lanes_of(like))


def llvm(dtype: str, name: str, *args: Expr) -> Expr:
    """An intrinsic of LLVM without effects."""
    return tirx.call_llvm_pure_intrin(dtype, name, *args)


def pick(vector: Expr, places: Sequence[int]) -> Expr:
    """The elements of ``vector`` at ``places``."""
    # TVM wants as many lanes as are picked.
    vectors = [vector] * -(-len(places) // lanes_of(vector))
    return tirx.Shuffle(vectors, [tirx.const(place, "int32") for place in places])


def in_pieces(lanes: int, lowering: Callable[..., Expr], *vectors: Expr) -> Expr:
    """``lowering`` of ``lanes`` lanes at a time; of a shorter vector, filled up with its first."""
    length = lanes_of(vectors[0])
    if length == lanes:
        return lowering(*vectors)
    if length == 1:
        return pick(lowering(*(tirx.Broadcast(vector, lanes) for vector in vectors)), [0])
    pieces = [
        lowering(
            *(
                pick(vector, [min(start + i, length - 1) for i in range(lanes)])
                for vector in vectors
            )
        )
        for start in range(0, length, lanes)
    ]
    places = [tirx.const(place, "int32") for place in range(length)]
    return tirx.Shuffle(pieces, places)


def bytes_of(*words: Expr) -> list[Expr]:
    """Vectors of words as vectors of their int8."""
    return [tirx.reinterpret(vector_type("int8", WORD * lanes_of(value)), value) for value in words]
