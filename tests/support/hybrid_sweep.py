"""Random hybrid layers for models: few geometries, each with many numbers.

A kernel depends on the geometry and on the rule alone, so that one of them serves all layers that
differ in weights, scales, bias and images.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tests.support.hybrid_models import SIGNS, HybridLayer
from tests.support.tflite_writer import Conv

#: Around the sizes of vectors and words; pixels alone, and what has a rule of its own: one channel
#: of both image and output, TFLite's depthwise kernel of 3x3 for Arm, and its matrix products that
#: are whole or large.
SHAPES: Mapping[str, Sequence[tuple[Any, ...]]] = {
    # Input; output channels, kernel, stride, dilation, padding.
    "CONV_2D": (
        ((1, 5, 6, 16), 19, (3, 3), (1, 1), (1, 1), "SAME"),
        ((1, 4, 4, 37), 33, (1, 1), (1, 1), (1, 1), "VALID"),
        ((2, 7, 6, 3), 17, (3, 3), (2, 2), (1, 1), "SAME"),
        ((1, 3, 3, 9), 8, (3, 3), (1, 1), (1, 1), "VALID"),
        ((1, 8, 7, 8), 5, (2, 3), (1, 1), (2, 2), "SAME"),
        ((1, 5, 5, 32), 16, (1, 1), (3, 3), (1, 1), "SAME"),
        ((2, 4, 3, 64), 32, (1, 1), (1, 1), (1, 1), "SAME"),
        ((1, 6, 9, 1), 4, (5, 5), (1, 2), (1, 1), "SAME"),
        ((1, 4, 5, 1), 1, (1, 1), (1, 1), (1, 1), "VALID"),
        ((1, 7, 7, 24), 12, (3, 3), (2, 2), (1, 1), "VALID"),
    ),
    # The same.
    "DEPTHWISE_CONV_2D": (
        ((1, 6, 5, 19), 19, (3, 3), (1, 1), (1, 1), "SAME"),
        ((1, 6, 6, 16), 16, (3, 3), (1, 1), (1, 1), "SAME"),
        ((1, 7, 7, 8), 16, (5, 5), (2, 2), (1, 1), "SAME"),
        ((1, 8, 9, 5), 5, (7, 7), (1, 1), (1, 1), "SAME"),
        ((2, 7, 5, 24), 24, (3, 3), (2, 2), (1, 1), "VALID"),
        ((1, 9, 8, 4), 4, (3, 3), (1, 1), (2, 2), "SAME"),
        ((1, 6, 6, 32), 32, (3, 3), (2, 2), (1, 1), "SAME"),
        ((1, 5, 7, 3), 12, (3, 3), (1, 1), (1, 1), "SAME"),
        ((1, 6, 7, 12), 12, (2, 3), (1, 2), (1, 1), "VALID"),
        ((1, 5, 1, 8), 8, (3, 3), (1, 1), (1, 1), "SAME"),
    ),
    # Input and output channels.
    "FULLY_CONNECTED": (
        ((1, 37), 10), ((3, 64), 17), ((1, 48), 3), ((5, 9), 32), ((4, 32), 32),
        ((8, 16), 8), ((2, 128), 128), ((1, 1), 1), ((4, 48), 7), ((2, 16), 2),
    ),
}  # fmt: skip
ACTIVATIONS = ("none", "relu", "relu6", "relu_n1_to_1")


def swept_layers(kind: str, each: int, shapes: int | None = None) -> list[HybridLayer]:
    """``each`` layers of every one of the first ``shapes`` geometries."""
    seed = zlib.crc32(kind.encode())
    rng = np.random.default_rng(seed)
    return [
        _layer(rng, kind, shape, ACTIVATIONS[number % len(ACTIVATIONS)], seed + 2 * count)
        for number, shape in enumerate(SHAPES[kind][:shapes])
        for count in range(number * each, (number + 1) * each)
    ]


def _layer(
    rng: np.random.Generator, kind: str, shape: tuple[Any, ...], activation: str, seed: int
) -> HybridLayer:
    x, outputs, *window = shape
    conv = Conv(outputs, (1, 1), activation=activation)
    if window:
        kernel, stride, dilation, padding = window
        depthwise = kind == "DEPTHWISE_CONV_2D"
        conv = Conv(outputs, kernel, stride, dilation, padding, activation, depthwise=depthwise)
    return HybridLayer(
        x, conv, kind,
        per_channel=bool(rng.integers(2)),
        asymmetric=bool(rng.integers(2)),
        sign=str(rng.choice(["both", "both", *SIGNS, "halves", "halves"])),
        seed=seed,
        spread=float(rng.choice([3.0, np.exp(rng.uniform(-9, 9))])),
    )  # fmt: skip
