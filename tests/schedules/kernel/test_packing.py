"""Packed weights, element by element."""

from __future__ import annotations

import numpy as np

from schedules.kernel import packing
from schedules.layer.workload import Conv2dWorkload


def test_panels() -> None:
    layer = Conv2dWorkload(
        in_height=5, in_width=5, in_channels=3, out_channels=10, kernel_height=2, kernel_width=3
    )
    packed = packing.panels(layer, 4)
    assert (packed.shape, packed.elements, packed.bias_elements) == ((3, 18, 4), 216, 12)
    assert packed.bytes == 896 + 48  # 864 bytes of weights, up to a cache line, and the bias
    weights = np.arange(180, dtype=np.float32).reshape(layer.weight_shape) + 1
    result = packing.pack(weights, packed)
    for m in range(12):
        for kh, kw, c in np.ndindex(2, 3, 3):
            expected = weights[m, kh, kw, c] if m < 10 else 0
            assert result[m // 4, (kh * 3 + kw) * 3 + c, m % 4] == expected
    bias = packing.pack_bias(np.arange(10, dtype=np.float32), packed)
    np.testing.assert_array_equal(bias, [*range(10), 0, 0])


def test_weights_keep_their_type_unless_they_are_transformed() -> None:
    layer = Conv2dWorkload(5, 5, 3, 10, 3, 3, weight_dtype="float16")
    weights = np.random.default_rng(0).standard_normal(layer.weight_shape).astype(np.float16)
    packed = packing.panels(layer, 4)
    assert (packed.dtype, packed.bytes) == ("float16", 704 + 48)
    assert packing.pack(weights, packed).dtype == np.float16
    identity = tuple(tuple(map(float, row)) for row in np.eye(3))
    transformed = packing.winograd(layer, 4, (identity, identity))
    assert (transformed.dtype, transformed.weight_bytes) == ("float32", 9 * 3 * 3 * 4 * 4)
    matrices = packing.pack(weights, transformed)
    assert matrices.dtype == np.float32
    assert matrices[4, 2, 1, 1] == np.float32(weights[9, 1, 1, 1])


def test_panels_channel_by_channel() -> None:
    layer = Conv2dWorkload(
        in_height=5, in_width=5, in_channels=3, out_channels=10, kernel_height=2, kernel_width=3
    )
    packed = packing.channels(layer, 4)
    assert (packed.shape, packed.elements, packed.bias_elements) == ((3, 3, 6, 4), 216, 12)
    assert not packed.is_in_place(layer)
    weights = np.arange(180, dtype=np.float32).reshape(layer.weight_shape) + 1
    result = packing.pack(weights, packed)
    for m in range(12):
        for kh, kw, c in np.ndindex(2, 3, 3):
            expected = weights[m, kh, kw, c] if m < 10 else 0
            assert result[m // 4, c, kh * 3 + kw, m % 4] == expected


def test_taps_are_as_tflite_stores_them() -> None:
    """DEPTHWISE_CONV_2D: (1, K_h, K_w, M); nothing is filled up."""
    workload = Conv2dWorkload(5, 6, 3, 6, 2, 3, groups=3)
    stored = np.arange(2 * 3 * 6, dtype=np.float32).reshape(1, 2, 3, 6)
    packed = packing.taps(workload)
    np.testing.assert_array_equal(packing.pack(stored.transpose(3, 1, 2, 0), packed), stored[0])
    assert (packed.panel, packed.bias_elements) == (1, 6)
