"""Lower schedules to bare C functions with one planned workspace.

TVM's own calling convention needs its runtime on the device and allocates every intermediate
buffer there while it runs. Here a kernel becomes one C function a *stage*::

    int32_t NAME_stage0(const void *x, const void *r, const void *w, const void *b, void *y,
                        uint8_t *workspace, int32_t thread, int32_t begin, int32_t end);

The arguments are told by the names of the schedule's buffers: ``X``, the input; ``R``, a tensor
that is added to the output, NULL if there is none; ``W`` and ``B``, packed weights and bias. A
kernel of several layers has ``W0``, ``W1``, … in one block of memory, each at the next cache line
behind the one before, and likewise ``B0``, ``B1``, …. So have the further constants of a quantised
layer: ``Bscale`` and ``Bparameters`` follow ``B``. The first buffer of another name is the output,
and what follows are views of it.

A stage is one parallel loop of the schedule, marked with :func:`mark_stage`; ``begin`` and ``end``
are the part of its work items that the call does. Stages run one after another, each after all
threads have finished the one before. Buffers of scope ``local`` are register tiles and live on the
stack. All others live in the workspace: those allocated outside of a stage are shared by all
threads, those inside have one slice a thread. Their places are planned here, by lexical scope, and
the plan is kept, so that the bytes a user sees are the bytes a kernel uses.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import tvm
from tvm import s_tir, tirx

from schedules.lower.integers import lower_integers
from schedules.lower.kernel import CKernel, KernelObject
from schedules.lower.passes import lower_to_loops
from schedules.lower.stages import split
from schedules.target.simd import Simd


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
        kernel, stages = split(name, lower_to_loops(schedule.mod["main"]))
        kernels[name] = kernel
        for symbol, function in stages.items():
            functions[symbol] = lower_integers(function, simd)
    return tvm.IRModule(functions), kernels


def codegen(module: tvm.IRModule, simd: Simd) -> tvm.runtime.Module:
    """Machine code for lowered functions."""
    target = tvm.target.Target(simd.target)
    module = tirx.transform.BindTarget(target)(module)
    module = tirx.transform.LowerTVMBuiltin()(module)
    module = tirx.transform.LowerIntrin()(module)
    return tvm.get_global_func("target.build.llvm")(module, target)
