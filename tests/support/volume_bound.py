"""How far a Winograd convolution of volumes may be from float64."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from schedules.algorithms.volumes.domain import VolumeDomain
from schedules.layer.workload import Conv2dWorkload
from schedules.transforms.cook_toom import as_floats
from tests.support.reference import gamma

#: An axis of a tile, and the points that it is transformed into, one after the other.
_IMAGE = ("ai,nzyxcijk->nzyxcajk", "bj,nzyxcajk->nzyxcabk", "wk,nzyxcabk->nzyxcabw")
_KERNEL = ("ai,mijkc->majkc", "bj,majkc->mabkc", "wk,mabkc->mabwc")
_OUTPUT = ("pa,nzyxmabw->nzyxmpbw", "qb,nzyxmpbw->nzyxmpqw", "rw,nzyxmpqw->nzyxmpqr")


def volume_bound(
    layer: Conv2dWorkload,
    knobs: Mapping[str, Any],
    x: np.ndarray,
    weights: np.ndarray,
    bias: np.ndarray | None,
) -> np.ndarray:
    """A bound on the error of any float32 Winograd convolution of volumes, as ``knobs`` say.

    That of :func:`tests.support.reference.winograd_bound`, with the roundings of another axis.

    Returns
    -------
    bound : (N, D', H', W', M), float64, before the activation
    """
    domain = VolumeDomain.of_volume(layer, knobs)  # type: ignore[arg-type]
    w, axes = domain.layer, (domain.depth, domain.rows, domain.columns)
    outputs, inputs = [t.outputs for t in axes], [t.inputs for t in axes]
    counts = [-(-size // m) for size, m in zip(w.output_shape[1:4], outputs, strict=True)]
    before = (w.pad_front, w.pad_top, w.pad_left)
    pads = [
        (first, max(0, count * t.outputs + t.taps - 1 - first - size))
        for size, first, t, count in zip(w.input_shape[1:4], before, axes, counts, strict=True)
    ]
    value = np.pad(abs(x.astype(np.float64)), ((0, 0), *pads, (0, 0)))
    value = np.lib.stride_tricks.sliding_window_view(value, inputs, axis=(1, 2, 3))
    d, h, v = outputs
    value = value[:, ::d, ::h, ::v][:, : counts[0], : counts[1], : counts[2]]
    kernel = abs(weights.astype(np.float64))
    for t, image, taps in zip(axes, _IMAGE, _KERNEL, strict=True):
        value = np.einsum(image, abs(as_floats(t.image)), value)
        kernel = np.einsum(taps, abs(as_floats(t.kernel)), kernel)
    value = np.einsum("nzyxcabw,mabwc->nzyxmabw", value, kernel, optimize=True)
    for t, equation in zip(axes, _OUTPUT, strict=True):
        value = np.einsum(equation, abs(as_floats(t.output)), value)
    value = value.transpose(0, 1, 5, 2, 6, 3, 7, 4)
    sizes = [count * m for count, m in zip(counts, outputs, strict=True)]
    value = value.reshape(w.batch, *sizes, w.out_channels)
    value = value[:, : w.out_depth, : w.out_height, : w.out_width]
    lengths = sum(2 * (t.inputs + 3) + t.taps + 3 for t in axes)
    total = value + (0 if bias is None else abs(bias.astype(np.float64)))
    return gamma(w.in_channels + lengths + 1) * total
