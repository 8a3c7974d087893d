"""Lower schedules to bare C functions with one planned workspace.

TVM's own calling convention needs its runtime on the device and allocates every intermediate
buffer there while it runs. Here a kernel becomes one C function a *stage*::

    int32_t NAME_stage0(const void *x, const void *r, const void *w, const void *b, void *y,
                        uint8_t *workspace, int32_t thread, int32_t begin, int32_t end);

The arguments are told by the names of the schedule's buffers: ``X``, the input; ``R``, a tensor
that is added to the output, NULL if there is none; ``W`` and ``B``, packed weights and bias. A
kernel of several layers has ``W0``, ``W1``, … in one block of memory, each at the next cache line
behind the one before, and likewise ``B0``, ``B1``, …. The first buffer of another name is the
output, and what follows are views of it.

A stage is one parallel loop of the schedule, marked with :func:`mark_stage`; ``begin`` and ``end``
are the part of its work items that the call does. Stages run one after another, each after all
threads have finished the one before. Buffers of scope ``local`` are register tiles and live on the
stack. All others live in the workspace: those allocated outside of a stage are shared by all
threads, those inside have one slice a thread. Their places are planned here, by lexical scope, and
the plan is kept, so that the bytes a user sees are the bytes a kernel uses.
"""

from __future__ import annotations

import itertools
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import s_tir, tirx
from tvm.ir import PointerType, PrimType

from schedules.lower.masked_loops import SkipMaskedIterations
from schedules.lower.memory import align
from schedules.lower.statements import map_loops
from schedules.target.simd import Simd

#: Arguments of a stage that are read, in this order; the first letter of a buffer's name.
INPUTS = "XRWB"
_INPUT_NAME = re.compile(r"[XR]|[WB]\d*")
#: Annotation of a stage's parallel loop.
STAGE_ANNOTATION = "leanconv.stage"
#: Annotation of the root block: elements from one pixel of the output to the next.
PITCH_ANNOTATION = "leanconv.pitch"
#: Annotation of a loop that LLVM must not unroll.
ROLLED_ANNOTATION = "leanconv.rolled"


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


def spread_output(schedule: s_tir.Schedule, pitch: int) -> None:
    """Let the pixels of the output begin every ``pitch`` elements.

    A schedule's output is dense; the elements between its pixels belong to others.
    """
    schedule.annotate(schedule.get_sblock("root"), PITCH_ANNOTATION, pitch)


@dataclass(frozen=True)
class Stage:
    """One C function: its symbol, and the number of work items that its threads share."""

    symbol: str
    extent: int


@dataclass(frozen=True)
class PlannedBuffer:
    """One intermediate buffer: place and size in bytes, in the shared part or a thread's slice."""

    name: str
    offset: int
    size: int
    per_thread: bool


@dataclass(frozen=True)
class CKernel:
    """What a caller must know to run one kernel."""

    name: str
    stages: tuple[Stage, ...]
    buffers: tuple[PlannedBuffer, ...]

    def _end(self, per_thread: bool) -> int:
        return max(
            (b.offset + b.size for b in self.buffers if b.per_thread == per_thread), default=0
        )

    @property
    def shared_bytes(self) -> int:
        """Bytes before the first thread's slice."""
        return align(self._end(per_thread=False))

    @property
    def thread_bytes(self) -> int:
        """Bytes from one thread's slice to the next."""
        return align(self._end(per_thread=True))

    @property
    def workspace_bytes(self) -> int:
        """Bytes that one thread needs, without the alignment behind the last buffer."""
        own = self._end(per_thread=True)
        return self.shared_bytes + own if own else self._end(per_thread=False)


@dataclass(frozen=True)
class KernelObject:
    """A compiled relocatable object (ELF) and the kernels in it by name."""

    data: bytes
    kernels: Mapping[str, CKernel]


