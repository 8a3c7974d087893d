"""Run a .tflite model in LiteRT's interpreter, with a delegate or without."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from tflite_delegate.read.names import unique_names
from tvmc.compiling.package import KernelInfo, TensorInfo
from tvmc.jobs import FunctionTime, Job, Outcome
from tvmc.running.interpreter import Session, runtime, tensor_info
from tvmc.running.timing import sampled


class TfliteSession:
    """A model with its tensors allocated; raises LeanconvError if that fails.

    Parameters
    ----------
    graph : Path
        The .tflite file.
    delegate : Path, optional
        The library of an external delegate; XNNPACK takes what it leaves.
    delegate_options : mapping of str to str
        Handed to it.
    threads : int
        Of the interpreter.
    """

    def __init__(
        self,
        graph: Path,
        delegate: Path | None,
        delegate_options: Mapping[str, str],
        threads: int,
    ) -> None:
        self._session = Session(
            graph,
            runtime("litert"),
            threads=threads,
            delegate=delegate,
            delegate_options=delegate_options,
        )

    def inputs(self) -> list[TensorInfo]:
        """What the model takes."""
        infos = [tensor_info(details) for details in self._session.inputs()]
        names = unique_names([info.name for info in infos], "input")
        return [replace(info, name=name) for info, name in zip(infos, names, strict=True)]

    def kernels(self) -> dict[str, KernelInfo]:
        """Kernels of a leanconv delegate, by the names of their nodes."""
        report = self._session.report() or {"layers": []}
        return {
            layer["name"]: KernelInfo(
                ", ".join(layer["layers"]),
                layer["algorithm"],
                layer["workspace_bytes"],
                layer["packed_bytes"],
            )
            for layer in report["layers"]
        }

    def run(self, job: Job) -> Outcome:
        """Run, time and profile."""
        session = self._session

        def call_end_to_end() -> None:
            session.run(job.values)

        session.set_inputs(job.values)
        call = call_end_to_end if job.end_to_end else session.invoke
        times = sampled(call, job.repeat, job.number)
        functions = self._profile(job) if job.profile else []
        return Outcome(session.outputs(), times, functions)

    def _profile(self, job: Job) -> list[FunctionTime]:
        probe = self._session.probe()
        self._session.set_inputs(job.values)
        self._session.invoke()
        with probe.timing():
            for _ in range(job.repeat * job.number):
                self._session.invoke()
        found: dict[str, list[float]] = {}
        for node in probe.nodes:
            found.setdefault(node.name, []).extend(node.seconds)
        return [FunctionTime(name, len(times), sum(times)) for name, times in found.items()]
