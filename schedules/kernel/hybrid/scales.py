"""The scales of int8 weights, and the bytes in which a kernel reads them behind the bias.

What a delegate writes when a network is loaded (csrc/kernels/hybrid/) a Relax module holds as a
constant.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from schedules.kernel.packing import PackedWeights, pack_bias
from schedules.lower.memory import align
from schedules.target.simd import Simd


@dataclass(frozen=True)
class ChannelScales:
    """What one step of each output channel's weights stands for: float32 of shape (M,)."""

    values: np.ndarray

    def of_channels(self, channels: slice) -> ChannelScales:
        """The same for some of the output channels."""
        return ChannelScales(self.values[channels])

    def packable(self, weights: np.ndarray, packed: PackedWeights, _simd: Simd) -> np.ndarray:
        """OHWI weights of int8 as ``packed`` takes them: floats, if the kernel multiplies these."""
        if not packed.dtype.startswith("float"):
            return weights
        return weights.astype(np.float32) * self.values[:, None, None, None]

    def packed(
        self, weights: np.ndarray, bias: np.ndarray, packed: PackedWeights, _simd: Simd
    ) -> np.ndarray:
        """Bias, scales, and of a dynamic layer negative sums of weights, one by one: uint8."""
        parts = [bias]
        if packed.has_scales or packed.is_dynamic:
            parts.append(self.values)
        if packed.is_dynamic:
            parts.append(-weights.reshape(len(weights), -1).sum(axis=1, dtype=np.int32))
        block, start = np.zeros(packed.constant_bytes, np.uint8), 0
        for values in parts:
            line = pack_bias(values, packed).view(np.uint8)
            block[start : start + line.size] = line
            start += align(line.size)
        return block
