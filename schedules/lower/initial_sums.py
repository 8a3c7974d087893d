"""Let sums begin with something else than zero, which ``te.sum`` cannot say.

A sum that begins with the bias saves adding it later: one instruction for each vector of sums,
which counts where few products are summed.
"""

from __future__ import annotations

from collections.abc import Callable

from tvm import s_tir, tirx


def start_with(
    function: tirx.PrimFunc, block: str, value: Callable[..., tirx.Expr]
) -> tirx.PrimFunc:
    """``function`` in which the sums of ``block`` begin with ``value(*indices)``."""

    def visit(stmt: tirx.Stmt) -> tirx.Stmt:
        if isinstance(stmt, tirx.SeqStmt):
            return tirx.SeqStmt([visit(child) for child in stmt.seq])
        if isinstance(stmt, tirx.For):
            body = visit(stmt.body)
            return tirx.For(stmt.loop_var, stmt.min, stmt.extent, stmt.kind, body)
        assert isinstance(stmt, s_tir.SBlockRealize), "not as TE makes it"
        return s_tir.SBlockRealize(stmt.iter_values, stmt.predicate, start(stmt.block))

    def start(inner: s_tir.SBlock) -> s_tir.SBlock:
        first = inner.init
        if inner.name_hint == block:
            first = tirx.BufferStore(first.buffer, value(*first.indices), first.indices)
        elif inner.init is not None:
            return inner
        return s_tir.SBlock(
            inner.iter_vars, inner.reads, inner.writes, inner.name_hint, inner.body, first
        )

    root = function.body.block
    body = s_tir.SBlock(
        [], [], [], root.name_hint, visit(root.body), alloc_buffers=root.alloc_buffers
    )
    return function.with_body(s_tir.SBlockRealize([], True, body))
