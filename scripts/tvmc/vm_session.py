"""Run a compiled module in TVM's virtual machine: here, or on the other end of an RPC session.

Both are sessions of TVM with the same interface, so that both are one piece of code.
"""

from __future__ import annotations

import logging
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import tvm
from numpy.typing import NDArray
from tvm import relax, rpc

from schedules.errors import LeanconvError
from tvmc.jobs import Job, Outcome
from tvmc.profiler import profile
from tvmc.timing import sampled

MAIN = "main"
#: TVM reads it when a thread first needs helpers.
THREADS_VARIABLE = "TVM_NUM_THREADS"
#: Of TVM's thread pool: helpers on the big cores, if there are such.
BIG_CORES = 1


class _Here(rpc.LocalSession):  # type: ignore[misc]
    """This process, as a session that says less than TVM's."""

    def __init__(self) -> None:
        super().__init__()
        logging.getLogger("RPCServer").setLevel(logging.WARNING)

    def download(self, name: str) -> bytes:
        """The content of a file in the session's folder."""
        return Path(self.get_function("tvm.rpc.server.workpath")(name)).read_bytes()


def run_here(library: Path, profiler: Path | None, job: Job) -> Outcome:
    """Run, time and profile in this process; otherwise as :func:`run_job`."""
    before = os.environ.get(THREADS_VARIABLE)
    if job.threads:
        os.environ[THREADS_VARIABLE] = str(job.threads)
    try:
        # Each thread has its own pool of helpers, whose size is never raised again.
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(lambda: run_job(_Here(), library, profiler, job)).result()
    finally:
        if job.threads:
            del os.environ[THREADS_VARIABLE]
            if before is not None:
                os.environ[THREADS_VARIABLE] = before


def run_job(session: Any, library: Path, profiler: Path | None, job: Job) -> Outcome:
    """Run, time and profile.

    Parameters
    ----------
    session : tvm.rpc.RPCSession
        Where.
    library : Path
        The module.
    profiler : Path or None
        What :func:`tvmc.profiler.build_profiler` made, to profile as well.
    job : Job
        How; its values fit the module.

    Raises
    ------
    LeanconvError
        If there are not as many threads.
    Exception
        Of any type, with what TVM has to say.
    """
    if job.threads:
        _use_threads(session, job.threads)
    device = session.cpu(0)
    machine = relax.VirtualMachine(_loaded(session, library), device)

    def set_inputs() -> None:
        machine.set_input(MAIN, *[tvm.runtime.tensor(value, device) for value in job.values])

    def call_end_to_end() -> None:
        set_inputs()
        machine.invoke_stateful(MAIN)
        _outputs(machine)

    set_inputs()
    if job.end_to_end:
        times = sampled(call_end_to_end, job.repeat, job.number)
    else:
        evaluate = machine.time_evaluator("invoke_stateful", device, job.number, job.repeat)
        times = list(evaluate(MAIN).results)
    functions = []
    if profiler:
        instrument = _loaded(session, profiler)
        functions = profile(session, machine, instrument, MAIN, job.repeat * job.number)
    return Outcome(_outputs(machine), times, functions)


def _use_threads(session: Any, threads: int) -> None:
    session.get_function("runtime.config_threadpool")(BIG_CORES, threads)
    available = session.get_function("runtime.NumThreads")()
    if available != threads:
        raise LeanconvError(
            f"TVM has {available} threads there, not {threads}: a board's server takes more from "
            f"its variable {THREADS_VARIABLE}, up to the number of cores"
        )


def _loaded(session: Any, library: Path) -> Any:
    session.upload(str(library), library.name)
    return session.load_module(library.name)


def _outputs(machine: Any) -> list[NDArray[Any]]:
    found = machine.get_outputs(MAIN)
    return [tensor.numpy() for tensor in (found if isinstance(found, tuple) else (found,))]
