"""Walk and rewrite lowered TIR statements, which TVM offers in C++ only."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tvm import tirx


def statements(stmt: tirx.Stmt) -> Iterator[tirx.Stmt]:
    """Every statement in ``stmt``, itself included."""
    yield stmt
    if isinstance(stmt, tirx.SeqStmt):
        for child in stmt.seq:
            yield from statements(child)
    elif isinstance(stmt, tirx.For | tirx.AttrStmt):
        yield from statements(stmt.body)
    elif isinstance(stmt, tirx.IfThenElse):
        yield from statements(stmt.then_case)
        if stmt.else_case is not None:
            yield from statements(stmt.else_case)


def map_loops(stmt: tirx.Stmt, change: Callable[[tirx.For], tirx.Stmt]) -> tirx.Stmt:
    """``stmt`` with ``change`` applied to every loop, inner loops first."""
    if isinstance(stmt, tirx.SeqStmt):
        return tirx.SeqStmt([map_loops(child, change) for child in stmt.seq])
    if isinstance(stmt, tirx.IfThenElse):
        otherwise = None if stmt.else_case is None else map_loops(stmt.else_case, change)
        return tirx.IfThenElse(stmt.condition, map_loops(stmt.then_case, change), otherwise)
    if isinstance(stmt, tirx.AttrStmt):
        return tirx.AttrStmt(stmt.node, stmt.attr_key, stmt.value, map_loops(stmt.body, change))
    if isinstance(stmt, tirx.For):
        loop = (stmt.loop_var, stmt.min, stmt.extent, stmt.kind)
        body = map_loops(stmt.body, change)
        return change(tirx.For(*loop, body, stmt.thread_binding, stmt.annotations))
    return stmt
