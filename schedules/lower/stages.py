"""One lowered kernel as a C function a stage, with places in one workspace for its buffers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import tvm
from tvm import s_tir, tirx
from tvm.ir import PointerType, PrimType
from tvm_ffi import StructuralMutator, structural_mutate

from schedules.lower.kernel import CKernel, PlannedBuffer, Stage
from schedules.lower.memory import align
from schedules.lower.passes import inputs

#: Arguments of a stage that are read, in this order; the first letter of a buffer's name.
INPUTS = "XRWB"
#: Annotation of a stage's parallel loop.
STAGE_ANNOTATION = "leanconv.stage"
#: Annotation of a loop that LLVM must not unroll.
ROLLED_ANNOTATION = "leanconv.rolled"
#: Keeps LLVM from being asked for a runtime allocation.
_ON_STACK = {"disable_lower_builtin": tirx.IntImm("int32", 1)}


def mark_stage(schedule: s_tir.Schedule, loop: Any, index: int = 0) -> None:
    """Make the iterations of ``loop`` the work items of stage ``index``.

    They must be independent of each other. Loops around ``loop`` are repeated by every thread.
    """
    schedule.annotate(loop, STAGE_ANNOTATION, index)


def keep_rolled(schedule: s_tir.Schedule, loop: Any, small: bool = False) -> None:
    """Keep LLVM from unrolling ``loop``.

    Unrolled, neighbouring iterations that read the same elements share their registers, which are
    then missing for the tile: it spills. For in-order cores, LLVM unrolls a ``small`` loop in part
    even if it does not know how often it runs; but not one that may also end early.
    """
    schedule.annotate(loop, ROLLED_ANNOTATION, int(small))


def split(name: str, function: tirx.PrimFunc) -> tuple[CKernel, dict[str, tirx.PrimFunc]]:
    """The kernel's plan, and its functions by symbol."""
    return _Splitter(name, function).split()


