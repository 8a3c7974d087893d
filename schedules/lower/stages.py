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
from schedules.lower.steps import extent

#: Arguments of a stage that are read, in this order; the first letter of a buffer's name.
INPUTS = "XRWB"
#: Annotation of a stage's parallel loop.
STAGE_ANNOTATION = "leanconv.stage"
#: Annotations of two such loops, one inside of the other: how many work items an iteration of the
#: outer one is, and the stage of the inner one.
WIDTH_ANNOTATION, INSIDE_ANNOTATION = "leanconv.width", "leanconv.inside"
#: Annotation of a loop around a stage's: its iterations, which threads share of each work item.
AMONG_ANNOTATION = "leanconv.among"
#: Annotation of a loop that LLVM must not unroll.
ROLLED_ANNOTATION = "leanconv.rolled"
#: Operator: whether an iteration of such an inner loop is the first one of a call.
_BEGINS = "tirx.leanconv_begins"
#: Keeps LLVM from being asked for a runtime allocation.
_ON_STACK = {"disable_lower_builtin": tirx.IntImm("int32", 1)}


def mark_stage(
    schedule: s_tir.Schedule,
    loop: Any,
    index: int = 0,
    inside: Any | None = None,
    among: Any | None = None,
) -> None:
    """Make the iterations of ``loop`` the work items of stage ``index``; or those of ``inside``.

    They must be independent of each other. Loops around ``loop`` are repeated by every thread, and
    so are those between it and the loop ``inside`` of it, by which threads share an iteration. What
    else an iteration does is done by every thread that has a part of it.

    If shares would be uneven, threads also share each item ``among`` the iterations of a loop
    around them: of two neighbours, the one has the first of these for the item between them, the
    other the rest.
    """
    schedule.annotate(loop, STAGE_ANNOTATION, index)
    if inside is not None:
        schedule.annotate(loop, WIDTH_ANNOTATION, extent(schedule, inside))
        schedule.annotate(inside, INSIDE_ANNOTATION, index)
    if among is not None:
        schedule.annotate(among, AMONG_ANNOTATION, extent(schedule, among))


def keep_rolled(schedule: s_tir.Schedule, loop: Any, small: bool = False) -> None:
    """Keep LLVM from unrolling ``loop``.

    Unrolled, neighbouring iterations that read the same elements share their registers, which are
    then missing for the tile: it spills. For in-order cores, LLVM unrolls a ``small`` loop in part
    even if it does not know how often it runs; but not one that may also end early.
    """
    schedule.annotate(loop, ROLLED_ANNOTATION, int(small))


