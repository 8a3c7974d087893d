"""Run a .tflite model in LiteRT's interpreter, with a delegate or without."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tflite_delegate.read.names import unique_names
from tvmc.compiling.package import KernelInfo, TensorInfo
from tvmc.jobs import FunctionTime, Job, Outcome
from tvmc.running.interpreter import Session, runtime, tensor_info
from tvmc.running.memory import account, anonymous_bytes
from tvmc.running.run_result import RunResult
from tvmc.running.timing import sampled


def run_tflite(
    path: Path,
    delegate: Path | None,
    options: Mapping[str, str],
    threads: int,
    job_for: Callable[[Sequence[TensorInfo]], Job],
    memory: bool = False,
) -> RunResult:
    """Run, time and profile the job for the model's inputs.

    Parameters
    ----------
    delegate, options
        The library of an external delegate, and what it is handed; XNNPACK takes what it leaves.
    threads
        Of the interpreter.
    memory
        Whether to find out what is held.
    """
    litert = runtime("litert")
    before = anonymous_bytes()
    session = Session(path, litert, threads=threads, delegate=delegate, delegate_options=options)
    loaded = anonymous_bytes()
    infos = [tensor_info(details) for details in session.inputs()]
    names = unique_names([info.name for info in infos], "input")
    job = job_for([replace(info, name=name) for info, name in zip(infos, names, strict=True)])
    session.set_inputs(job.values)
    if memory:
        session.invoke()
    after = anonymous_bytes()
    call = (lambda: session.run(job.values)) if job.end_to_end else session.invoke
    times = sampled(call, job.repeat, job.number)
    functions = _profile(session, job) if job.profile else []
    report = session.report() or {"layers": []}
    kernels = {
        layer["name"]: KernelInfo(
            ", ".join(layer["layers"]),
            layer["algorithm"],
            layer["workspace_bytes"],
            layer["packed_bytes"],
        )
        for layer in report["layers"]
    }
    place = "LiteRT" if delegate is None else f"LiteRT with {delegate.name}"
    outcome = Outcome(session.outputs(), times, functions)
    held = account(session, (before, loaded, after)) if memory else None
    return RunResult.of(path.name, place, job, outcome, kernels, held)


def _profile(session: Session, job: Job) -> list[FunctionTime]:
    probe = session.probe()
    session.set_inputs(job.values)
    session.invoke()
    with probe.timing():
        for _ in range(job.repeat * job.number):
            session.invoke()
    found: dict[str, list[float]] = {}
    for node in probe.nodes:
        found.setdefault(node.name, []).extend(node.seconds)
    return [FunctionTime(name, len(times), sum(times)) for name, times in found.items()]
