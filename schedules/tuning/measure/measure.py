"""Build candidates, run them on a board, and tell what became of each."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schedules.algorithms import Unsupported
from schedules.errors import LeanconvError
from schedules.kernel.packing import PackedWeights
from schedules.layer.block import Workload
from schedules.plan.builder import Builder
from schedules.plan.choice import Choice
from schedules.plan.plan import Plan
from schedules.target.simd import Simd
from schedules.target.toolchain import Toolchain
from schedules.tuning.boards.base import Runner
from schedules.tuning.measure.problem import Problem
from schedules.tuning.measure.program import Compiled, ProgramWriter, Tensors
from schedules.tuning.measure.settings import Settings
from schedules.tuning.records.record import ERROR_CHARACTERS
from schedules.tuning.records.records import MEASURED

#: Kernels that take turns in one program: more are measured closer in time, and lost together.
BATCH_KERNELS = 16
#: Their packed weights, which a board has to hold at the same time.
BATCH_BYTES = 2**28
#: Tensors of workloads that were measured before stay on disk, for batches to come.
TENSOR_BYTES = 2**30
#: What Linux calls the features of :class:`Simd`, where it has names of its own.
LINUX_FEATURES = {
    "neon": "asimd",
    "dotprod": "asimddp",
    "fullfp16": "asimdhp",
    "avx512vnni": "avx512_vnni",
    "avxvnni": "avx_vnni",
}
#: Address space of one compiling process, of which TVM's libraries take one GB.
BUILD_BYTES = 6 * 2**30


@dataclass(frozen=True)
class Measurement:
    """What became of a candidate: samples in seconds a call, or why there are none."""

    candidate: Choice
    samples_s: tuple[float, ...]
    error: str | None
    cost_kind: str = MEASURED


class Measurer:
    """Measures candidates on the boards of a runner; a context manager.

    Parameters
    ----------
    simd : Simd
        What to compile for.
    runner : Runner
        Where to measure; closed by whoever made it.
    settings : Settings
        How, if a call does not say otherwise.
    jobs : int, optional
        Kernels that are compiled at the same time; by default as many as there are cores.
    toolchain : Toolchain, optional
        What links programs; by default zig.
    """

    def __init__(
        self,
        simd: Simd,
        runner: Runner,
        settings: Settings,
        jobs: int | None = None,
        toolchain: Toolchain | None = None,
    ) -> None:
        self.simd = simd
        self.runner = runner
        self.settings = settings
        self._folder = tempfile.TemporaryDirectory(prefix="leanconv-tune-")
        self._root = Path(self._folder.name)
        try:
            self._writer = ProgramWriter(self._root, simd, toolchain or Toolchain.default())
        except BaseException:
            self._folder.cleanup()
            raise
        cores = len(os.sched_getaffinity(0))
        self._builder = Builder(simd, jobs or cores, settings.build_timeout_s, BUILD_BYTES)
        self._tensors: dict[Workload, Tensors] = {}

    def __enter__(self) -> Measurer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all processes and remove all files."""
        self._builder.close()
        self._folder.cleanup()

    def probe(self) -> dict[str, Any]:
        """What the board says of itself: cpu, arch, features, cores, os, memory_bytes.

        Raises
        ------
        LeanconvError
            If it cannot be reached, or is no board for this target.
        """
        lines = self._run(None, [], self.settings)
        board: dict[str, Any] | None = next(
            (line["board"] for line in lines if "board" in line), None
        )
        if board is None:
            raise LeanconvError(
                f"{self.runner.name}: the program for {self.simd.name} does not run on the board"
            )
        problem = _misfit(board, self.simd)
        if problem is not None:
            raise LeanconvError(f"{self.runner.name}: the board {problem}; name its own target")
        return board

    def measure(
        self,
        workload: Workload,
        candidates: Sequence[Choice],
        settings: Settings | None = None,
    ) -> list[Measurement]:
        """What becomes of each candidate, in order.

        Raises
        ------
        BoardLost, LeanconvError
            If the runner cannot go on; whatever is wrong with a candidate is in its outcome.
        """
        settings = settings or self.settings
        names = [f"kernel{index}" for index in range(len(candidates))]
        results: dict[str, Mapping[str, Any]] = {}
        plans: dict[str, Plan] = {}
        built: dict[str, Compiled] = {}
        for name, candidate in zip(names, candidates, strict=True):
            try:
                plans[name] = Plan.of(candidate, workload, self.simd)
            except Unsupported as error:
                results[name] = {"error": str(error)}
        for name, result in self._builder.build(plans):
            if isinstance(result, LeanconvError):
                results[name] = {"error": str(result)}
            else:
                built[name] = Compiled(plans[name], result.kernels[name], result.data)
        if built:
            results |= self._measure_built(workload, built, settings)
        return [_measurement(c, results[name]) for name, c in zip(names, candidates, strict=True)]

    def _measure_built(
        self, workload: Workload, built: Mapping[str, Compiled], settings: Settings
    ) -> dict[str, Mapping[str, Any]]:
        """Results by name, from as many boards as there are."""
        tensors = self._tensors_of(workload)
        boards = max(1, self.runner.boards())
        batches = _batches(built, boards)

        def run(names: Sequence[str]) -> dict[str, Mapping[str, Any]]:
            lines = self._run(tensors, [built[name] for name in names], settings)
            return _results(lines, names)

        if boards == 1 or len(batches) == 1:  # so that an interrupt arrives where the program runs
            done = list(map(run, batches))
        else:
            executor = ThreadPoolExecutor(min(boards, len(batches)))
            try:
                done = list(executor.map(run, batches))
            except KeyboardInterrupt:
                executor.shutdown(wait=False, cancel_futures=True)
                raise
            finally:  # if a board is lost, what runs on the others comes to its end
                executor.shutdown(cancel_futures=True)
        return {name: result for results in done for name, result in results.items()}

    def _tensors_of(self, workload: Workload) -> Tensors:
        """Files of the workload; of others, those not used for longest make room."""
        tensors = self._tensors.pop(workload, None)
        while self._tensors and sum(t.size for t in self._tensors.values()) > TENSOR_BYTES:
            self._tensors.pop(next(iter(self._tensors))).remove()
        if tensors is None:
            tensors = Tensors(self._root, Problem.of(workload), self.simd)
        elif tensors.size > TENSOR_BYTES:
            tensors.remove_weights()
        self._tensors[workload] = tensors
        return tensors

    def _run(
        self, tensors: Tensors | None, kernels: Sequence[Compiled], settings: Settings
    ) -> Sequence[dict[str, Any]]:
        batch = self._writer.write(tensors, kernels, settings)
        try:
            return self.runner.run(batch)
        finally:
            shutil.rmtree(batch.folder)


