"""A lowering pass: square tiles that are transposed in registers.

A loop that copies rows of a tile to columns would load or store element by element. The pass loads
whole rows instead, shuffles them, and stores whole columns. Of ``n`` rows of ``n`` elements, the
first and second half are interleaved, row by row, ``log2(n)`` times: that transposes them (Stone,
"Parallel Processing with the Perfect Shuffle", IEEE Transactions on Computers, 1971). It is
``log2(n)`` instructions a vector on NEON (``zip1``, ``zip2``) and with AVX-512 (``vpermt2ps``).
"""

from __future__ import annotations

from typing import Any

import tvm
from tvm import s_tir, tirx
from tvm_ffi import structural_map

#: Annotation of the outer one of two loops that copy a square tile.
TRANSPOSED_ANNOTATION = "leanconv.transposed"
#: Rows of the smallest tile that is worth it.
LEAST_ROWS = 4


def transpose_tile(schedule: s_tir.Schedule, row: Any, column: Any) -> None:
    """Copy a tile by vectors along ``column``, of which ``row`` has as many: a power of two.

    The element is read along ``row`` and written along ``column``, each one by one. A mask, without
    which it is zero, does not depend on ``row``.
    """
    extents = {int(schedule.get(loop).extent) for loop in (row, column)}
    assert len(extents) == 1, "a tile that is no square"
    if min(extents) >= LEAST_ROWS:
        schedule.annotate(row, TRANSPOSED_ANNOTATION, 1)


@tirx.transform.prim_func_pass(opt_level=0)
def TransposeTiles(
    function: tirx.PrimFunc, _module: tvm.IRModule, _context: tvm.transform.PassContext
) -> tirx.PrimFunc:
    """Make vectors of the tiles that are marked."""

    def transpose(loop: tirx.For) -> tirx.Stmt:
        return _in_registers(loop) if TRANSPOSED_ANNOTATION in loop.annotations else loop

    return function.with_body(structural_map(function.body, (tirx.For, transpose)))


def _first(expression: tirx.Expr, along: tirx.Var, other: tirx.Var, at: int) -> tirx.Expr:
    """``expression`` for the first step along one loop, and step ``at`` of the other."""

    def value(variable: tirx.Var) -> tirx.Expr:
        if variable.same_as(along):
            return tirx.const(0, "int32")
        return tirx.const(at, "int32") if variable.same_as(other) else variable

    return structural_map(expression, (tirx.Var, value))


def _in_registers(loop: tirx.For) -> tirx.Stmt:
    store, size = loop.body.body, int(loop.extent)
    row, column = loop.loop_var, loop.body.loop_var
    mask, load = None, store.value
    if isinstance(load, tvm.ir.Call):  # zero where the mask fails, for a row as a whole
        mask, load, _ = load.args

    def vector(place: tirx.Expr, along: tirx.Var, other: tirx.Var, at: int) -> tirx.Ramp:
        return tirx.Ramp(_first(place, along, other, at), tirx.const(1, "int32"), size)

    def row_of(i: int) -> tirx.Expr:
        values = tirx.BufferLoad(load.source, [vector(load.indices[0], row, column, i)])
        if mask is None:
            return values
        zeros = tirx.Broadcast(tirx.const(0, str(store.buffer.dtype)), size)
        return tirx.if_then_else(_first(mask, row, column, i), values, zeros)

    statements: list[tirx.Stmt] = []

    def bound(name: str, value: tirx.Expr) -> tirx.Var:
        variable = tirx.Var(name, f"{store.buffer.dtype}x{size}")
        statements.append(tirx.Bind(variable, value))
        return variable

    vectors = [bound(f"row{i}", row_of(i)) for i in range(size)]
    halves = [range(first, first + size // 2) for first in (0, size // 2)]
    orders = [[lane for i in half for lane in (i, size + i)] for half in halves]
    for _ in range(size.bit_length() - 1):
        vectors = [
            bound("mixed", tirx.Shuffle([vectors[i], vectors[size // 2 + i]], order))
            for i in range(size // 2)
            for order in orders
        ]
    statements += [
        tirx.BufferStore(store.buffer, vectors[i], [vector(store.indices[0], column, row, i)])
        for i in range(size)
    ]
    return tirx.SeqStmt(statements)
