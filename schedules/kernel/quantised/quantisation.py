"""How one layer is quantised, and the bytes in which its kernel reads that.

What a delegate writes when a network is loaded (csrc/kernels/quantised/) a Relax module holds as a
constant.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from schedules.kernel.packing import PackedWeights
from schedules.kernel.quantised.fixed_point import Multiplier
from schedules.kernel.quantised.sums import CodeSum
from schedules.layer.network import CONV, DENSE
from schedules.layer.words import WORD
from schedules.layer.workload import ACTIVATIONS, Conv2dWorkload
from schedules.lower.integers import image_offset, weight_offset
from schedules.lower.memory import align
from schedules.target.simd import Simd


@dataclass(frozen=True)
class Quantisation:
    """What a layer's rule computes its outputs with.

    Parameters
    ----------
    ratios : tuple of arrays of shape (M,)
        Steps of the output in one of each output channel's sums, as the rule has them
        (:data:`schedules.layer.rounding.ROUNDINGS`).
    input_zero, weight_zero, output_zero : int
        Zero points.
    low, high : int
        The least and the largest element of the output.
    sums : tuple of int
        What the output is added to a residual with: the parameters for that (see
        :data:`schedules.kernel.quantised.constants.PARAMETERS`).
    """

    ratios: tuple[np.ndarray, ...]
    input_zero: int
    weight_zero: int
    output_zero: int
    low: int
    high: int
    sums: tuple[int, ...] = ()

    @classmethod
    def of(
        cls,
        workload: Conv2dWorkload,
        weights: tuple[np.ndarray, int],
        x: tuple[float, int],
        y: tuple[float, int],
        kind: str = CONV,
    ) -> Quantisation:
        """That of a layer whose tensors have these scales and zero points, by its rule.

        Scales of the weights are one or M. XNNPACK computes all in float32. ``kind`` is the
        operator's, on which it depends what TFLite does.
        """
        scales, rule = weights[0].astype(np.float32).ravel(), workload.rounding
        is_xnnpack = rule.startswith("xnn")
        low, high = activation_range(workload.activation, workload.dtype, *y, is_xnnpack)
        if is_xnnpack:
            ratios = _ratios(rule, np.float32(x[0]) * scales / np.float32(y[0]))
        else:
            in_float = scales.size == 1 if kind == DENSE else workload.dtype == "uint8"
            ratios = _tflite_ratios(rule, x[0], scales, y[0], in_float)
        ratios = tuple(np.broadcast_to(ratio, workload.out_channels) for ratio in ratios)
        return cls(ratios, x[1], weights[1], y[1], low, high)

    def with_sum(
        self,
        workload: Conv2dWorkload,
        scale: float,
        residual: tuple[float, int],
        total: tuple[float, int],
    ) -> Quantisation:
        """The same of a layer whose output has a ``scale``, with a residual and their sum."""
        by = CodeSum.of((scale, self.output_zero), residual, total[0])
        assert by is not None, "XNNPACK computes no such sum"
        ends = activation_range(workload.output_activation, workload.dtype, *total)
        return replace(self, sums=(*by.factors, by.offset, by.shift, total[1], *ends))

    @property
    def numbers(self) -> tuple[int, ...]:
        """Zero points and ends, as the constructor takes them behind the ratios."""
        return self.input_zero, self.weight_zero, self.output_zero, self.low, self.high

    def of_channels(self, channels: slice) -> Quantisation:
        """The same for some of the output channels."""
        return replace(self, ratios=tuple(ratio[channels] for ratio in self.ratios))

    def packable(self, weights: np.ndarray, packed: PackedWeights, simd: Simd) -> np.ndarray:
        """Weights as ``packed`` takes them: words are of int8, whatever the model's are."""
        if packed.layout != "words":
            return weights
        offset = _weight_offset(weights.dtype, packed, simd)
        return (weights.astype(np.int16) + offset).astype(np.int8)

    def packed(
        self, weights: np.ndarray, bias: np.ndarray, packed: PackedWeights, simd: Simd
    ) -> np.ndarray:
        """Bias, ratios and parameters behind each other: ``packed.constant_bytes`` of uint8.

        ``weights`` are OHWI and as the model has them, the bias int32 of shape (M,).
        """
        sums = (weights.astype(np.int64) - self.weight_zero).reshape(len(weights), -1).sum(axis=1)
        # Only products of words add something to the image.
        is_offset = packed.layout in ("words", "rows")
        taken = self.input_zero + (image_offset(simd, str(weights.dtype)) if is_offset else 0)
        wrapped = (bias - taken * sums).astype(np.uint32)  # as the kernel's sums wrap
        zero_word = np.full(WORD, self.input_zero, weights.dtype).view(np.int32)
        weight_zero = self.weight_zero + _weight_offset(weights.dtype, packed, simd)
        ends = (self.output_zero, self.low, self.high, weight_zero)
        parameters = np.array([*zero_word, *ends, *self.sums], np.int32)
        block, start = np.zeros(packed.constant_bytes, np.uint8), 0
        for values in (wrapped, *self.ratios, parameters):
            block[start : start + values.nbytes] = np.ascontiguousarray(values).view(np.uint8)
            start += align(packed.bias_elements * values.itemsize)
        return block


def _weight_offset(dtype: np.dtype, packed: PackedWeights, simd: Simd) -> int:
    return weight_offset(simd) if dtype == np.uint8 and packed.layout == "words" else 0


def _ratios(rule: str, exact: np.ndarray) -> tuple[np.ndarray, ...]:
    """Ratios as one of the rules has them, of 15 or 31 bits but for ``xnn_fp32``."""
    if rule == "xnn_fp32":
        return (exact.astype(np.float32),)
    bits = 15 if rule == "xnn_rndnu16" else 31
    found = [Multiplier.of(float(ratio), bits) for ratio in exact]
    return tuple(
        np.array(values, np.int32)
        for values in zip(*((by.mantissa, by.shift) for by in found), strict=True)
    )


def _tflite_ratios(
    rule: str, x: float, scales: np.ndarray, y: float, in_float: bool
) -> tuple[np.ndarray, ...]:
    """As TFLite's rules have them: in double precision, perhaps but for the product of scales."""
    products = x * scales.astype(np.float64)
    if rule == "real64":
        return (products / y,)
    if in_float:
        products = (np.float32(x) * scales).astype(np.float64)
    return _ratios(rule, products / y)


def activation_range(
    activation: str, dtype: str, scale: float, zero: int, as_xnnpack: bool = True
) -> tuple[int, int]:
    """The least and the largest code of an activation.

    XNNPACK adds the zero point before it rounds, ties to even; TFLite behind, ties away from zero.
    """
    limits, ends = np.iinfo(dtype), []
    for bound, end in zip(ACTIVATIONS[activation], (limits.min, limits.max), strict=True):
        code = float(end)
        if bound is not None:
            steps = np.float32(bound) / np.float32(scale)
            if as_xnnpack:
                code = float(np.rint(np.clip(steps + np.float32(zero), limits.min, limits.max)))
            else:
                code = math.copysign(math.floor(abs(float(steps)) + 0.5), steps) + zero
        ends.append(int(min(max(code, limits.min), limits.max)))
    return ends[0], ends[1]
