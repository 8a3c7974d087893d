"""``row_chain``: a chain of any length, row by row, with nothing between its layers stored whole.

Depth-first execution (Alwani, Chen, Ferdman and Milder, "Fused-Layer CNN Accelerators", MICRO 2016)
of more layers than one loop nest holds: each layer keeps the rows of its input that it reads for
one row of its output (the line buffers of StreamNet, Zheng et al., NeurIPS 2023), and asks the
layer before for the next. Every layer has a kernel of its own for one row, made by the algorithm
that would compute it alone; a loop in C walks the rows (csrc/run/rows). Residuals may be inside:
what is added is in the rows that are kept.

Knob ``columns``: the output is computed in strips of so many columns, each from top to bottom. What
is kept is narrower then, and columns between two strips are computed for both (the patches of
msf-CNN, Huang et al., arXiv 2505.11483). ``panels``: output channels of a panel of each layer's
weights, which all strips read; 0 of depthwise layers. ``in_place``: the output lies where the input
was, as a residual block's may (TFLite's planner lets it if nobody else reads that): row after row
is written over what was read already.

Workspace: for each layer the rows that it keeps, a set for every thread. Threads share the rows of
the output; what the first row of each reads above is computed for both. In place, what two of them
read on both sides of a boundary between their rows is copied before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from tvm import s_tir

from schedules.algorithms.base import INPUT, Algorithm, LayerAlgorithm
from schedules.algorithms.depthwise import Depthwise
from schedules.algorithms.indirect import Indirect
from schedules.algorithms.row_chain.bands import columns_of, halo_bytes, strips_of, windows_of
from schedules.kernel import packing
from schedules.kernel.costs import Work, moves, reads
from schedules.kernel.depthwise_tiles import SINGLE
from schedules.kernel.knobs import NO_KNOBS, Knob, Knobs, by_name, never
from schedules.kernel.packing import PackedWeights
from schedules.layer.row_chain import TYPES, RowChain
from schedules.layer.workload import Conv2dWorkload
from schedules.target.simd import Simd

#: Values of ``in_place``.
NO, YES = "no", "yes"
#: Cycles in which a kernel for one row is called and begins.
CALL_CYCLES = 150


class RowChainAlgorithm(Algorithm[RowChain]):
    """Depth-first execution, a row at a time."""

    name = "row_chain"
    source = "Alwani et al., MICRO 2016; StreamNet, NeurIPS 2023; msf-CNN, arXiv 2505.11483"
    workspace = "for each layer the rows that it reads at once"
    good_for = "few bytes: many layers, of which nothing between is stored"
    types = TYPES
    kind = "rows"

    def supports(self, workload: RowChain, simd: Simd) -> str | None:
        for band in strips_of(workload, workload.layers[-1].out_width)[0]:
            reason = _algorithm(band.row).supports(band.row, simd)
            if reason is not None:
                return f"{band.layer.describe()}: {reason}"
        return None

    def knobs(self, workload: RowChain, simd: Simd) -> Mapping[str, Knob]:
        return self._knobs(workload, simd, workload.layers[-1].out_width)

    def _knobs(self, workload: RowChain, simd: Simd, columns: int) -> Mapping[str, Knob]:
        width = workload.layers[-1].out_width
        bands = strips_of(workload, columns)[0]
        panels = ".".join(str(_row_knobs(band.row, simd).get("panel", 0)) for band in bands)
        return by_name(
            Knob("columns", tuple(range(1, width + 1)), width, tried=never),
            Knob("panels", (panels,), panels, tried=never),
            Knob("in_place", (NO, YES) if workload.fits_in_place else (NO,), NO, tried=never),
        )

    def default_knobs(
        self, workload: RowChain, simd: Simd, fixed: Knobs = NO_KNOBS
    ) -> dict[str, Any]:
        width = workload.layers[-1].out_width
        columns = fixed.get("columns", width)
        known = columns if columns in range(1, width + 1) else width
        return self.choose(workload, self._knobs(workload, simd, known), fixed)

    def trades(self, workload: RowChain, simd: Simd) -> Sequence[Knobs]:
        """Narrower strips, or one in place."""
        narrower = [{"columns": columns} for columns in columns_of(workload)[1:]]
        return [{"in_place": YES}, *narrower] if workload.fits_in_place else narrower

    def misfit(self, workload: RowChain, knobs: Knobs) -> str | None:
        if knobs["in_place"] == YES and knobs["columns"] < workload.layers[-1].out_width:
            return "a strip in place would overwrite what the next one reads"
        return None

    def workspace_bytes(self, workload: RowChain, knobs: Knobs) -> int:
        halo = halo_bytes(workload) if knobs["in_place"] == YES else 0
        return windows_of(workload, knobs["columns"])[1] + halo

    def thread_bytes(self, workload: RowChain, knobs: Knobs) -> int:
        return self.workspace_bytes(workload, knobs)

    def overwrites(self, workload: RowChain, knobs: Knobs) -> str | None:
        del workload
        return INPUT if knobs["in_place"] == YES else None

    def packed_parts(self, workload: RowChain, knobs: Knobs) -> tuple[PackedWeights, ...]:
        return tuple(
            _panels_of(layer)(layer, panel) if panel else packing.taps(layer)
            for layer, panel in zip(workload.layers, _panels(knobs), strict=True)
        )

    def macs(self, workload: RowChain, knobs: Knobs) -> int:
        return sum(
            band.layer.out_height * band.row.macs
            for bands in strips_of(workload, knobs["columns"])
            for band in bands
        )

    def stages(self, workload: RowChain, simd: Simd, knobs: Knobs) -> Sequence[Work]:
        strips = strips_of(workload, knobs["columns"])
        parts = self.packed_parts(workload, knobs)
        windows, room = windows_of(workload, knobs["columns"])
        beside = room + sum(part.weight_bytes for part in parts)
        call = Work(CALL_CYCLES * simd.fmas * simd.lanes(workload.dtype))
        found = []
        for place, (layer, part) in enumerate(zip(workload.layers, parts, strict=True)):
            rows = layer.out_height
            bands = [bands[place] for bands in strips]
            own = Work()
            for band in bands:
                own += Work(_row_macs(band.row, simd)) + call
            weights = part.weight_bytes
            found.append(
                own * rows + reads(weights, rows * len(strips), simd, beside=beside - weights)
            )
            # What the next row reads too moves up.
            again = max(windows[place].rows - layer.stride_height, 0)
            if place == 0 and windows[place].rows:
                again = windows[place].rows
            pixels = sum(band.in_end - band.in_begin for band in bands)
            moved = again * rows * pixels * layer.in_channels
            found.append(moves(moved, simd, workload.element_bytes, windows[place].bytes))
        return found

    def schedule(self, workload: RowChain, simd: Simd, knobs: Knobs) -> s_tir.Schedule:
        raise NotImplementedError("it has a schedule for each of its kernels: schedules()")

    def schedules(
        self, workload: RowChain, simd: Simd, knobs: Knobs
    ) -> Mapping[str, s_tir.Schedule]:
        return {
            name: _algorithm(row).schedule(row, simd, _row_knobs(row, simd, panel))
            for name, row, panel in row_kernels(workload, knobs)
        }


def row_kernels(workload: RowChain, knobs: Knobs) -> Iterator[tuple[str, Conv2dWorkload, int]]:
    """The kernels of a chain, each once: its name's end, what it computes, its panels."""
    seen: dict[tuple[Conv2dWorkload, int], str] = {}
    for bands in strips_of(workload, knobs["columns"]):
        for band, panel in zip(bands, _panels(knobs), strict=True):
            key = (band.row, panel)
            if key not in seen:
                seen[key] = f"_row{len(seen)}"
                yield seen[key], *key


