"""What stands behind ``tvmc run``, for programs."""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from schedules.errors import LeanconvError
from schedules.target.simd import MAX_THREADS, Simd

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from tvmc.compiling.package import Package, TensorInfo
    from tvmc.jobs import Job
    from tvmc.running.run_result import RunResult
    from tvmc.running.vm_process import Boards

# Modules that import TVM or numpy are imported when something is run.

#: What inputs without a value hold; see :mod:`tvmc.running.tensors`.
FILL_MODES = ("random", "zeros", "ones")

_LOG = logging.getLogger(__name__)
#: The second four bytes of every .tflite file.
_TFLITE_MAGIC = b"TFL3"


def run(
    model: str | Path,
    *,
    inputs: Mapping[str, ArrayLike] | None = None,
    fill_mode: str = "random",
    seed: int = 0,
    repeat: int = 1,
    number: int = 1,
    end_to_end: bool = False,
    profile: bool = False,
    memory: bool = False,
    num_threads: int | None = None,
    rpc_tracker: tuple[str, int] | None = None,
    rpc_key: str | None = None,
    rpc_timeout: float = 600.0,
    delegate: str | Path | None = None,
    delegate_options: Mapping[str, str] | None = None,
) -> RunResult:
    """Run a compiled module, or a .tflite model with or without a delegate.

    Parameters
    ----------
    model : path
        A module of ``tvmc compile -f so`` or ``-f tar``, for TVM's virtual machine; or a .tflite
        file, for LiteRT.
    inputs : mapping of str to array, optional
        Values by the names of the model's inputs.
    fill_mode : {"random", "zeros", "ones"}
        What the inputs without a value hold.
    seed : int
        Of random values.
    repeat, number : int
        How many samples of the time to take, and the calls that a sample is the mean of. They come
        after a first call that does not count.
    end_to_end : bool
        Whether the time of a call includes the way of inputs and outputs, from and to Python.
    profile : bool
        Whether to find out as well where the time goes.
    memory : bool
        Whether to find out what a .tflite model holds in memory.
    num_threads : int, optional
        Threads that compute; by default as many as TVM takes, and one in LiteRT.
    rpc_tracker : tuple of str and int, optional
        Run a module on a board behind this tracker, and not here.
    rpc_key : str, optional
        What boards of that kind are called there.
    rpc_timeout : float
        Seconds that the board is waited for, and again its answer.
    delegate : path, optional
        The library of an external delegate for a .tflite model.
    delegate_options : mapping of str to str, optional
        Handed to the delegate.

    Raises
    ------
    LeanconvError
        If the model or an input is wrong, the model cannot be run, or a board does not answer.
    """
    path = Path(model)
    if bool(rpc_tracker) != bool(rpc_key):
        raise LeanconvError("a tracker needs the key of its boards, and a key a tracker")
    if min(repeat, number, num_threads or 1) < 1:
        raise LeanconvError("samples, calls and threads are at least 1")
    if (num_threads or 1) > MAX_THREADS:
        raise LeanconvError(f"{num_threads} threads are more than the {MAX_THREADS} possible")
    if delegate_options and delegate is None:
        raise LeanconvError("there are options for a delegate, but there is no delegate")

    from tvmc.compiling.package import load
    from tvmc.jobs import Job
    from tvmc.running.tensors import input_values
    from tvmc.running.vm_process import Boards

    def job(expected: Sequence[TensorInfo]) -> Job:
        for info in expected:
            source = "given" if inputs and info.name in inputs else fill_mode
            _LOG.info("input %s: %s, %s", info.name, info, source)
        values = input_values(expected, inputs or {}, fill_mode, seed)
        return Job(values, repeat, number, end_to_end, num_threads, profile)

    if is_tflite(path):
        if rpc_tracker:
            raise LeanconvError(f"boards run compiled modules: tvmc compile {path} -f so")
        library = None if delegate is None else Path(delegate)
        from tvmc.running.tflite_run import run_tflite

        return run_tflite(path, library, delegate_options or {}, num_threads or 1, job, memory)
    if memory:
        raise LeanconvError(f"memory is told of .tflite models, and {path} is none")
    if delegate is not None:
        raise LeanconvError(f"a delegate is for .tflite models, and {path} is none")
    boards = Boards(rpc_tracker, rpc_key, rpc_timeout) if rpc_tracker and rpc_key else None
    with load(path) as package:
        known = package.metadata
        _LOG.info("%s for %s, by leanconv %s", known.model, known.target, known.leanconv)
        _LOG.debug("TVM %s, target %s", known.tvm, known.tvm_target)
        return _run_module(package, boards, job(known.inputs))


def is_tflite(path: Path) -> bool:
    """Whether a file is a .tflite model, by its content, or by its name if it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(8)[4:] == _TFLITE_MAGIC
    except OSError:
        return path.suffix == ".tflite"


def _run_module(package: Package, boards: Boards | None, job: Job) -> RunResult:
    from tvmc.running.run_result import RunResult
    from tvmc.running.vm_process import Request, run_in_process

    if not boards:
        package.check_runs_here()
    known = package.metadata
    with _profiler(package, job) as profiler:
        request = Request(package.library, profiler, job, known.target, boards)
        place, outcome = run_in_process(request)
    return RunResult.of(known.model, f"TVM on {place}", job, outcome, known.kernels)


@contextlib.contextmanager
def _profiler(package: Package, job: Job) -> Iterator[Path | None]:
    """The library that profiles the package's module, if the job is to be profiled."""
    from tvmc.running.profiler import build_profiler

    if not job.profile:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="leanconv-") as folder:
        yield build_profiler(Path(folder), Simd.from_target(package.metadata.tvm_target))
