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
from schedules.lower.memory import align
from schedules.plan.plan import Plan
from tests.support.kernels import among_groups

LOW, HIGH = -128, 127


@dataclass(frozen=True)
class QuantisedCase:
    """Arguments of one int8 layer, and what must come out of it, to the bit.

    ``scales`` are those of the weights, one for each output channel; ``offset`` is what a kernel
    adds to the image (``image_offset``).
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
    offset: int = 0

    @classmethod
    def random(
        cls,
        workload: Conv2dWorkload,
        seed: int = 0,
        offset: int = 0,
        input_zero: int = 0,
        output_zero: int = -5,
        least: int = -128,
    ) -> QuantisedCase:
        """Uniform elements, weights from ``least`` on, and an output that fills its range."""
        random = np.random.default_rng(seed)
        x = random.integers(LOW, HIGH + 1, workload.input_shape).astype(np.int8)
        weights = random.integers(least, HIGH + 1, workload.weight_shape).astype(np.int8)
        # Some channels at the ends, where sums of pairs pass 16 bits.
        weights[::5] = least
        bias = random.integers(-2000, 2000, workload.out_channels).astype(np.int32)
        scales = random.uniform(0.5, 2, workload.out_channels).astype(np.float32)
        spread = 73.0**2 * np.sqrt(workload.reduction)
        return cls(
            workload, x, weights, bias, np.float32(0.05), input_zero, scales * np.float32(0.01),
            np.float32(0.05 * 0.01 * spread / 50), output_zero, offset,
        )  # fmt: skip

    @property
    def groups(self) -> int:
        return self.workload.group_of

    @property
    def sums(self) -> np.ndarray:
        """Exact sums with their bias: int64."""
        w, x = self.workload, self.x.astype(np.int64) - self.input_zero
        pads = ((0, 0), (w.pad_top, w.pad_bottom), (w.pad_left, w.pad_right), (0, 0))
        x = np.pad(x, pads)
        total = np.zeros(w.output_shape, np.int64) + self.bias
        weights = self.weights.astype(np.int64)
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

    @property
    def ratios(self) -> np.ndarray:
        """XNNPACK's: float32 products and quotient, rounded one by one."""
        return (self.input_scale * self.scales) / self.output_scale

    @property
    def range(self) -> tuple[int, int]:
        """The least and the largest output of the fused activation, as XNNPACK rounds them."""
        ends = []
        for bound, end in zip(ACTIVATIONS[self.workload.activation], (LOW, HIGH), strict=True):
            if bound is None:
                ends.append(end)
            else:
                value = np.float32(bound) / self.output_scale + np.float32(self.output_zero)
                ends.append(int(np.rint(np.clip(value, LOW, HIGH))))
        return ends[0], ends[1]

    @property
    def expected(self) -> np.ndarray:
        """By the rule ``xnn_fp32``."""
        real = self.sums.astype(np.float32) * self.ratios
        steps = np.rint(real.astype(np.float64)) + self.output_zero
        low, high = self.range
        return np.clip(steps, low, high).astype(np.int8)

    def arguments(self, plan: Plan) -> dict[str, np.ndarray]:
        """Whole tensor ``x``, packed weights ``w`` and constants ``b``."""
        return {
            "x": among_groups(self.x, self.groups),
            "w": packing.pack(self.weights, plan.packed),
            "b": self.constants(plan.packed),
        }

    def constants(self, packed: PackedWeights) -> np.ndarray:
        """Bias, scales and parameters as a kernel reads them."""
        sums = self.weights.astype(np.int64).reshape(len(self.weights), -1).sum(axis=1)
        # Depthwise kernels add nothing to the image.
        taken = self.input_zero + (0 if packed.layout == "taps" else self.offset)
        bias = self.bias - taken * sums
        zero_word = np.full(4, self.input_zero, np.int8).view(np.int32)[0]
        memory = np.zeros(packed.constant_bytes, np.uint8)
        second = align(4 * packed.bias_elements)
        memory[: 4 * len(bias)] = (bias.astype(np.int64) % 2**32).astype(np.uint32).view(np.uint8)
        memory[second:][: 4 * len(bias)] = self.ratios.astype(np.float32).view(np.uint8)
        parameters = np.array([zero_word, self.output_zero, *self.range], np.int32)
        memory[2 * second :][: parameters.nbytes] = parameters.view(np.uint8)
        return memory

    def check(self, y: np.ndarray) -> None:
        """Fail unless every element of ``y`` is exact."""
        expected = self.expected
        wrong = np.argwhere(y.reshape(expected.shape) != expected)
        assert not len(wrong), f"{len(wrong)} of {expected.size} differ, first at {wrong[0]}"
