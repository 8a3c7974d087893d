"""Compile the kernels of a network into objects, in processes of their own if there are many."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from schedules.errors import LeanconvError
from schedules.lower.kernel import KernelObject
from schedules.plan.builder import Builder, Built, compile_plan
from schedules.plan.plan import Plan
from schedules.plan.stored_kernels import find_kernels
from schedules.processes import ProcessLost
from schedules.progress import Progress
from schedules.select.selection import Kernel
from schedules.target.simd import Simd

#: With fewer kernels, processes take longer to start, and to import TVM, than they save.
ENOUGH = 16
#: For programs that run several of these at once, as the tests do.
JOBS = "LEANCONV_JOBS"


def compile_kernels(
    kernels: Sequence[Kernel], simd: Simd, jobs: int | None = None, progress: Progress | None = None
) -> list[Kernel]:
    """Compile every kernel into an object, in processes where more than one can run.

    Parameters
    ----------
    kernels : sequence of Kernel
        Of different names.
    simd : Simd
        What to compile for.
    jobs : int, optional
        Kernels to compile at the same time; by default what the environment variable
        :data:`JOBS` says, or as many as there are cores, and one if there are fewer than
        :data:`ENOUGH`.
    progress : callable, optional
        Called with (kernels done, kernels in all, text).

    Returns
    -------
    list of Kernel
        The same in the same order, with ``compiled`` and ``data``.

    Raises
    ------
    LeanconvError
        If a kernel cannot be compiled, or a process dies.
    """
    done: dict[str, Kernel] = {}

    def tell(text: str) -> None:
        if progress is not None:
            progress(len(done), len(kernels), text)

    def finish(kernel: Kernel) -> None:
        done[kernel.name] = kernel
        tell(f"compiled {kernel.plan.algorithm} {kernel.plan.describe()}")

    tell(f"compiling {len(kernels)} kernels")
    missing = {}
    for kernel in kernels:
        stored = find_kernels({kernel.name: kernel.plan}, simd)
        if stored is None:
            missing[kernel.name] = kernel
        else:
            finish(_compiled(kernel, stored))
    jobs = min(jobs or _default_jobs(len(missing)), len(missing))
    plans = {name: kernel.plan for name, kernel in missing.items()}
    with Builder(simd, jobs) as builder:
        for name, result in builder.build(plans) if jobs > 1 else _build_here(plans, simd):
            if isinstance(result, LeanconvError):
                raise _refusal(plans[name], result)
            finish(_compiled(missing[name], result))
    return [done[kernel.name] for kernel in kernels]


def _build_here(plans: Mapping[str, Plan], simd: Simd) -> Iterator[tuple[str, Built]]:
    for name, plan in plans.items():
        try:
            yield name, compile_plan(name, plan, simd)
        except LeanconvError as error:
            yield name, error


def _default_jobs(kernels: int) -> int:
    if kernels < ENOUGH:
        return 1
    jobs = os.environ.get(JOBS, "")
    return max(1, int(jobs)) if jobs.isdecimal() else len(os.sched_getaffinity(0))


def _refusal(plan: Plan, error: LeanconvError) -> LeanconvError:
    advice = "please report it, and try another --algorithm"
    if isinstance(error, ProcessLost):
        advice = "is there too little memory for several? Try --jobs 1"
    return LeanconvError(f"{plan.algorithm} for {plan.describe()} {error}; {advice}")


def _compiled(kernel: Kernel, result: KernelObject) -> Kernel:
    return replace(kernel, compiled=result.kernels[kernel.name], data=result.data)
