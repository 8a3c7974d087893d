"""Compiled kernels, called bare: without a delegate, on one thread of this machine."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from schedules.kernel import packing
from schedules.lower.memory import ALIGNMENT
from schedules.plan.plan import Plan
from schedules.plan.stored_kernels import compile_plans
from schedules.target.simd import Simd
from schedules.target.toolchain import Toolchain

#: x, r, w, b, y and workspace; thread, first and last of a stage's range.
_ARGUMENTS = [ctypes.c_void_p] * 6 + [ctypes.c_int32] * 3


def aligned(values: np.ndarray) -> np.ndarray:
    """A copy that starts at a cache line."""
    memory = np.empty(values.nbytes + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    copy = memory[start : start + values.nbytes].view(values.dtype).reshape(values.shape)
    copy[...] = values
    return copy


@dataclass(frozen=True)
class BareKernel:
    """A kernel with its arguments (x, w, b, y), which live as long as it does."""

    stages: Sequence[tuple[Any, int]]
    arguments: tuple[np.ndarray, ...]
    workspace: np.ndarray

    def __call__(self) -> None:
        """Compute y."""
        x, w, b, y, memory = (v.ctypes.data for v in (*self.arguments, self.workspace))
        for function, extent in self.stages:
            function(x, None, w, b, y, memory, 0, 0, extent)


def bare_kernels(
    plans: Mapping[str, Plan], arguments: Mapping[str, tuple[np.ndarray, ...]], folder: Path
) -> dict[str, BareKernel]:
    """Kernels of plans, by name, which has to be an identifier of C.

    Parameters
    ----------
    arguments : mapping of name to (x, w, b, y)
        Packed; see :func:`aligned`.
    """
    compiled = compile_plans(plans, Simd.named("host"))
    (folder / "kernels.o").write_bytes(compiled.data)
    path = folder / "kernels.so"
    Toolchain.default("ld.lld").run(["-shared", "-o", path, folder / "kernels.o"])
    library = ctypes.CDLL(str(path))

    def bare(name: str) -> BareKernel:
        kernel = compiled.kernels[name]
        workspace = aligned(np.zeros(max(kernel.workspace_bytes, 1), np.uint8))
        stages = [(getattr(library, stage.symbol), stage.extent) for stage in kernel.stages]
        for function, _ in stages:
            function.argtypes, function.restype = _ARGUMENTS, ctypes.c_int32
        return BareKernel(stages, arguments[name], workspace)

    return {name: bare(name) for name in plans}


def compile_bare(
    plans: Mapping[str, Plan], weights: Mapping[str, np.ndarray], x: np.ndarray, folder: Path
) -> dict[str, BareKernel]:
    """Kernels of ``plans``, called bare with ``x``; biases are zero."""
    image = aligned(x)
    arguments = {
        name: (
            image,
            aligned(packing.pack(weights[name], plan.packed)),
            aligned(np.zeros(plan.packed.bias_elements, np.float32)),
            aligned(np.empty(plan.layer.output_shape, np.float32)),
        )
        for name, plan in plans.items()
    }
    return bare_kernels(plans, arguments, folder)
