"""Hybrid layers: random ones, their exact outputs, and the constants that kernels read.

Numpy functions of how TFLite and XNNPACK quantise floats by their range and make floats again of
sums of integers; ``arm`` tells the processor, as their roundings differ.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from schedules.kernel import packing
from schedules.layer.workload import ACTIVATIONS, Conv2dWorkload
from schedules.lower.memory import align
from schedules.plan.plan import Plan
from tests.support.kernels import among_groups
from tests.support.quantised import sums_of_products

F4 = np.float32
Array = np.ndarray


def round_away(values: np.ndarray) -> np.ndarray:
    """Halves away from zero."""
    return np.copysign(np.floor(np.abs(values.astype(np.float64)) + 0.5), values)


def round_added(values: np.ndarray) -> np.ndarray:
    """One half added in float32, and truncated."""
    return np.trunc((values + np.where(values < 0, F4(-0.5), F4(0.5))).astype(F4))


def quantise_xnnpack(row: np.ndarray, away: bool) -> tuple[np.ndarray, int, np.float32]:
    """Elements, zero point and step, in float32 throughout."""
    low, high = min(F4(0), row.min()), max(F4(0), row.max())
    factor = F4(1) if low == high else F4(255) / F4(high - low)
    below, above = F4(low * factor), F4(high * factor)
    from_low = F4(F4(-128) + below) + F4(F4(127) + above) > 0
    zero = int(np.rint(np.clip(F4(-128) - below if from_low else F4(127) - above, -128, 127)))
    steps = (round_away if away else np.rint)((row * factor).astype(F4))
    return np.clip(steps + zero, -128, 127).astype(np.int64), zero, F4(1) / factor


def _rounded(values: np.ndarray, arm: bool) -> np.ndarray:
    whole = values.size // 8 * 8
    first = (round_away if arm else round_added)(values[:whole])
    return np.concatenate([first, round_away(values[whole:])])


def quantise_asymmetric(row: np.ndarray, arm: bool) -> tuple[np.ndarray, int, np.float32]:
    """TFLite's, its range in float64."""
    low, high = min(F4(0), row.min()), max(F4(0), row.max())
    if low == high:
        return np.zeros(row.shape, np.int64), 0, F4(1)
    scale = float(F4(high - low)) / 255.0
    below, above = float(low) / scale, float(high) / scale
    zero = -128 - below if 128 + abs(below) < 127 + abs(above) else 127 - above
    zero = int(np.clip(round_away(np.array(zero)), -128, 127))
    steps = _rounded((row * F4(1.0 / float(F4(scale)))).astype(F4), arm)
    return np.clip(steps + zero, -128, 127).astype(np.int64), zero, F4(scale)


def quantise_symmetric(row: np.ndarray, arm: bool) -> tuple[np.ndarray, int, np.float32]:
    """TFLite's, without a zero point."""
    most = max(abs(row.min()), abs(row.max()))
    if most == 0:
        return np.zeros(row.shape, np.int64), 0, F4(1)
    steps = _rounded((row * (F4(127) / most)).astype(F4), arm)
    return np.clip(steps, -127, 127).astype(np.int64), 0, F4(most / F4(127))


