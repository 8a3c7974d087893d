"""What a run has computed, how long it took, and where the time went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tvmc.compiling.package import KernelInfo
from tvmc.jobs import Job, Outcome
from tvmc.running.memory import MemoryAccount
from tvmc.running.timing import SUMMARY, summary
from tvmc.tables import format_bytes, format_table


@dataclass(frozen=True)
class ProfileRow:
    """One function's part of a run of the model, on average; ``kernel`` if it is one of ours."""

    name: str
    calls: float
    seconds: float
    kernel: KernelInfo | None


@dataclass(frozen=True)
class RunResult:
    """What :func:`tvmc.run` returns.

    Parameters
    ----------
    model : str
        Name of the model's file.
    runtime : str
        What has run it, and where.
    outputs : mapping of str to array
        ``output_0``, ``output_1``, and so on.
    times : tuple of float
        Seconds of one call, a figure for each sample.
    profile : tuple of ProfileRow
        Those that take longest first; empty unless asked for.
    memory : MemoryAccount or None
        What a .tflite model holds, if asked for.
    """

    model: str
    runtime: str
    outputs: Mapping[str, NDArray[Any]]
    times: tuple[float, ...]
    profile: tuple[ProfileRow, ...]
    memory: MemoryAccount | None = None

    @classmethod
    def of(
        cls,
        model: str,
        runtime: str,
        job: Job,
        outcome: Outcome,
        kernels: Mapping[str, KernelInfo],
        memory: MemoryAccount | None = None,
    ) -> RunResult:
        """What came back, with ``kernels`` by the names of their functions."""
        runs = job.repeat * job.number
        profile = [
            ProfileRow(f.name, f.calls / runs, f.seconds / runs, kernels.get(f.name))
            for f in outcome.functions
        ]
        return cls(
            model=model,
            runtime=runtime,
            outputs={f"output_{i}": value for i, value in enumerate(outcome.outputs)},
            times=tuple(outcome.times),
            profile=tuple(sorted(profile, key=lambda row: -row.seconds)),
            memory=memory,
        )

    def top(self, count: int) -> dict[str, list[tuple[int, Any]]]:
        """Index and value of the ``count`` largest elements of each output, which is flattened."""
        found = {}
        for name, output in self.outputs.items():
            flat = output.ravel()
            # Backwards twice: of equal values, the first comes first.
            order = flat.size - 1 - np.argsort(flat[::-1], kind="stable")[::-1]
            found[name] = [(int(index), flat[index].item()) for index in order[:count]]
        return found

    def format_times(self) -> str:
        """The table of ``tvmc run --print-time``."""
        row = [f"{seconds * 1e3:.4f}" for seconds in summary(self.times).values()]
        table = format_table([f"{name} (ms)" for name in SUMMARY], [row])
        return f"Execution time summary:\n{table}"

    def format_top(self, count: int) -> str:
        """The table of ``tvmc run --print-top``."""
        rows = [
            [name, index, f"{value:.6g}"]
            for name, largest in self.top(count).items()
            for index, value in largest
        ]
        return format_table(("output", "index", "value"), rows)

    def format_profile(self) -> str:
        """The table of ``tvmc run --profile``, of one run on average."""
        kernels = [row for row in self.profile if row.kernel]
        total = sum(row.seconds for row in self.profile)
        sums = [_sum("leanconv's", kernels), _sum("all", self.profile)]
        rows = [_columns(row, total) for row in [*self.profile, *sums]]
        header = ("function", "calls", "ms", "share", "algorithm", "workspace", "layers")
        return format_table(header, rows)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; seconds and bytes."""
        return {
            "model": self.model,
            "runtime": self.runtime,
            "outputs": {
                name: {"shape": list(value.shape), "dtype": value.dtype.name}
                for name, value in self.outputs.items()
            },
            "times_s": list(self.times),
            "summary_s": summary(self.times),
            "profile": [asdict(row) for row in self.profile],
        } | ({"memory": asdict(self.memory)} if self.memory else {})


def _sum(name: str, rows: Sequence[ProfileRow]) -> ProfileRow:
    return ProfileRow(name, sum(r.calls for r in rows), sum(r.seconds for r in rows), None)


def _columns(row: ProfileRow, total: float) -> list[str]:
    share = f"{row.seconds / total:.1%}" if total else "-"
    columns = [row.name, f"{row.calls:g}", f"{row.seconds * 1e3:.4f}", share]
    if row.kernel is None:
        return [*columns, "-", "-", "-"]
    kernel = row.kernel
    return [*columns, kernel.algorithm, format_bytes(kernel.workspace_bytes), kernel.layers]
