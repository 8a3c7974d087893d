"""Compile the kernels of a network into objects, in processes of their own.

TVM lowers and LLVM compiles one kernel at a time; a network has dozens of them.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import replace

from schedules.errors import LeanconvError
from schedules.interrupts import interrupts_blocked
from schedules.planner import compile_plans
from schedules.selection import Kernel
from schedules.simd import Simd

#: With fewer kernels, processes take longer to start, and to import TVM, than they save.
ENOUGH = 8

#: Called with how many kernels are compiled, how many there are, and which is at hand.
Progress = Callable[[int, int, str], None]


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
        Kernels to compile at the same time; by default as many as there are cores, and one if
        there are fewer than :data:`ENOUGH`.
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
    if jobs is None:
        jobs = len(os.sched_getaffinity(0)) if len(kernels) >= ENOUGH else 1
    jobs = min(jobs, len(kernels))
    done: dict[str, Kernel] = {}

    def tell(text: str) -> None:
        if progress is not None:
            progress(len(done), len(kernels), text)

    def finish(kernel: Kernel) -> None:
        done[kernel.name] = kernel
        tell(f"compiled {kernel.plan.algorithm} {kernel.plan.describe()}")

    tell(f"compiling {len(kernels)} kernels")
    if jobs <= 1:
        for kernel in kernels:
            finish(_compile_kernel(kernel, simd))
    else:
        with _workers(jobs) as executor:
            with interrupts_blocked():  # for the processes that the first call starts
                pending = [executor.submit(_compile_kernel, kernel, simd) for kernel in kernels]
            for future in as_completed(pending):
                try:
                    finish(future.result())
                except BrokenExecutor:
                    raise LeanconvError(
                        "a compiling process died, perhaps for want of memory: try --jobs 1"
                    ) from None
    return [done[kernel.name] for kernel in kernels]


@contextmanager
def _workers(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that end at once when the work is interrupted.

    Their temporary files are in a folder of this process, since they may not come to remove them.
    """
    with tempfile.TemporaryDirectory(prefix="leanconv-") as folder:
        others = set(multiprocessing.active_children())
        executor = ProcessPoolExecutor(
            jobs,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_use_temporary_folder,
            initargs=(folder,),
        )
        try:
            yield executor
        except BaseException:
            executor.shutdown(wait=False, cancel_futures=True)
            # Not terminate(): LLVM has a handler for that signal, which can wait for ever.
            for process in set(multiprocessing.active_children()) - others:
                process.kill()
                process.join()
            raise
        executor.shutdown()


def _use_temporary_folder(folder: str) -> None:
    tempfile.tempdir = folder


def _compile_kernel(kernel: Kernel, simd: Simd) -> Kernel:
    try:
        result = compile_plans({kernel.name: kernel.plan}, simd)
    except Exception as error:  # of whatever kind TVM raises, which not every process could unpack
        lines = str(error).strip().splitlines() or [type(error).__name__]
        plan = kernel.plan
        raise LeanconvError(
            f"{plan.algorithm} cannot be compiled for {plan.describe()}: {lines[-1]}; "
            "please report it, and try another --algorithm"
        ) from None
    return replace(kernel, compiled=result.kernels[kernel.name], data=result.data)