class _Splitter:
    """Gives places by lexical scope, so that loops side by side use the same bytes.

    A buffer lives until the end of the statement sequence that allocates it.
    """

    def __init__(self, name: str, function: tirx.PrimFunc) -> None:
        self.name = name
        self.function = function
        self.workspace = tirx.Var("workspace", PointerType(PrimType("uint8"), "global"))
        self.slice_offset = tirx.Var("slice_offset", "int64")
        self.thread, self.begin, self.end = (
            tirx.Var(variable, "int32") for variable in ("thread", "begin", "end")
        )
        self.buffers: dict[PlannedBuffer, None] = {}  # an ordered set
        self.extents: dict[int, int] = {}
        self.visited: set[int] = set()  # the stages met in the current statement
        # Of the current scope: whether its buffers are a thread's own, the bytes that are taken in
        # either part, and the work items in the pieces of a stage that stood before: a partitioned
        # loop is several loops side by side, each counting from 0.
        self.per_thread = False
        self.top = {False: 0, True: 0}
        self.done: dict[int, int] = {}

    def split(self) -> tuple[CKernel, dict[str, tirx.PrimFunc]]:
        shared: list[tirx.Stmt] = []
        bodies: dict[int, list[tirx.Stmt]] = {}
        body = self.function.body
        for stmt in body.seq if isinstance(body, tirx.SeqStmt) else [body]:
            self.visited.clear()
            rewritten = self._rewrite(stmt)
            if isinstance(stmt, tirx.AllocBuffer | tirx.DeclBuffer | tirx.Bind):
                shared.append(rewritten)
                continue
            assert len(self.visited) == 1, f"{self.name}: not exactly one stage in\n{stmt}"
            bodies.setdefault(self.visited.pop(), []).append(rewritten)
        stages = tuple(
            Stage(f"{self.name}_stage{index}", self.extents[index]) for index in sorted(bodies)
        )
        kernel = CKernel(self.name, stages, tuple(self.buffers))
        functions = {
            stage.symbol: self._c_function(stage.symbol, kernel, shared + bodies[index])
            for stage, index in zip(stages, sorted(bodies), strict=True)
        }
        return kernel, functions

    def _c_function(self, symbol: str, kernel: CKernel, body: list[tirx.Stmt]) -> tirx.PrimFunc:
        params = list(self.function.params)
        read = inputs(self.function)
        pointer = PointerType(PrimType(str(params[0].dtype)), "global")
        handles = {name: tirx.Var(name, pointer) for name in (*INPUTS, "Y")}
        ends = dict.fromkeys(INPUTS, 0)
        declared = []
        for buffer in read:
            argument = str(buffer.name)[0]
            declared.append(
                _declare(buffer, handles[argument], tirx.const(ends[argument], "int64"))
            )
            ends[argument] = align(ends[argument] + _bytes(buffer))
        declared += [tirx.DeclBuffer(view, data=handles["Y"]) for view in params[len(read) :]]
        offset = tirx.const(kernel.shared_bytes, "int64") + tirx.Cast(
            "int64", self.thread
        ) * tirx.const(kernel.thread_bytes, "int64")
        return tirx.PrimFunc(
            [*handles.values(), self.workspace, self.thread, self.begin, self.end],
            tirx.SeqStmt([*declared, tirx.Bind(self.slice_offset, offset), *body]),
            ret_type=PrimType("int32"),
        ).with_attr({"global_symbol": symbol, "tirx.noalias": True})

    def _rewrite(self, stmt: tirx.Stmt) -> tirx.Stmt:
        """``stmt`` with places for its buffers and ranges for its stage loops."""
        callbacks = [
            (tirx.For, self._loop),
            (tirx.SeqStmt, self._sequence),
            (tirx.IfThenElse, self._branches),
            (tirx.AllocBuffer, self._allocation),
        ]
        return structural_mutate(stmt, callbacks)

    @contextmanager
    def _scope(self, per_thread: bool = False) -> Iterator[None]:
        before = self.per_thread, self.top, self.done
        self.per_thread |= per_thread
        self.top, self.done = dict(self.top), {}
        yield
        self.per_thread, self.top, self.done = before

    def _loop(self, loop: tirx.For, mutator: StructuralMutator) -> tirx.For:
        start, extent, leave = loop.min, loop.extent, None
        stage = loop.annotations.get(STAGE_ANNOTATION)
        if stage is not None:
            first = self.done.get(int(stage), 0)
            self.visited.add(int(stage))
            self.done[int(stage)] = self.extents[int(stage)] = first + int(extent)
            lower = tirx.max(self.begin - first, 0)
            upper = tirx.min(self.end - first, extent)
            start, extent = lower, upper - lower
        elif ROLLED_ANNOTATION in loop.annotations and int(extent) > 1:
            # The same number, since threads count from 0, but LLVM does not know it.
            extent = tirx.max(extent, -self.thread)
            if loop.annotations[ROLLED_ANNOTATION]:
                leave = tirx.IfThenElse(
                    loop.loop_var == -1 - self.thread, tirx.Evaluate(tirx.break_loop()), None
                )
        with self._scope(stage is not None):
            body = mutator.mutate(loop.body)
        if leave is not None:
            body = tirx.SeqStmt([body, leave])
        return tirx.For(loop.loop_var, start, extent, tirx.ForKind.SERIAL, body)

    def _sequence(self, sequence: tirx.SeqStmt, mutator: StructuralMutator) -> tirx.Stmt:
        with self._scope():
            return mutator.default_mutate(sequence)

    def _branches(self, branches: tirx.IfThenElse, mutator: StructuralMutator) -> tirx.Stmt:
        cases = []
        for case in (branches.then_case, branches.else_case):
            with self._scope():
                cases.append(mutator.mutate(case))
        return tirx.IfThenElse(branches.condition, *cases)

    def _allocation(self, stmt: tirx.AllocBuffer, _mutator: StructuralMutator) -> tirx.Stmt:
        buffer = stmt.buffer
        if str(buffer.scope()) == "local":
            return tirx.AllocBuffer(buffer, annotations=_ON_STACK)
        size = _bytes(buffer)
        offset = align(self.top[self.per_thread])
        self.top[self.per_thread] = offset + size
        self.buffers[PlannedBuffer(str(buffer.name), offset, size, self.per_thread)] = None
        start = tirx.const(offset, "int64")
        if self.per_thread:
            start = self.slice_offset + start
        return _declare(buffer, self.workspace, start)


def _bytes(buffer: tirx.Buffer) -> int:
    element = tvm.DataType(str(buffer.dtype)).itemsize
    return math.prod(map(int, buffer.shape)) * int(element)


def _declare(buffer: tirx.Buffer, base: tirx.Var, offset: tirx.Expr) -> tirx.Stmt:
    """``buffer`` at so many bytes behind ``base``."""
    pointer = PointerType(PrimType(str(buffer.dtype)), "global")
    address = tirx.handle_add_byte_offset(base, offset)
    return tirx.DeclBuffer(buffer, data=tirx.reinterpret(pointer, address))