def fused(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """``a b + c`` rounded once: x86's long double holds the product exactly."""
    return np.asarray(a.astype(np.longdouble) * b + c, F4)


def _apart(total: Array, scale: Array, weights: Array, bias: Array) -> Array:
    return (total * (scale * weights).astype(F4)).astype(F4) + bias


def _fused_last(total: Array, scale: Array, weights: Array, bias: Array) -> Array:
    return fused((total * scale).astype(F4), weights, bias)


def _fused(total: Array, scale: Array, weights: Array, bias: Array) -> Array:
    return fused(total, (scale * weights).astype(F4), bias)


def _weights_first(total: Array, scale: Array, weights: Array, bias: Array) -> Array:
    return ((total * weights).astype(F4) * scale).astype(F4) + bias


def _one_by_one(total: Array, scale: Array, weights: Array, bias: Array) -> Array:
    first = ((total * weights).astype(F4) * scale).astype(F4)
    other = ((total * scale).astype(F4) * weights).astype(F4)
    return np.where(np.arange(len(bias)) < len(bias) // 4 * 4, first, other) + bias


#: How each rule quantises, from row and processor; its epilogue; and whether rows have ranges.
RULES: dict[str, tuple[Callable[..., Any], Callable[..., Array], bool]] = {
    "xnn_qd8_fused": (lambda row, arm: quantise_xnnpack(row, False), _fused_last, False),
    "xnn_qd8_fused_rows": (lambda row, arm: quantise_xnnpack(row, False), _fused_last, True),
    "xnn_qd8": (lambda row, arm: quantise_xnnpack(row, False), _apart, False),
    "xnn_qp8": (lambda row, arm: quantise_xnnpack(row, True), _apart, True),
    "builtin_depthwise": (quantise_asymmetric, _one_by_one, False),
    "builtin_asymmetric": (quantise_asymmetric, _apart, False),
    "builtin_symmetric": (quantise_symmetric, _apart, False),
    "builtin_asymmetric_rows": (quantise_asymmetric, _apart, True),
    "builtin_symmetric_rows": (quantise_symmetric, _apart, True),
    "builtin_asymmetric_rows_fused": (quantise_asymmetric, _fused, True),
    "builtin_symmetric_rows_fused": (quantise_symmetric, _fused, True),
    "reference_asymmetric": (quantise_asymmetric, _weights_first, False),
}


@dataclass(frozen=True)
class HybridCase:
    """Arguments of one hybrid layer, and what must come out of it, to the bit."""

    workload: Conv2dWorkload
    x: np.ndarray
    residual: np.ndarray | None
    weights: np.ndarray
    scales: np.ndarray
    bias: np.ndarray
    arm: bool = False

    groups = 1

    @classmethod
    def random(cls, workload: Conv2dWorkload, seed: int = 0, arm: bool = False) -> HybridCase:
        """Normally distributed elements, some images of them of one sign, with halves of steps."""
        random = np.random.default_rng(seed)
        x = random.standard_normal(workload.input_shape, np.float32)
        x = np.abs(x) if seed % 3 == 1 else -np.abs(x) if seed % 3 == 2 else x
        x[0, 0, 0, 0] = 0
        weights = random.integers(-128, 128, workload.weight_shape).astype(np.int8)
        weights[::5] = -127
        scales = random.uniform(0.001, 0.01, workload.out_channels).astype(F4)
        bias = random.standard_normal(workload.out_channels, np.float32)
        added = random.standard_normal(workload.output_shape, np.float32)
        return cls(workload, x, added if workload.residual else None, weights, scales, bias, arm)

    @property
    def expected(self) -> np.ndarray:
        """By the workload's rule: float32."""
        layer = self.workload
        quantise, dequantise, by_row = RULES[layer.rounding]
        rows = self.x.reshape(-1, layer.in_channels) if by_row else self.x.reshape(layer.batch, -1)
        found = [quantise(row, self.arm) for row in rows]
        shape = (*self.x.shape[:3], 1) if by_row else (layer.batch, 1, 1, 1)
        zero = np.array([zero for _, zero, _ in found]).reshape(shape)
        scale = np.array([scale for *_, scale in found], F4).reshape(shape)
        codes = np.stack([codes for codes, *_ in found]).reshape(self.x.shape)
        total = sums_of_products(layer, codes - zero, self.weights).astype(F4)
        y = dequantise(total, scale, self.scales, self.bias).astype(F4)
        y = _clamped(y, layer.activation)
        return y if self.residual is None else _clamped(y + self.residual, layer.output_activation)

    def arguments(self, plan: Plan) -> dict[str, np.ndarray]:
        """Tensors ``x`` and perhaps ``r``, packed weights ``w`` and constants ``b``."""
        packed = plan.packed
        line = align(4 * packed.bias_elements)
        memory = np.zeros(packed.constant_bytes, np.uint8)
        sums = self.weights.astype(np.int32).reshape(len(self.weights), -1).sum(axis=1)
        for number, values in enumerate((self.bias, self.scales, -sums.astype(np.int32))):
            memory[number * line :][: values.nbytes] = values.view(np.uint8)
        given = {
            "x": among_groups(self.x, 1),
            "w": packing.pack(self.weights, packed),
            "b": memory,
        }
        return given if self.residual is None else {**given, "r": self.residual}

    def check(self, y: np.ndarray) -> None:
        """Fail unless every element of ``y`` is exact."""
        expected = self.expected
        wrong = np.argwhere(y.reshape(expected.shape) != expected)
        assert not len(wrong), f"{len(wrong)} of {expected.size} differ, first at {wrong[0]}"


def _clamped(y: np.ndarray, activation: str) -> np.ndarray:
    least, most = ACTIVATIONS[activation]
    y = y if least is None else np.maximum(y, F4(least))
    return y if most is None else np.minimum(y, F4(most))
