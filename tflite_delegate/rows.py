"""What the table of kernels says of chains that are computed row by row (struct lc_walk)."""

from __future__ import annotations

from itertools import accumulate

from schedules.algorithms.row_chain.bands import strips_of, windows_of
from schedules.algorithms.row_chain.row_chain import kernel_names
from schedules.kernel.packing import PackedWeights
from schedules.layer.row_chain import RowChain
from schedules.lower.memory import ALIGNMENT, align
from schedules.select.selection import Kernel


def rows_of(kernel: Kernel) -> list[str]:
    """The C definitions for a kernel; none for one of another algorithm."""
    chain, knobs = kernel.plan.workload, kernel.plan.knobs
    if not isinstance(chain, RowChain):
        return []
    assert kernel.compiled is not None, "the table lists compiled kernels"
    stages = {member.name: len(member.stages) for member in kernel.compiled.members}
    strips = strips_of(chain, knobs["columns"])
    entries = []
    for bands, ends in zip(strips, kernel_names(chain, knobs), strict=True):
        for band, end in zip(bands, ends, strict=True):
            name = kernel.name + end
            columns = (band.in_begin, band.in_end, band.out_begin, band.out_end)
            entries.append(f"{{{name}_stages, {stages[name]}, {', '.join(map(str, columns))}}}")
    windows, kernels = f"{kernel.name}_windows", f"{kernel.name}_row_kernels"
    _, halo = windows_of(chain, knobs["columns"])
    return [
        f"static const struct lc_row_window {windows}[] = {{{', '.join(_windows(kernel))}}};",
        f"static const struct lc_row_kernel {kernels}[] = {{{', '.join(entries)}}};",
        f"static const struct lc_walk {kernel.name}_walk = "
        f"{{{windows}, {kernels}, {len(strips)}, {halo}}};",
    ]


def _windows(kernel: Kernel) -> list[str]:
    chain, parts = kernel.plan.workload, kernel.plan.parts
    assert isinstance(chain, RowChain), "other kernels have no windows"
    windows, _ = windows_of(chain, kernel.plan.knobs["columns"])
    # Each on a cache line of its own behind the one before.
    weights = accumulate((align(part.weight_bytes) for part in parts[:-1]), initial=0)
    biases = accumulate((align(part.constant_bytes) for part in parts[:-1]), initial=0)
    rows = zip(windows, chain.sources, weights, biases, parts, strict=True)
    return [
        f"{{{window.rows}, {-1 if source is None else source}, {window.offset}, {weight}, {bias}, "
        f"{zero_place(part, bias)}}}"
        for window, source, weight, bias, part in rows
    ]


def zero_place(part: PackedWeights, bias: int = 0) -> int:
    """Where the zero point of a layer's input is behind the first bias; 0 of floats.

    A layer of integers has it first of its parameters, which are on the last cache line.
    """
    return bias + part.constant_bytes - ALIGNMENT if part.ratios else 0
