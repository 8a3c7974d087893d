"""Run a compiled module in TVM's virtual machine: here, or on the other end of an RPC session.

Both are sessions of TVM with the same interface, so that both are one piece of code.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tvm
from numpy.typing import NDArray
from tvm import relax

from schedules.errors import LeanconvError
from tvmc.jobs import Job, Outcome
from tvmc.running.profiler import profile
from tvmc.running.timing import sampled

MAIN = "main"
#: Of TVM's thread pool: helpers on the big cores, if there are such.
BIG_CORES = 1
#: How the machine allocates a tensor.
_ALLOCATE = "vm.builtin.alloc_tensor"


def run_job(session: Any, library: Path, profiler: Path | None, job: Job) -> Outcome:
    """Run, time and profile.

    Parameters
    ----------
    session : tvm.rpc.RPCSession
        Where.
    library : Path
        The module.
    profiler : Path or None
        What :func:`tvmc.running.profiler.build_profiler` made, to profile as well.
    job : Job
        How; its values fit the module.

    Raises
    ------
    LeanconvError
        If the board has not as many threads.
    Exception
        Of any type, with what TVM has to say.
    """
    if job.keep_results:
        return _kept_results(library, job)
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
        functions = profile(device, machine, instrument, MAIN, job.repeat * job.number)
    return Outcome(_outputs(machine), times, functions)


def _kept_results(library: Path, job: Job) -> Outcome:
    """Run once in this process; what functions write to is what the machine has just allocated."""
    device, results = tvm.cpu(), list[tuple[str, NDArray[Any]]]()
    machine = relax.VirtualMachine(tvm.runtime.load_module(str(library)), device)
    fresh: dict[int, Any] = {}

    def look(_function: Any, name: str, before: bool, result: Any, *arguments: Any) -> None:
        if before or name.startswith("vm.builtin."):
            if not before and name == _ALLOCATE:
                fresh[_address(result)] = result
            return
        for tensor in arguments:
            if isinstance(tensor, tvm.runtime.Tensor) and fresh.pop(_address(tensor), None):
                results.append((name, tensor.numpy()))
        if isinstance(result, tvm.runtime.Tensor):
            results.append((name, result.numpy()))

    machine.set_instrument(look)
    machine.set_input(MAIN, *[tvm.runtime.tensor(value, device) for value in job.values])
    machine.invoke_stateful(MAIN)
    return Outcome(_outputs(machine), [], [], results)


def _address(tensor: Any) -> int:
    """Of the object, and not of what is in it, which may be shared."""
    return int(tensor.__chandle__())


def _use_threads(session: Any, threads: int) -> None:
    session.get_function("runtime.config_threadpool")(BIG_CORES, threads)
    available = session.get_function("runtime.NumThreads")()
    if available != threads:
        raise LeanconvError(
            f"TVM has {available} threads on the board, not {threads}: start its server with "
            f"TVM_NUM_THREADS={threads}"
        )


def _loaded(session: Any, library: Path) -> Any:
    session.upload(str(library), library.name)
    return session.load_module(library.name)


def _outputs(machine: Any) -> list[NDArray[Any]]:
    found = machine.get_outputs(MAIN)
    return [tensor.numpy() for tensor in (found if isinstance(found, tuple) else (found,))]