def begins(variable: tirx.Var) -> tirx.Expr:
    """Whether nothing is left by an earlier iteration of the loop over ``variable``.

    That is the loop inside of a stage's, by which threads share work items: every call begins with
    an iteration of its own.
    """
    return tirx.call_intrin("bool", _BEGINS, variable)


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
        self.whole: dict[int, bool] = {}  # whether threads repeat what is around work items
        self.visited: set[int] = set()  # the stages met in the current statement
        # Of the current scope: whether its buffers are a thread's own, the bytes that are taken in
        # either part, the iterations in the pieces of a stage's loop that stood before (a
        # partitioned loop is several loops side by side, each counting from 0), and the first work
        # item of the current iteration, of a stage with two loops.
        self.per_thread = False
        self.top = {False: 0, True: 0}
        self.done: dict[Any, int] = {}
        self.item: Any = 0
        # The work items of the current iteration of a loop that shares each of them, and how many
        # iterations that loop has.
        self.range: tuple[Any, Any] = self.begin, self.end
        self.sharers = 1
        # Whether the current statement is in a loop of several iterations; and the stage in which
        # it is outside of the inner loop, if there are two.
        self.repeated = False
        self.around: int | None = None
        # The first iterations of a call, by the variables of inner loops.
        self.starts: dict[tirx.Var, Any] = {}

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
            Stage(f"{self.name}_stage{index}", self.extents[index], self.whole[index])
            for index in sorted(bodies)
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
            (tvm.ir.Call, self._call),
        ]
        return structural_mutate(stmt, callbacks)

    @contextmanager
    def _scope(self, per_thread: bool = False) -> Iterator[None]:
        before = self.per_thread, self.top, self.done, self.item, self.repeated, self.around
        shared = self.range, self.sharers
        self.per_thread |= per_thread
        self.top, self.done = dict(self.top), {}
        yield
        self.per_thread, self.top, self.done, self.item, self.repeated, self.around = before
        self.range, self.sharers = shared

    def _loop(self, loop: tirx.For, mutator: StructuralMutator) -> tirx.For:
        start, extent, leave = loop.min, loop.extent, None
        stage, item, around = loop.annotations.get(STAGE_ANNOTATION), self.item, self.around
        shared = self.range, self.sharers
        if stage is not None:
            start, extent, item = self._stage_range(loop, int(stage))
            around = int(stage) if WIDTH_ANNOTATION in loop.annotations else None
        elif INSIDE_ANNOTATION in loop.annotations:
            first = self.item + self._pass(INSIDE_ANNOTATION, loop)
            begin, end = self.range
            start = tirx.max(begin - first, 0)
            extent = tirx.min(end - first, extent) - start
            around = None
            self.starts[loop.loop_var] = start
        elif AMONG_ANNOTATION in loop.annotations:
            shared = self._items_among(loop)
        elif ROLLED_ANNOTATION in loop.annotations and _is_repeated(loop):
            # The same number, since threads count from 0, but LLVM does not know it.
            extent = tirx.max(extent, -self.thread)
            if loop.annotations[ROLLED_ANNOTATION]:
                leave = tirx.IfThenElse(
                    loop.loop_var == -1 - self.thread, tirx.Evaluate(tirx.break_loop()), None
                )
        with self._scope(stage is not None):
            self.item, self.around = item, around
            self.range, self.sharers = shared
            self.repeated |= _is_repeated(loop)
            body = mutator.mutate(loop.body)
        if leave is not None:
            body = tirx.SeqStmt([body, leave])
        return tirx.For(loop.loop_var, start, extent, tirx.ForKind.SERIAL, body)

    def _pass(self, key: Any, loop: tirx.For) -> int:
        """Iterations in the pieces that stood before, with ``loop`` as one more of them."""
        first = self.done.get(key, 0)
        self.done[key] = first + int(loop.extent)
        return first

    def _stage_range(self, loop: tirx.For, stage: int) -> tuple[Any, Any, Any]:
        """Where a stage's loop begins, how often it runs, and the first work item of one run."""
        first = self._pass(stage, loop)
        width = int(loop.annotations.get(WIDTH_ANNOTATION, 1))
        self.visited.add(stage)
        self.whole[stage] = self.whole.get(stage, False) or self.repeated
        self.extents[stage] = self.done[stage] * width * self.sharers
        begin, end = self.range
        if width > 1:
            begin = tirx.truncdiv(begin, width)
            end = tirx.truncdiv(end + (width - 1), width)
        start = tirx.max(begin - first, 0)
        runs = tirx.min(end - first, loop.extent) - start
        return start, runs, (loop.loop_var + first) * width

    def _items_among(self, loop: tirx.For) -> tuple[tuple[Any, Any], int]:
        """The work items of one of the iterations that share them, and how many these are.

        Of what threads count, item by item and iteration by iteration, it has every so-manieth.
        """
        count = int(loop.annotations[AMONG_ANNOTATION])
        turn = loop.loop_var + self._pass(AMONG_ANNOTATION, loop)
        begin, end = (
            tirx.truncdiv(bound + (count - 1) - turn, count) for bound in (self.begin, self.end)
        )
        return (begin, end), count

    def _sequence(self, sequence: tirx.SeqStmt, mutator: StructuralMutator) -> tirx.Stmt:
        with self._scope():
            return mutator.default_mutate(sequence)

    def _branches(self, branches: tirx.IfThenElse, mutator: StructuralMutator) -> tirx.Stmt:
        cases = []
        for case in (branches.then_case, branches.else_case):
            with self._scope():
                cases.append(mutator.mutate(case))
        return tirx.IfThenElse(mutator.mutate(branches.condition), *cases)

    def _call(self, call: tvm.ir.Call, mutator: StructuralMutator) -> tirx.Expr:
        if not call.op.same_as(tvm.ir.Op.get(_BEGINS)):
            return mutator.default_mutate(call)
        (variable,) = call.args
        start = self.starts.get(variable)
        # A loop of one iteration is gone.
        return tirx.const(True, "bool") if start is None else variable == start

    def _allocation(self, stmt: tirx.AllocBuffer, _mutator: StructuralMutator) -> tirx.Stmt:
        buffer = stmt.buffer
        if str(buffer.scope()) == "local":
            return tirx.AllocBuffer(buffer, annotations=_ON_STACK)
        size = _bytes(buffer)
        offset = align(self.top[self.per_thread])
        self.top[self.per_thread] = offset + size
        if self.around is not None:
            self.whole[self.around] = True
        self.buffers[PlannedBuffer(str(buffer.name), offset, size, self.per_thread)] = None
        start = tirx.const(offset, "int64")
        if self.per_thread:
            start = self.slice_offset + start
        return _declare(buffer, self.workspace, start)


def _is_repeated(loop: tirx.For) -> bool:
    """Whether ``loop`` may run several times; how often a counted one does is data."""
    return not isinstance(loop.extent, tirx.IntImm) or int(loop.extent) > 1


def _bytes(buffer: tirx.Buffer) -> int:
    element = tvm.DataType(str(buffer.dtype)).itemsize
    return math.prod(map(int, buffer.shape)) * int(element)


def _declare(buffer: tirx.Buffer, base: tirx.Var, offset: tirx.Expr) -> tirx.Stmt:
    """``buffer`` at so many bytes behind ``base``."""
    pointer = PointerType(PrimType(str(buffer.dtype)), "global")
    address = tirx.handle_add_byte_offset(base, offset)
    return tirx.DeclBuffer(buffer, data=tirx.reinterpret(pointer, address))


tvm.ir.register_op_attr(_BEGINS, "TCallEffectKind", 1)  # pure
tvm.ir.register_op_attr(_BEGINS, "TScriptPrinterName", _BEGINS)
