"""Layers that have their weights in Winograd's domain: patterns of zeros, and what is computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from schedules.kernel import packing
from schedules.kernel.accuracy import UNIT_ROUNDOFF
from schedules.layer.winograd_weights import WinogradWeights
from schedules.layer.workload import ACTIVATIONS, Conv2dWorkload
from schedules.plan.plan import Plan
from schedules.transforms.cook_toom import Filtering, as_floats, filtering


def layer_of(
    weights: np.ndarray, height: int, width: int, taps: int, relu: bool = False, **more: Any
) -> Conv2dWorkload:
    """The layer, padded as SAME says, of ``weights`` (M, n, n, C)."""
    out_channels, points, _, in_channels = weights.shape
    geometry = {
        "in_height": height,
        "in_width": width,
        "in_channels": in_channels,
        "out_channels": out_channels,
        "kernel_height": taps,
        "kernel_width": taps,
    }
    domain = WinogradWeights.of(weights, points - taps + 1, relu)
    return Conv2dWorkload.with_padding("SAME", **geometry, **more, domain=domain)


def pruned_at_random(
    out_channels: int, points: int, in_channels: int, zeros: float, block: int, seed: int = 0
) -> np.ndarray:
    """Weights (M, n, n, C) of which blocks of output channels are zero."""
    random = np.random.default_rng(seed)
    shape = (out_channels, points, points, in_channels)
    count = -(-out_channels // block)
    kept = random.random((count, *shape[1:])) >= zeros
    weights = random.standard_normal(shape, np.float32) / np.float32(np.sqrt(in_channels))
    return weights * np.repeat(kept, block, axis=0)[:out_channels]


@dataclass(frozen=True)
class DomainCase:
    """Arguments of one layer, and what must come out of it, in float64."""

    workload: Conv2dWorkload
    x: np.ndarray
    weights: np.ndarray
    bias: np.ndarray
    expected: np.ndarray
    bound: np.ndarray
    groups: int = 1

    @classmethod
    def of(cls, workload: Conv2dWorkload, weights: np.ndarray, seed: int = 1) -> DomainCase:
        """Normally distributed image and bias."""
        random = np.random.default_rng(seed)
        x = random.standard_normal(workload.input_shape, np.float32)
        bias = random.standard_normal(workload.out_channels, np.float32)
        expected, bound = winograd_layer(workload, x, weights, bias)
        return cls(workload, x, weights, bias, expected, bound)

    def arguments(self, plan: Plan) -> dict[str, np.ndarray]:
        """As kernels take them."""
        return {
            "x": self.x,
            "w": packing.pack(self.weights, plan.packed),
            "b": packing.pack_bias(self.bias, plan.packed),
        }

    def check(self, y: np.ndarray) -> None:
        """Fail unless every element of ``y`` is within the bound."""
        worst = np.abs(y.reshape(self.expected.shape) - self.expected) - self.bound
        assert (worst <= 0).all(), f"off by up to {np.nanmax(worst):.3g} more than the bound"


def winograd_layer(
    workload: Conv2dWorkload, x: np.ndarray, weights: np.ndarray, bias: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The output in float64, and how far that of any float32 kernel may be from it.

    Each product of an image element, a weight and a coefficient of two transforms has at most so
    many roundings: those of the sum over channels, of each of both passes of either transform its
    length and 3 for constants and shared terms, and of the bias. A ReLU of the transformed image
    passes on no more of an error than it gets; nor does the activation.
    """
    assert workload.domain is not None
    form = filtering(workload.domain.outputs, workload.kernel_height)
    x, weights = x.astype(np.float64), weights.astype(np.float64)
    exact = _transformed(workload, form, x, weights, workload.domain.relu)
    total = _transformed(workload, form, abs(x), abs(weights), False, absolute=True)
    roundings = workload.in_channels + 4 * (form.inputs + 3) + 1
    gamma = roundings * UNIT_ROUNDOFF / (1 - roundings * UNIT_ROUNDOFF)
    lower, upper = ACTIVATIONS[workload.activation]
    return np.clip(exact + bias, lower, upper), gamma * (total + abs(bias)) + 1e-30


def _transformed(
    workload: Conv2dWorkload,
    form: Filtering,
    x: np.ndarray,
    weights: np.ndarray,
    relu: bool,
    absolute: bool = False,
) -> np.ndarray:
    image, output = as_floats(form.image), as_floats(form.output)
    if absolute:
        image, output = abs(image), abs(output)
    m, n = form.outputs, form.inputs
    down, across = -(-workload.out_height // m), -(-workload.out_width // m)
    before = workload.pad_top, workload.pad_left
    pads = [
        (pad, max(count * m + form.taps - 1 - pad - size, 0))
        for pad, count, size in zip(before, (down, across), x.shape[1:3], strict=True)
    ]
    padded = np.pad(x, ((0, 0), *pads, (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (n, n), axis=(1, 2))
    windows = windows[:, ::m, ::m][:, :down, :across]
    v = np.einsum("ai,nyxcij,bj->abnyxc", image, windows, image, optimize=True)
    v = np.maximum(v, 0) if relu else v
    products = np.einsum("abnyxc,oabc->abnyxo", v, weights, optimize=True)
    y = np.einsum("pa,abnyxo,qb->nypxqo", output, products, output, optimize=True)
    y = y.reshape(len(x), down * m, across * m, len(weights))
    return y[:, : workload.out_height, : workload.out_width]
