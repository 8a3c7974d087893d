"""Compile plans in processes of their own: TVM lowers and LLVM compiles one kernel at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from schedules.algorithms import REGISTRY
from schedules.errors import LeanconvError, reason
from schedules.lower.kernel import KernelObject
from schedules.plan.plan import Plan
from schedules.plan.stored_kernels import compile_plans
from schedules.processes import Processes
from schedules.target.simd import Simd

#: For one kernel; the largest take some seconds.
TIMEOUT_SECONDS = 600.0

#: A kernel, or why there is none.
Built = KernelObject | LeanconvError


class Builder(Processes):
    """Processes that compile, with the algorithms that are registered here.

    Parameters
    ----------
    simd : Simd
        What to compile for.
    jobs, timeout_s, memory_bytes
        As of :class:`Processes`; TVM's libraries take one GB of address space.
    """

    def __init__(
        self,
        simd: Simd,
        jobs: int,
        timeout_s: float = TIMEOUT_SECONDS,
        memory_bytes: int | None = None,
    ) -> None:
        modules = sorted({type(algorithm).__module__ for algorithm in REGISTRY})
        super().__init__("compiling", jobs, timeout_s, modules, memory_bytes)
        self.simd = simd

    def build(self, plans: Mapping[str, Plan]) -> Iterator[tuple[str, Built]]:
        """Compile each plan by itself: names, and a kernel or why there is none, as they come.

        Raises
        ------
        LeanconvError
            If processes cannot be started.
        """
        tasks = {name: (name, plan, self.simd) for name, plan in plans.items()}
        return self.run(compile_plan, tasks)


def compile_plan(name: str, plan: Plan, simd: Simd) -> KernelObject:
    """Compile one kernel.

    Raises
    ------
    LeanconvError
        If that is not possible, of whatever kind TVM's error is: not every process could unpack it.
    """
    try:
        return compile_plans({name: plan}, simd)
    except Exception as error:
        raise LeanconvError(f"cannot be compiled: {reason(error)}") from None
