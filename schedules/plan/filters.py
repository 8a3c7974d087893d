"""Layers of which whole filters are zero, as narrower ones.

Kernels compute the filters that have weights, with as many of the others as fill these up to whole
vectors, and write their narrower pixels to the end of the output, from where they are spread over
it: no workspace is needed. What the other filters make of an image follows from the bias. As in
XNNPACK's sparse kernels, a NaN or an infinity in the image does not get there.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from schedules.layer.network import CONV, DENSE, Layer
from schedules.layer.workload import Conv2dWorkload
from schedules.target.simd import Simd

if TYPE_CHECKING:
    from schedules.plan.plan import Plan  # imports TVM, which readers of models do not need

#: The kernel has so many filters, or a multiple (csrc/layer/constants/filters.c has the same).
VECTOR = 16
#: Cycles for an element of the output, one by one from its place in the narrower pixel: measured on
#: a Zen 4.
SPREAD_CYCLES = 2.5


def kept_filters(filters: int, zero: int) -> int:
    """How many of a layer's ``filters`` a kernel computes, if so many are ``zero``."""
    return min(max(-(-(filters - zero) // VECTOR) * VECTOR, VECTOR), filters)


def narrower(layer: Layer) -> Conv2dWorkload | None:
    """What a kernel computes of ``layer`` without zero filters; ``None`` if that is all of it."""
    workload = layer.workload
    if workload is None or not layer.zero_filters or workload.residual or workload.groups > 1:
        return None
    if layer.kind not in (CONV, DENSE) or workload.types[0] != "float32" or workload.domain:
        return None
    kept = kept_filters(workload.out_channels, layer.zero_filters)
    return replace(workload, out_channels=kept, zeros=0) if kept < workload.out_channels else None


def serves_narrower(plan: Plan) -> bool:
    """Whether a kernel packs its weights, and writes its output where it is told to."""
    return plan.overwrites is None and plan.parts[0].layout != "rows"


def spread_seconds(workload: Conv2dWorkload, simd: Simd) -> float:
    """Modelled time of one image of ``workload``, spread by one thread."""
    return math.prod(workload.output_shape[1:]) * SPREAD_CYCLES / simd.clock_hz