def _batches(built: Mapping[str, Compiled], boards: int) -> list[list[str]]:
    """Shares of the kernels, by name: those with the same weights side by side."""
    most = min(BATCH_KERNELS, -(-len(built) // boards))
    layouts = list(dict.fromkeys(compiled.plan.parts for compiled in built.values()))
    batches: list[list[str]] = []
    held: dict[tuple[PackedWeights, ...], int] = {}
    for name in sorted(built, key=lambda name: layouts.index(built[name].plan.parts)):
        plan = built[name].plan
        own = sum(part.bytes for part in plan.parts)
        is_heavy = plan.parts not in held and sum(held.values()) + own > BATCH_BYTES
        if not batches or len(batches[-1]) == most or is_heavy:
            batches.append([])
            held.clear()
        held[plan.parts] = own
        batches[-1].append(name)
    return batches


def _results(
    lines: Sequence[Mapping[str, Any]], names: Sequence[str]
) -> dict[str, Mapping[str, Any]]:
    """A program's line for each kernel, or why there is none."""
    missing = "the program ended before it was measured"
    results: dict[str, Mapping[str, Any]] = {}
    for line in lines:
        if "kernel" in line:
            results[names[line["kernel"]]] = line
        elif "error" in line:
            missing = str(line["error"])
    return {name: results.get(name, {"error": missing}) for name in names}


def _measurement(candidate: Choice, result: Mapping[str, Any]) -> Measurement:
    error = result.get("error")
    if error is not None:
        error = " ".join(str(error).split())[:ERROR_CHARACTERS]
    kind = str(result.get("cost_kind", MEASURED))
    return Measurement(candidate, tuple(result.get("samples_s", ())), error, kind)


def _misfit(board: Mapping[str, Any], simd: Simd) -> str | None:
    """``None``, or why kernels for ``simd`` do not run on the board."""
    if board["arch"] != simd.arch:
        return f"is {board['arch']}, and {simd.name} is {simd.arch}"
    features = {LINUX_FEATURES.get(name, name) for name in simd.features}
    missing = sorted(features - set(board["features"]))
    return f"({board['cpu']}) lacks {missing[0]}, which {simd.name} has" if missing else None
