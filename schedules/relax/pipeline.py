"""What comes behind our kernels when a Relax module is compiled whole."""

from __future__ import annotations

from collections.abc import Sequence

import tvm
from tvm import relax
from tvm.relax.backend.cpu_generic.pipeline import (
    dataflow_lower_passes,
    finalize_passes,
    library_dispatch_passes,
)

from schedules.relax.cpu import legalize_for_cpu, schedule_for_cpu
from schedules.target.simd import Simd


def lower_to_loops(simd: Simd, functions: Sequence[str] = ("main",)) -> tvm.transform.Pass:
    """Passes that make a loop nest of everything that is no kernel, fused where that serves.

    They come behind :func:`schedules.relax.transform.schedule_convolutions`; ``functions`` are
    those that callers can see.
    """
    target = tvm.target.Target(simd.target)
    return tvm.transform.Sequential(
        [
            *library_dispatch_passes(target),
            legalize_for_cpu(),
            relax.transform.AnnotateTIROpPattern(),
            relax.transform.FoldConstant(),
            relax.transform.FuseOps(),
            relax.transform.FuseTIR(),
            relax.transform.DeadCodeElimination(list(functions)),
            schedule_for_cpu(simd.cores),
        ]
    )


def lower_to_calls(simd: Simd) -> tvm.transform.Pass:
    """Passes that plan memory and make calls of the virtual machine of what is left."""
    target = tvm.target.Target(simd.target)
    return tvm.transform.Sequential([*dataflow_lower_passes(target), *finalize_passes(target)])
