"""Write a batch: a program that measures compiled kernels, and the tensors that it reads.

The program is ``csrc/``, a generated table and the kernels, in one executable. Tensors are files
beside it, mapped when it runs. They are written once and linked into every batch of the same
workload; a name stands for one content, whatever the batch.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np

from schedules.kernel.packing import PackedWeights
from schedules.lower.kernel import CKernel
from schedules.lower.memory import align
from schedules.plan.plan import Plan
from schedules.target.simd import Simd
from schedules.target.toolchain import Toolchain
from schedules.tuning.boards.base import PROGRAM, Batch
from schedules.tuning.measure.problem import Problem
from schedules.tuning.measure.settings import Settings

#: What of ``csrc/`` the program is made of.
SOURCES = ("board.c", "call.c", "inputs.c", "measure.c")
HEADERS = ("batch.h", "measure.h")
TABLE = "table.c"
#: For a board to get the files, and to start.
START_SECONDS = 60.0


@dataclass(frozen=True)
class Compiled:
    """A plan, its kernel, whose symbols no other kernel of a batch has, and the object with it."""

    plan: Plan
    kernel: CKernel
    data: bytes


@dataclass(frozen=True)
class TensorFile:
    """A tensor in a file: where in it the second part begins, if it has two."""

    path: Path
    size: int
    second: int = 0


class Tensors:
    """Files with the tensors of one problem, in a new folder below ``parent``, for a target."""

    def __init__(self, parent: Path, problem: Problem, simd: Simd) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="tensors-", dir=parent))
        self.problem, self.simd = problem, simd
        self.digest = hashlib.sha256(problem.workload.to_text().encode()).hexdigest()[:12]
        self._lock = threading.Lock()
        self._weights: dict[tuple[PackedWeights, ...], TensorFile] = {}
        self.x = self._write("x", [problem.x])
        self.expected = self._write("y", [problem.expected])
        self.residual: TensorFile | None = None
        if problem.residual is not None:
            own_input = problem.residual is problem.x
            self.residual = self.x if own_input else self._write("r", [problem.residual])

    def weights(self, parts: tuple[PackedWeights, ...]) -> TensorFile:
        """Packed weights of all layers, each at a cache line; behind them, likewise, biases."""
        with self._lock:  # batches for several boards are written at the same time
            if parts not in self._weights:
                arrays = self.problem.packed(parts, self.simd)
                constants = self.problem.constants(parts, self.simd)
                digest = hashlib.sha256(repr(parts).encode()).hexdigest()[:12]
                self._weights[parts] = self._write(f"w{digest}", arrays, constants)
            return self._weights[parts]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in [self.x, self.expected, *self._weights.values()])

    def remove_weights(self) -> None:
        """Remove what can be written again."""
        for file in self._weights.values():
            file.path.unlink()
        self._weights.clear()

    def remove(self) -> None:
        """Remove the files; batches that have links to them keep them."""
        shutil.rmtree(self.folder)

    def _write(
        self, name: str, first: Iterable[np.ndarray], second: Iterable[np.ndarray] = ()
    ) -> TensorFile:
        path = self.folder / f"{self.digest}-{name}.bin"
        with path.open("wb") as file:
            ends = []
            for arrays in (first, second):
                for array in arrays:
                    file.seek(align(file.tell()))
                    file.write(np.ascontiguousarray(array).data)
                ends.append(align(file.tell()))
            size = file.tell()
        return TensorFile(path, size, ends[0])


class ProgramWriter:
    """Writes batches for one target into folders below ``folder``."""

    def __init__(self, folder: Path, simd: Simd, toolchain: Toolchain) -> None:
        self.folder = folder
        self.simd = simd
        self.toolchain = toolchain
        self.sources = folder / "sources"
        self.sources.mkdir()
        shipped = resources.files("schedules.tuning").joinpath("csrc")
        for name in (*SOURCES, *HEADERS):
            (self.sources / name).write_bytes(shipped.joinpath(name).read_bytes())
        objects = toolchain.compile_objects(self.sources, SOURCES, simd)
        self.objects = [str(self.sources / name) for name in objects]

    def write(
        self, tensors: Tensors | None, kernels: Sequence[Compiled], settings: Settings
    ) -> Batch:
        """A batch in a new folder, which is the caller's to remove.

        Without ``tensors`` it has no kernels, and only tells what board it runs on.
        """
        folder = Path(tempfile.mkdtemp(prefix="batch-", dir=self.folder))
        budget_s = 2 * len(kernels) * settings.timeout_s
        files: dict[str, TensorFile] = {}
        if tensors is not None:
            used = [tensors.x, tensors.residual, tensors.expected]
            used += [tensors.weights(compiled.plan.parts) for compiled in kernels]
            files = {file.path.name: file for file in used if file is not None}
            for name, file in files.items():
                os.link(file.path, folder / name)
        with tempfile.TemporaryDirectory(dir=self.folder) as name:
            build = Path(name)
            for header in HEADERS:
                os.link(self.sources / header, build / header)
            (build / TABLE).write_text(_table(tensors, kernels, settings, self.simd, budget_s))
            objects = self.toolchain.compile_objects(build, [TABLE], self.simd)
            for compiled in kernels:
                objects.append(f"{compiled.kernel.name}.o")
                (build / objects[-1]).write_bytes(compiled.data)
            program = folder / PROGRAM
            self.toolchain.link_program(build, [*self.objects, *objects], program, self.simd)
        return Batch(folder, START_SECONDS + budget_s + settings.timeout_s)


def _table(
    tensors: Tensors | None,
    kernels: Sequence[Compiled],
    settings: Settings,
    simd: Simd,
    budget_s: float,
) -> str:
    """The C source that tells the program what there is (see csrc/batch.h)."""
    lines = ["// Generated by leanconv.", "", '#include "batch.h"', ""]
    fields: dict[str, object] = {
        "l2_bytes": simd.l2_bytes,
        "weights_bytes": settings.weights_bytes,
        "number": settings.number,
        "repeat": settings.repeat,
        "min_repeat_s": settings.min_repeat_ms / 1e3,
        "timeout_s": float(settings.timeout_s),
        "budget_s": float(budget_s),
    }
    if tensors is not None and kernels:
        problem = tensors.problem
        parts = list(dict.fromkeys(compiled.plan.parts for compiled in kernels))
        for compiled in kernels:
            lines += _stages(compiled.kernel)
        weights = [f"    {{{_file(file)}, {file.second}}}," for file in map(tensors.weights, parts)]
        lines += ["", "static const struct weights_file weights[] = {", *weights, "};"]
        lines += ["", "static const struct kernel kernels[] = {"]
        for compiled in kernels:
            kernel = compiled.kernel
            lines.append(
                f"    {{{kernel.name}_stages, {len(kernel.stages)}, "
                f"{parts.index(compiled.plan.parts)}, "
                f"{kernel.shared_bytes + kernel.thread_bytes}, "
                f"{problem.tolerance(compiled.plan)!r}}},"
            )
        lines.append("};")
        element = problem.x.itemsize
        fields |= {
            "is_exact": int(problem.is_exact),
            "is_half": int(problem.expected.dtype == np.float16),
            "x": _file(tensors.x),
            "r": _file(tensors.residual),
            "expected": _file(tensors.expected),
            "x_offset": problem.x_channel * element,
            "y_offset": problem.y_channel * element,
            "weights": "weights",
            "weights_count": len(weights),
            "kernels": "kernels",
            "kernel_count": len(kernels),
        }
    lines += ["", "const struct batch batch = {"]
    lines += [f"    .{name} = {value}," for name, value in fields.items()]
    return "\n".join([*lines, "};"]) + "\n"


def _stages(kernel: CKernel) -> list[str]:
    entries = ", ".join(f"{{{stage.symbol}, {stage.extent}}}" for stage in kernel.stages)
    return [
        *(f"stage_function {stage.symbol};" for stage in kernel.stages),
        f"static const struct stage {kernel.name}_stages[] = {{{entries}}};",
    ]


def _file(file: TensorFile | None) -> str:
    return "{0, 0}" if file is None else f'{{"{file.path.name}", {file.size}}}'
