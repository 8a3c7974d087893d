"""Compile the kernels of a network into objects, in processes of their own.

TVM lowers and LLVM compiles one kernel at a time; a network has dozens of them.
"""

from __future__ import annotations

import importlib
import logging
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from schedules.algorithms import REGISTRY
from schedules.errors import LeanconvError, reason
from schedules.interrupts import interrupts_blocked
from schedules.lower.c_abi import KernelObject
from schedules.plan.planner import compile_plans
from schedules.plan.stored_kernels import find_kernels
from schedules.select.selection import Kernel
from schedules.target.simd import Simd

#: With fewer kernels, processes take longer to start, and to import TVM, than they save.
ENOUGH = 16
#: For programs that run several of these at once, as the tests do.
JOBS = "LEANCONV_JOBS"

_LOG = logging.getLogger(__name__)
#: How the files end that have what each process wrote to standard error.
_OUTPUT = ".stderr"

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
    missing = []
    for kernel in kernels:
        stored = find_kernels({kernel.name: kernel.plan}, simd)
        if stored is None:
            missing.append(kernel)
        else:
            finish(_compiled(kernel, stored))
    jobs = min(jobs or _default_jobs(len(missing)), len(missing))
    if jobs <= 1:
        for kernel in missing:
            finish(_compile_kernel(kernel, simd))
    else:
        _compile_in_processes(missing, simd, jobs, finish)
    return [done[kernel.name] for kernel in kernels]


def _default_jobs(kernels: int) -> int:
    if kernels < ENOUGH:
        return 1
    jobs = os.environ.get(JOBS, "")
    return max(1, int(jobs)) if jobs.isdecimal() else len(os.sched_getaffinity(0))


def _compile_in_processes(
    kernels: Sequence[Kernel], simd: Simd, jobs: int, finish: Callable[[Kernel], None]
) -> None:
    modules = sorted({type(REGISTRY.get(name)).__module__ for name in REGISTRY.names()})
    with _workers(jobs, modules) as executor, ExitStack() as starting:
        # For the processes that the calls start.
        starting.enter_context(interrupts_blocked())
        if "__main__" not in modules:
            starting.enter_context(_main_hidden())
        pending = [executor.submit(_compile_kernel, kernel, simd) for kernel in kernels]
        starting.close()
        for future in as_completed(pending):
            try:
                finish(future.result())
            except BrokenExecutor:
                raise LeanconvError(_death(modules)) from None


def _death(modules: Sequence[str]) -> str:
    """Why a process may have died."""
    if "__main__" in modules:
        return (
            "a compiling process died: a script with an algorithm of its own needs "
            '`if __name__ == "__main__":` around what it does, or jobs=1'
        )
    return "a compiling process died, perhaps for want of memory: try --jobs 1"


@contextmanager
def _main_hidden() -> Iterator[None]:
    """New processes do not run the user's script again, which may have no guard against it."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextmanager
def _workers(jobs: int, modules: Sequence[str]) -> Iterator[ProcessPoolExecutor]:
    """Processes that end at once when the work is interrupted.

    They import ``modules``, which register algorithms. Their temporary files are in a folder of
    this process, since they may not come to remove them; what TVM and LLVM print there is logged.
    """
    with tempfile.TemporaryDirectory(prefix="leanconv-") as folder:
        others = set(multiprocessing.active_children())
        executor = ProcessPoolExecutor(
            jobs,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_prepare_worker,
            initargs=(folder, modules),
        )
        try:
            yield executor
        except BaseException:
            executor.shutdown(wait=False, cancel_futures=True)
            # Not terminate(): LLVM has a handler for that signal, which can wait for ever.
            for process in set(multiprocessing.active_children()) - others:
                process.kill()
                process.join()
            _log_output(folder)
            raise
        executor.shutdown()
        _log_output(folder)


def _prepare_worker(folder: str, modules: Sequence[str]) -> None:
    tempfile.tempdir = folder
    with Path(folder, f"{os.getpid()}{_OUTPUT}").open("wb") as output:
        os.dup2(output.fileno(), 2)
    for name in modules:
        importlib.import_module(name)


def _log_output(folder: str) -> None:
    """Tell what the processes wrote to standard error."""
    for path in sorted(Path(folder).glob(f"*{_OUTPUT}")):
        for line in path.read_text(errors="replace").splitlines():
            _LOG.info("a compiling process: %s", line)


def _compile_kernel(kernel: Kernel, simd: Simd) -> Kernel:
    try:
        result = compile_plans({kernel.name: kernel.plan}, simd)
    except Exception as error:  # of whatever kind TVM raises, which not every process could unpack
        plan = kernel.plan
        raise LeanconvError(
            f"{plan.algorithm} cannot be compiled for {plan.describe()}: {reason(error)}; "
            "please report it, and try another --algorithm"
        ) from None
    return _compiled(kernel, result)


def _compiled(kernel: Kernel, result: KernelObject) -> Kernel:
    return replace(kernel, compiled=result.kernels[kernel.name], data=result.data)
