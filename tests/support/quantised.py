"""Quantised layers: random ones, their exact outputs, and the constants that kernels read.

Written from the definitions of TFLite's quantisation specification, in 64-bit integers: independent
of how kernels fold zero points into the bias.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from schedules.kernel import packing
from schedules.kernel.packing import PackedWeights
from schedules.layer.workload import ACTIVATIONS, Conv2dWorkload
from schedules.lower.integers import image_offset, weight_offset
from schedules.lower.memory import align
from schedules.plan.plan import Plan
from schedules.target.simd import Simd
from tests.support.kernels import among_groups
from tests.support.rounding import ratio_arrays, rounded

LOW, HIGH = -128, 127


@dataclass(frozen=True)
class QuantisedCase:
    """Arguments of one int8 or uint8 layer, and what must come out of it, to the bit.

    ``scales`` are those of the weights, one for each output channel; ``simd`` is what its kernel is
    for.
    """

    workload: Conv2dWorkload
    x: np.ndarray
    weights: np.ndarray
    bias: np.ndarray
    input_scale: np.float32
    input_zero: int
    scales: np.ndarray
    output_scale: np.float32
    output_zero: int
    simd: Simd
    weight_zero: int = 0
    residual: np.ndarray | None = None

    @classmethod
    def random(
        cls,
        workload: Conv2dWorkload,
        simd: Simd,
        seed: int = 0,
        input_zero: int = 0,
        output_zero: int = -5,
        least: int = -128,
        ties: bool = False,
    ) -> QuantisedCase:
        """Uniform elements, weights from ``least`` on, and an output that fills its range.

        All numbers are those of an int8 layer, to which 128 are added for one of uint8. With
        ``ties``, ratios are powers of two, so that many outputs are halfway between two steps.
        """
        random = np.random.default_rng(seed)
        added = 128 if workload.dtype == "uint8" else 0
        x, weights = (
            (random.integers(low, HIGH + 1, shape) + added).astype(workload.dtype)
            for low, shape in ((LOW, workload.input_shape), (least, workload.weight_shape))
        )
        # Some channels at the ends, where sums of pairs pass 16 bits.
        weights[::5] = least + added
        bias = random.integers(-2000, 2000, workload.out_channels).astype(np.int32)
        scales = random.uniform(0.5, 2, workload.out_channels).astype(np.float32)
        spread = 73.0**2 * np.sqrt(workload.reduction)
        output_scale = np.float32(0.05 * 0.01 * spread / 50)
        input_scale, scales = np.float32(0.05), scales * np.float32(0.01)
        if ties:
            input_scale, output_scale = np.float32(2**-4), np.float32(2**-2)
            scales = (2.0 ** random.integers(-9, 3, workload.out_channels)).astype(np.float32)
        residual = None
        if workload.residual:
            residual = random.integers(LOW, HIGH + 1, workload.output_shape) + added
            residual = residual.astype(workload.dtype)
        return cls(
            workload, x, weights, bias, input_scale, input_zero + added, scales, output_scale,
            output_zero + added, simd, 119 if added else 0, residual,
        )  # fmt: skip

    @property
    def groups(self) -> int:
        return self.workload.group_of

    @property
    def sums(self) -> np.ndarray:
        """Exact sums with their bias: int64."""
        x, weights = (
            values.astype(np.int64) - zero
            for values, zero in ((self.x, self.input_zero), (self.weights, self.weight_zero))
        )
        return sums_of_products(self.workload, x, weights) + self.bias

    @property
    def ratios(self) -> tuple[np.ndarray, ...]:
        """What the layer's rule multiplies by."""
        scales = (self.input_scale, self.scales, self.output_scale)
        return ratio_arrays(self.workload.rounding, *scales, self.workload.dtype == "uint8")

    @property
    def range(self) -> tuple[int, int]:
        """The least and the largest output of the fused activation.

        XNNPACK rounds with the zero point, half to even; TFLite before, half away from zero.
        """
        return self.ends(self.workload.activation, self.output_scale, self.output_zero)

    def ends(self, activation: str, scale: np.float32, zero: int) -> tuple[int, int]:
        """Likewise of other elements."""
        limits, ends = np.iinfo(self.workload.dtype), []
        bounds = ACTIVATIONS[activation]
        for bound, end in zip(bounds, (limits.min, limits.max), strict=True):
            if bound is None:
                ends.append(int(end))
                continue
            value = np.float32(bound) / scale
            if self.workload.rounding.startswith("xnn"):
                value += np.float32(zero)
                ends.append(int(np.rint(np.clip(value, limits.min, limits.max))))
            else:
                steps = np.sign(value) * np.floor(np.abs(value) + np.float32(0.5))
                ends.append(int(np.clip(zero + steps, limits.min, limits.max)))
        return ends[0], ends[1]

    @property
    def expected(self) -> np.ndarray:
        """By the layer's rule."""
        steps = rounded(self.workload.rounding, self.sums, self.ratios) + self.output_zero
        steps = np.clip(steps, *self.range)
        if self.residual is not None:
            first, second, offset, shift, zero, low, high = self.sum_parameters
            wide = steps * first + self.residual.astype(np.int64) * second + offset
            assert np.abs(wide).max() < 2**31, "XNNPACK's sums have 32 bits"
            steps = np.clip((wide >> shift) + zero, low, high)
        return steps.astype(self.workload.dtype)

    @property
    def sum_parameters(self) -> tuple[int, ...]:
        """What XNNPACK adds a residual with: two factors, offset, shift, zero point, ends.

        The residual has .8 of the output's scale, their sum 1.4 of it.
        """
        limits = np.iinfo(self.workload.dtype)
        residual_zero, zero = limits.max - 116, limits.min + 131
        scale = self.output_scale * np.float32(1.4)
        ratios = self.output_scale / scale, self.output_scale * np.float32(0.8) / scale
        shift = 20 - int(np.floor(np.log2(max(ratios))))
        first, second = (int(np.rint(float(ratio) * 2**shift)) for ratio in ratios)
        offset = 2 ** (shift - 1) - self.output_zero * first - residual_zero * second
        ends = self.ends(self.workload.output_activation, scale, zero)
        return first, second, offset, shift, zero, *ends

    def arguments(self, plan: Plan) -> dict[str, np.ndarray]:
        """Whole tensor ``x``, perhaps ``r``, packed weights ``w`` and constants ``b``."""
        given = {
            "x": among_groups(self.x, self.groups),
            "w": packing.pack(self.packable_weights(plan.packed), plan.packed),
            "b": self.constants(plan.packed),
        }
        return given if self.residual is None else {**given, "r": self.residual}

    def offset(self, packed: PackedWeights) -> int:
        """What is added to each weight of uint8 before it is packed."""
        is_offset = self.workload.dtype == "uint8" and packed.layout == "words"
        return weight_offset(self.simd) if is_offset else 0

    def packable_weights(self, packed: PackedWeights) -> np.ndarray:
        weights = self.weights.astype(np.int64) + self.offset(packed)
        return weights.astype(np.int8 if packed.layout == "words" else self.weights.dtype)

    def constants(self, packed: PackedWeights) -> np.ndarray:
        """Bias, ratios and parameters as a kernel reads them."""
        weights = self.weights.astype(np.int64) - self.weight_zero
        sums = weights.reshape(len(weights), -1).sum(axis=1)
        # Only products of words add something to the image.
        is_offset = packed.layout in ("words", "rows")
        offset = image_offset(self.simd, self.workload.dtype) if is_offset else 0
        taken = self.input_zero + offset
        bias = (self.bias - taken * sums) % 2**32
        zero_word = np.full(4, self.input_zero, self.workload.dtype).view(np.int32)[0]
        ends = (self.output_zero, *self.range)
        memory = np.zeros(packed.constant_bytes, np.uint8)
        parameters = [zero_word, *ends, self.weight_zero + self.offset(packed)]
        if self.residual is not None:
            parameters += self.sum_parameters
        start = 0
        for values in (bias.astype(np.uint32), *self.ratios, np.array(parameters, np.int32)):
            memory[start:][: values.nbytes] = values.view(np.uint8)
            start += align(packed.bias_elements * values.itemsize)
        return memory

    def check(self, y: np.ndarray) -> None:
        """Fail unless every element of ``y`` is exact."""
        expected = self.expected
        wrong = np.argwhere(y.reshape(expected.shape) != expected)
        assert not len(wrong), f"{len(wrong)} of {expected.size} differ, first at {wrong[0]}"


def sums_of_products(w: Conv2dWorkload, x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The convolution of integers ``x`` around zero: int64."""
    x = np.pad(x, ((0, 0), (w.pad_top, w.pad_bottom), (w.pad_left, w.pad_right), (0, 0)))
    total, weights = np.zeros(w.output_shape, np.int64), weights.astype(np.int64)
    for kh in range(w.kernel_height):
        for kw in range(w.kernel_width):
            rows = slice(kh * w.dilation_height, None, w.stride_height)
            columns = slice(kw * w.dilation_width, None, w.stride_width)
            tap = x[:, rows, columns][:, : w.out_height, : w.out_width]
            if w.is_depthwise:
                multiplier = w.out_channels // w.in_channels
                total += np.repeat(tap, multiplier, axis=3) * weights[:, kh, kw, 0]
            else:
                total += tap @ weights[:, kh, kw].T
    return total
