"""Conditions under which rows are computed: tested once a row, not for every element.

TVM attaches conditions to the statements that store: rows of a strip that lie beyond the image, and
rows of a rolling buffer that are there already. What computes the sums that are stored knows none
of them.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from tvm import s_tir, tirx
from tvm_ffi import StructuralMutator, structural_equal, structural_map, structural_mutate

from schedules.lower.conditions import conjuncts
from schedules.lower.stages import INSIDE_ANNOTATION, begins


def guard_rows(
    schedule: s_tir.Schedule, blocks: Collection[str], rolling: str | None = None
) -> s_tir.Schedule:
    """``schedule`` with the row conditions of ``blocks`` tested by the loops over rows.

    All that such a loop does must be for one of the blocks. The rows of buffer ``rolling``, if
    there is one, are stored modulo as many as one step of the loop reads in which the block of that
    name is computed; rows that a step of the same call before has computed are not computed again.
    It must be the last step of a schedule.
    """
    if rolling is not None:
        schedule.rolling_buffer(schedule.get_sblock(rolling), 0)
    function = schedule.mod["main"]
    body = _RowTests(blocks, rolling).visit(function.body)
    return s_tir.Schedule(function.with_body(body))


class _RowTests:
    """Moves conditions from blocks to the innermost loops that they depend on.

    Loops over rows are those that are neither partitioned nor unrolled nor vectors.
    """

    def __init__(self, blocks: Collection[str], rolling: str | None) -> None:
        self.blocks, self.rolling = blocks, rolling
        self.loops: list[tirx.For] = []  # around the current statement
        self.tests: dict[Any, list[tirx.Expr]] = {}  # by the variable of the loop to make them

    def visit(self, stmt: tirx.Stmt) -> tirx.Stmt:
        return structural_mutate(stmt, [(tirx.For, self._loop), (s_tir.SBlockRealize, self._block)])

    def _loop(self, loop: tirx.For, mutator: StructuralMutator) -> tirx.For:
        self.loops.append(loop)
        body = mutator.mutate(loop.body)
        self.loops.pop()
        for test in self.tests.pop(loop.loop_var, []):
            body = tirx.IfThenElse(test, body, None)
        parts = (loop.loop_var, loop.min, loop.extent, loop.kind)
        return tirx.For(*parts, body, loop.thread_binding, loop.annotations)

    def _block(self, realize: s_tir.SBlockRealize, mutator: StructuralMutator) -> tirx.Stmt:
        block, left = realize.block, []
        for condition in conjuncts(realize.predicate):
            loop = self._row_loop(condition) if block.name_hint in self.blocks else None
            if loop is None:
                left.append(condition)
                continue
            condition = self._in_each_call(condition)
            tests = self.tests.setdefault(loop.loop_var, [])
            if not any(structural_equal(condition, test) for test in tests):
                tests.append(condition)
        iterators, reads = list(block.iter_vars), block.reads
        if self.rolling == block.name_hint:
            # What a block reads that is carried from step to step is kept for all steps: TVM must
            # not know that its sums are.
            reads = []
        elif self.rolling is not None:
            iterators = [_independent(iterator) for iterator in iterators]
        block = s_tir.SBlock(
            iterators,
            reads,
            block.writes,
            block.name_hint,
            mutator.mutate(block.body),
            block.init,
            block.alloc_buffers,
            block.match_buffers,
            block.annotations,
        )
        predicate = tirx.all(*left) if left else tirx.const(True, "bool")
        return s_tir.SBlockRealize(realize.iter_values, predicate, block)

    def _in_each_call(self, condition: tirx.Expr) -> tirx.Expr:
        """``condition`` with what TVM says of the first step said of that of each call.

        Rows that are not there already are those of the first step or beyond those of the last.
        """
        shared = {loop.loop_var for loop in self.loops if INSIDE_ANNOTATION in loop.annotations}

        def begun(either: tirx.Or) -> tirx.Expr:
            first = either.a
            if not isinstance(first, tirx.LT) or first.a not in shared:
                return either
            return tirx.Or(begins(first.a), either.b)

        return structural_map(condition, (tirx.Or, begun))

    def _row_loop(self, condition: tirx.Expr) -> tirx.For | None:
        """The innermost loop that a condition depends on, if it is one over rows."""
        used = set(tirx.analysis.undefined_vars(condition))
        loop = next((loop for loop in reversed(self.loops) if loop.loop_var in used), None)
        if loop is None or loop.kind != tirx.ForKind.SERIAL:
            return None
        return None if "pragma_loop_partition_hint" in loop.annotations else loop


def _independent(iterator: tirx.IterVar) -> tirx.IterVar:
    """An iterator that is not carried from step to step: TVM marks one of every block so."""
    if iterator.iter_type != tirx.IterVar.Opaque:
        return iterator
    return tirx.IterVar(iterator.dom, iterator.var, tirx.IterVar.DataPar)