def compile_schedules(schedules: Mapping[str, s_tir.Schedule], simd: Simd) -> KernelObject:
    """Compile scheduled kernels into one object.

    Parameters
    ----------
    schedules : mapping of str to s_tir.Schedule
        A C identifier for each kernel.
    simd : Simd
        What to compile for.
    """
    module, kernels = lower(schedules, simd)
    library = codegen(module, simd)
    # In memory: on a full disk, LLVM would end the process.
    with os.fdopen(os.memfd_create("kernels.o"), "rb") as file:
        library.write_to_file(f"/proc/self/fd/{file.fileno()}", "o")
        return KernelObject(file.read(), kernels)


def assembly(schedule: s_tir.Schedule, simd: Simd) -> str:
    """The assembly of one kernel, for people and for tests that count instructions."""
    module, _ = lower({"kernel": schedule}, simd)
    return str(codegen(module, simd).inspect_source("asm"))


def lower(
    schedules: Mapping[str, s_tir.Schedule], simd: Simd
) -> tuple[tvm.IRModule, dict[str, CKernel]]:
    """C functions as an IRModule, and the plan of each kernel."""
    functions: dict[str, tirx.PrimFunc] = {}
    kernels: dict[str, CKernel] = {}
    for name, schedule in schedules.items():
        kernel, stages = _StageSplitter(name, _lower_to_loops(schedule.mod["main"])).split()
        kernels[name] = kernel
        functions.update(stages)
    return tvm.IRModule(functions), kernels


