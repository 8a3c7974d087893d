"""Packed weights, element by element."""

from __future__ import annotations

import numpy as np

from schedules import packing
from schedules.workload import Conv2dWorkload


def test_panels() -> None:
    layer = Conv2dWorkload(
        in_height=5, in_width=5, in_channels=3, out_channels=10, kernel_height=2, kernel_width=3
    )
    packed = packing.panels(layer, 4)
    assert (packed.shape, packed.elements, packed.bias_elements) == ((3, 18, 4), 216, 12)
    assert packed.bytes(4) == 896 + 48  # 864 bytes of weights, up to a cache line, and the bias
    weights = np.arange(180, dtype=np.float32).reshape(layer.weight_shape) + 1
    result = packing.pack(weights, packed)
    for m in range(12):
        for kh, kw, c in np.ndindex(2, 3, 3):
            expected = weights[m, kh, kw, c] if m < 10 else 0
            assert result[m // 4, (kh * 3 + kw) * 3 + c, m % 4] == expected
    bias = packing.pack_bias(np.arange(10, dtype=np.float32), packed)
    np.testing.assert_array_equal(bias, [*range(10), 0, 0])