def kernel_names(workload: RowChain, knobs: Knobs) -> list[list[str]]:
    """For each strip the ends of the names of its layers' kernels."""
    names = {(row, panel): name for name, row, panel in row_kernels(workload, knobs)}
    return [
        [names[band.row, panel] for band, panel in zip(bands, _panels(knobs), strict=True)]
        for bands in strips_of(workload, knobs["columns"])
    ]


def _panels(knobs: Knobs) -> list[int]:
    return [int(panel) for panel in knobs["panels"].split(".")]


def _panels_of(layer: Conv2dWorkload) -> Callable[[Conv2dWorkload, int], PackedWeights]:
    return packing.words if layer.is_quantised else packing.panels


def _algorithm(row: Conv2dWorkload) -> LayerAlgorithm:
    return Depthwise() if row.is_depthwise else Indirect()


@lru_cache(maxsize=4096)
def _row_knobs(row: Conv2dWorkload, simd: Simd, panel: int = 0) -> Knobs:
    """The best tile for one row, or the best of those with such panels."""
    fixed: dict[str, Any] = {"weights": packing.PACKED}
    if row.is_depthwise:
        fixed = {"products": SINGLE} if row.is_quantised else {}
    if panel:
        fixed["panel"] = panel
    return _algorithm(row).default_knobs(row, simd, fixed)


@lru_cache(maxsize=4096)
def _row_macs(row: Conv2dWorkload, simd: Simd) -> float:
    stages = _algorithm(row).stages(row, simd, _row_knobs(row, simd))
    return sum(work.macs for work in stages)