def _lower_to_loops(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """Blocks to plain loops, partitioned, vectorised and unrolled, with flat buffers."""
    s, t = s_tir.transform, tirx.transform
    passes = [
        _SpreadOutput,
        s.CanonicalizeLoop(),
        s.LowerInitBlock(),
        s.PlanAndUpdateBufferAllocationLocation(),
        s.ConvertBlocksToOpaque(),
        s.CompactBufferAllocation(),
        s.LowerMatchBuffer(),
        s.StmtSimplify(),
        s.LowerOpaqueBlock(),
        t.FlattenBuffer(),
        t.NarrowDataType(32),
        s.LoopPartition(),
        SkipMaskedIterations,
        _ScalarizeSingleLanes,
        s.StmtSimplify(),
        t.VectorizeLoop(True),
        # Before unrolling, which makes a Winograd kernel thirty times as long.
        s.RenormalizeSplitPattern(),
        t.UnrollLoop(),
        t.StmtSimplify(),
        s.RewriteUnsafeSelect(),
        t.CommonSubexprElim(),
    ]
    # Hints also split loops of constant extent. A piece of one iteration stays a loop: a stage's
    # pieces must remain visible, and every other such loop is gone after unrolling.
    partition = {"partition_const_loop": True, "no_unroll_loop_with_extent_one": True}
    with tvm.transform.PassContext(config={"s_tir.LoopPartition": partition}):
        module = tvm.ir.transform.Sequential(passes)(tvm.IRModule({"main": function}))
    return module["main"]


@tirx.transform.prim_func_pass(opt_level=0)
def _SpreadOutput(
    function: tirx.PrimFunc, _module: tvm.IRModule, _context: tvm.transform.PassContext
) -> tirx.PrimFunc:
    """Make the output, and what lies in it, parts of buffers that hold whole pixels.

    See :func:`spread_output`. LowerMatchBuffer then replaces the parts by the buffers.
    """
    root = function.body.block
    annotations = dict(root.annotations)
    pitch = annotations.pop(PITCH_ANNOTATION, None)
    if pitch is None:
        return function
    params, parts = _inputs(function), []
    for part in function.params[len(params) :]:
        whole = tirx.decl_buffer([*part.shape[:-1], pitch], part.dtype, part.name)
        region = tirx.BufferRegion(whole, [tvm.ir.Range(0, extent) for extent in part.shape])
        params.append(whole)
        parts.append(s_tir.MatchBufferRegion(part, region))
    block = s_tir.SBlock(
        [], [], [], root.name_hint, root.body, None, root.alloc_buffers, parts, annotations
    )
    return tirx.PrimFunc(
        params, s_tir.SBlockRealize([], True, block), function.ret_type, function.attrs
    )


@tirx.transform.prim_func_pass(opt_level=0)
def _ScalarizeSingleLanes(
    function: tirx.PrimFunc, _module: tvm.IRModule, _context: tvm.transform.PassContext
) -> tirx.PrimFunc:
    """Make vector loops of one lane, which partitioning leaves behind, plain loops."""

    def scalarize(loop: tirx.For) -> tirx.For:
        if loop.kind != tirx.ForKind.VECTORIZED or int(loop.extent) != 1:
            return loop
        return tirx.For(loop.loop_var, loop.min, loop.extent, tirx.ForKind.UNROLLED, loop.body)

    return function.with_body(map_loops(function.body, scalarize))


def codegen(module: tvm.IRModule, simd: Simd) -> tvm.runtime.Module:
    """Machine code for lowered functions."""
    target = tvm.target.Target(simd.target)
    module = tirx.transform.BindTarget(target)(module)
    module = tirx.transform.LowerTVMBuiltin()(module)
    module = tirx.transform.LowerIntrin()(module)
    return tvm.get_global_func("target.build.llvm")(module, target)


#: Keeps LLVM from being asked for a runtime allocation.
_ON_STACK = {"disable_lower_builtin": tirx.IntImm("int32", 1)}


class _StageSplitter:
    """Turns one lowered kernel into a C function a stage, and plans its workspace on the way.

    Places are given by lexical scope: a buffer lives until the end of the statement sequence that
    allocates it, so sequences side by side use the same bytes.
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
        self.top = {"shared": 0, "thread": 0}
        self.extents: dict[int, int] = {}
        self.visited: set[int] = set()  # the stages met in the current statement

    def split(self) -> tuple[CKernel, dict[str, tirx.PrimFunc]]:
        """The kernel's plan, and its functions by symbol."""
        shared: list[tirx.Stmt] = []
        bodies: dict[int, list[tirx.Stmt]] = {}
        body = self.function.body
        done: dict[int, int] = {}
        for stmt in body.seq if isinstance(body, tirx.SeqStmt) else [body]:
            if isinstance(stmt, tirx.AllocBuffer):
                shared.append(self._allocation(stmt, "shared"))
                continue
            if isinstance(stmt, tirx.DeclBuffer | tirx.Bind):
                shared.append(stmt)
                continue
            self.visited.clear()
            rewritten = self._visit(stmt, "shared", done)
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
        inputs = _inputs(self.function)
        pointer = PointerType(PrimType(str(params[0].dtype)), "global")
        handles = {name: tirx.Var(name, pointer) for name in (*INPUTS, "Y")}
        ends = dict.fromkeys(INPUTS, 0)
        declared = []
        for buffer in inputs:
            argument = str(buffer.name)[0]
            declared.append(
                _declare(buffer, handles[argument], tirx.const(ends[argument], "int64"))
            )
            ends[argument] = align(ends[argument] + _bytes(buffer))
        declared += [tirx.DeclBuffer(view, data=handles["Y"]) for view in params[len(inputs) :]]
        offset = tirx.const(kernel.shared_bytes, "int64") + tirx.Cast(
            "int64", self.thread
        ) * tirx.const(kernel.thread_bytes, "int64")
        return tirx.PrimFunc(
            [*handles.values(), self.workspace, self.thread, self.begin, self.end],
            tirx.SeqStmt([*declared, tirx.Bind(self.slice_offset, offset), *body]),
            ret_type=PrimType("int32"),
        ).with_attr({"global_symbol": symbol, "tirx.noalias": True})

    def _visit(self, stmt: tirx.Stmt, part: str, done: dict[int, int]) -> tirx.Stmt:
        """``stmt`` with places for its buffers and ranges for its stage loops.

        ``done`` counts the work items of the stage's pieces that stand before this one: a
        partitioned loop is several loops side by side, each counting from 0.
        """
        if isinstance(stmt, tirx.SeqStmt):
            return self._scope(list(stmt.seq), part)
        if isinstance(stmt, tirx.For):
            loop = [stmt.loop_var, stmt.min, stmt.extent, tirx.ForKind.SERIAL]
            body = [stmt.body]
            if STAGE_ANNOTATION in stmt.annotations:
                index, extent = int(stmt.annotations[STAGE_ANNOTATION]), int(stmt.extent)
                self.visited.add(index)
                first = done.get(index, 0)
                done[index] = first + extent
                self.extents[index] = done[index]
                lower = tirx.max(self.begin - first, 0)
                upper = tirx.min(self.end - first, extent)
                loop[1:3] = [lower, upper - lower]
                part = "thread"
            elif ROLLED_ANNOTATION in stmt.annotations and int(stmt.extent) > 1:
                # The same number, since threads count from 0, but LLVM does not know it.
                loop[2] = tirx.max(stmt.extent, -self.thread)
                if stmt.annotations[ROLLED_ANNOTATION]:
                    leave = tirx.Evaluate(tirx.break_loop())
                    body.append(tirx.IfThenElse(stmt.loop_var == -1 - self.thread, leave, None))
            return tirx.For(*loop, self._scope(body, part))
        if isinstance(stmt, tirx.IfThenElse):
            otherwise = stmt.else_case
            if otherwise is not None:
                otherwise = self._scope([otherwise], part)
            return tirx.IfThenElse(stmt.condition, self._scope([stmt.then_case], part), otherwise)
        if isinstance(stmt, tirx.AttrStmt):
            body = self._scope([stmt.body], part)
            return tirx.AttrStmt(stmt.node, stmt.attr_key, stmt.value, body)
        if isinstance(stmt, tirx.AllocBuffer):
            return self._allocation(stmt, part)
        return stmt

    def _scope(self, stmts: list[tirx.Stmt], part: str) -> tirx.Stmt:
        if len(stmts) == 1 and isinstance(stmts[0], tirx.SeqStmt):
            stmts = list(stmts[0].seq)
        before, done = dict(self.top), dict[int, int]()
        visited = [self._visit(stmt, part, done) for stmt in stmts]
        self.top = before
        return visited[0] if len(visited) == 1 else tirx.SeqStmt(visited)

    def _allocation(self, stmt: tirx.AllocBuffer, part: str) -> tirx.Stmt:
        buffer = stmt.buffer
        if str(buffer.scope()) == "local":
            return tirx.AllocBuffer(buffer, annotations=_ON_STACK)
        size = _bytes(buffer)
        offset = align(self.top[part])
        self.top[part] = offset + size
        self.buffers[PlannedBuffer(str(buffer.name), offset, size, part == "thread")] = None
        start = tirx.const(offset, "int64")
        if part == "thread":
            start = self.slice_offset + start
        return _declare(buffer, self.workspace, start)


def _inputs(function: tirx.PrimFunc) -> list[tirx.Buffer]:
    """The buffers in front of the output."""
    return list(
        itertools.takewhile(lambda buffer: _INPUT_NAME.fullmatch(str(buffer.name)), function.params)
    )


def _bytes(buffer: tirx.Buffer) -> int:
    element = tvm.DataType(str(buffer.dtype)).itemsize
    return math.prod(map(int, buffer.shape)) * int(element)


def _declare(buffer: tirx.Buffer, base: tirx.Var, offset: tirx.Expr) -> tirx.Stmt:
    """``buffer`` at so many bytes behind ``base``."""
    pointer = PointerType(PrimType(str(buffer.dtype)), "global")
    address = tirx.handle_add_byte_offset(base, offset)
    return tirx.DeclBuffer(buffer, data=tirx.reinterpret(pointer, address))
