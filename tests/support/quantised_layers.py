"""Random layers of int8 and uint8 for models: few geometries, each with many numbers.

Kernels depend on the geometry alone, so that one of them serves all layers that differ in weights,
scales, zero points and bias. Weights are never -128 (of uint8, 0): LiteRT's kernels for Arm add
pairs of products in 16 bits, where two of the largest do not fit.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tests.support.operator_cases import fused, ints
from tests.support.operator_models import Case, Constant, Tensor
from tests.support.tflite_schema import Quantization

OPERATORS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")
ACTIVATIONS = ("none", "relu", "relu6", "relu_n1_to_1")
SAME, VALID = 0, 1
#: Shapes of input and weights, and stride, dilation and padding: around the sizes of vectors and
#: words; one column of outputs, and depthwise kernels of many taps, which have rules of their own.
SHAPES: Mapping[str, Sequence[tuple[Any, ...]]] = {
    "CONV_2D": (
        ((1, 5, 6, 16), (19, 3, 3, 16), 1, 1, SAME),
        ((2, 7, 6, 3), (17, 3, 3, 3), 2, 1, SAME),
        ((1, 4, 4, 37), (33, 1, 1, 37), 1, 1, VALID),
        ((1, 3, 3, 9), (8, 3, 3, 9), 1, 1, VALID),
        ((1, 8, 7, 8), (5, 2, 3, 8), 1, 2, VALID),
        ((1, 5, 5, 32), (16, 1, 1, 32), 3, 1, SAME),
    ),
    "DEPTHWISE_CONV_2D": (
        ((1, 6, 5, 19), (1, 3, 3, 19), 1, 1, SAME),
        ((1, 7, 7, 8), (1, 5, 5, 16), 2, 1, SAME),
        ((1, 8, 9, 5), (1, 7, 7, 5), 1, 1, SAME),
        ((2, 7, 5, 24), (1, 3, 3, 24), 2, 1, VALID),
        ((1, 9, 8, 4), (1, 3, 3, 4), 1, 2, SAME),
        ((1, 9, 8, 1), (1, 5, 3, 6), 2, 1, SAME),
    ),
    "FULLY_CONNECTED": (
        ((1, 37), (10, 37)),
        ((3, 64), (17, 64)),
        ((1, 48), (3, 48)),
        ((5, 9), (32, 9)),
    ),
    "TRANSPOSE_CONV": (
        ((2, 5, 4, 16), (9, 3, 3, 16), 2, 1, SAME),
        ((1, 4, 3, 5), (7, 5, 2, 5), 3, 1, VALID),
        ((1, 3, 5, 8), (6, 4, 4, 8), 2, 1, SAME),
        ((1, 6, 5, 32), (8, 2, 2, 32), 2, 1, VALID),
        ((1, 4, 4, 3), (4, 3, 3, 3), 1, 1, SAME),
    ),
}  # fmt: skip

#: Of convolutions that Winograd's algorithm computes, around its tiles.
WINOGRAD_SHAPES: Sequence[tuple[Any, ...]] = (
    ((1, 5, 6, 16), (19, 3, 3, 16), 1, 1, SAME),
    ((2, 7, 6, 3), (17, 3, 3, 3), 1, 1, SAME),
    ((1, 8, 8, 32), (16, 3, 3, 32), 1, 1, VALID),
    ((1, 7, 9, 9), (8, 3, 3, 9), 1, 1, SAME),
    ((1, 6, 6, 64), (33, 3, 3, 64), 1, 1, SAME),
    ((1, 3, 3, 8), (5, 3, 3, 8), 1, 1, VALID),
    ((1, 9, 4, 24), (40, 3, 3, 24), 1, 1, SAME),
    ((1, 8, 7, 8), (5, 2, 3, 8), 1, 1, SAME),
)


def has_rule(operator: str, dtype: str, rounding: str) -> bool:
    """Whether the delegate takes such layers."""
    return (operator, dtype, rounding) != ("TRANSPOSE_CONV", "int8", "builtin")


def random_layers(
    operator: str,
    dtype: str,
    each: int,
    shapes: int | None = None,
    among: Sequence[tuple[Any, ...]] | None = None,
) -> list[Case]:
    """``each`` layers of every one of the first ``shapes`` geometries, by default of SHAPES."""
    rng = np.random.default_rng(zlib.crc32(f"{operator} {dtype}".encode()))
    geometries = SHAPES[operator] if among is None else among
    return [
        _layer(rng, operator, dtype, shape, ACTIVATIONS[number % len(ACTIVATIONS)])
        for number, shape in enumerate(geometries[:shapes])
        for _ in range(each)
    ]


def _layer(
    rng: np.random.Generator,
    operator: str,
    dtype: str,
    shape: tuple[Any, ...],
    activation: str,
) -> Case:
    limits, (x_shape, w_shape, *window) = np.iinfo(dtype), shape
    axis = 3 if operator == "DEPTHWISE_CONV_2D" else 0
    channels = w_shape[axis]
    per_channel = dtype == "int8" and rng.random() < 0.6
    zeros = [_zero_point(rng, dtype) for _ in range(3)]
    zeros[1] = zeros[1] if dtype == "uint8" else 0
    if zeros[0] == zeros[1] == 0 and dtype == "uint8":
        zeros[1] = 1  # LiteRT's kernels for Armv8.0 return zeros
    weights = rng.integers(limits.min + 1, limits.max + 1, w_shape).astype(dtype)
    bias = rng.integers(-2000, 2001, channels).astype(np.int32)
    x_scale, scales, y_scale = _scales(rng, channels if per_channel else 1, np.prod(w_shape))
    own = Quantization(scales.tolist(), [zeros[1]] * len(scales), axis if per_channel else 0)
    inputs: list[Any] = [
        Tensor(x_shape, dtype, limits.min, limits.max + 1, Quantization(x_scale, zeros[0])),
        Constant(weights, own),
        Constant(bias, Quantization((np.float32(x_scale) * scales).tolist(), 0)),
    ]
    if operator == "TRANSPOSE_CONV":
        inputs = [_upsampled_shape(x_shape, w_shape, *window), inputs[1], inputs[0], inputs[2]]
    target = Tensor((), dtype, quantization=Quantization(y_scale, zeros[2]))
    options = {**_options(operator, x_shape, w_shape, window), **fused(activation)}
    return Case(operator, inputs, options, [target])


def _options(
    operator: str, x: Sequence[int], w: Sequence[int], window: Sequence[int]
) -> dict[str, int | bool]:
    if operator == "FULLY_CONNECTED":
        return {"keepNumDims": True}
    stride, dilation, padding = window
    if operator == "TRANSPOSE_CONV":
        return {"padding": padding, "strideH": stride, "strideW": stride}
    options: dict[str, int | bool] = {
        "padding": padding, "strideH": stride, "strideW": stride, "dilationHFactor": dilation,
        "dilationWFactor": dilation,
    }  # fmt: skip
    if operator == "DEPTHWISE_CONV_2D":
        options["depthMultiplier"] = w[3] // x[3]
    return options


def _upsampled_shape(
    x: Sequence[int], w: Sequence[int], stride: int, dilation: int, padding: int
) -> np.ndarray:
    del dilation
    more = [0 if padding == SAME else kernel - stride for kernel in w[1:3]]
    height, width = (size * stride + rest for size, rest in zip(x[1:3], more, strict=True))
    return ints(x[0], height, width, w[0])


def _zero_point(rng: np.random.Generator, dtype: str) -> int:
    limits = np.iinfo(dtype)
    middle = (limits.min + limits.max + 1) // 2
    drawn = int(rng.integers(limits.min, limits.max + 1))
    return int(rng.choice([limits.min, limits.max, middle, drawn]))


def _scales(rng: np.random.Generator, count: int, terms: int) -> tuple[float, np.ndarray, float]:
    """Of input, weights and output: mostly ordinary, some of ratios near or above one, or ties."""
    kind = rng.random()
    if kind < 0.25:
        powers = 2.0 ** rng.integers(-9, -5, count)
        return 2.0**-4, powers.astype(np.float32), float(2.0 ** rng.integers(-9, 0))
    x_scale = float(np.float32(rng.uniform(0.005, 0.1)))
    scales = np.exp(rng.uniform(-8, -3, count)).astype(np.float32)
    real = x_scale * float(scales.mean())
    if kind < 0.8:
        y_scale = real * 5000 * np.sqrt(terms) / rng.uniform(200, 1200)
    else:
        y_scale = real / np.exp(rng.uniform(np.log(0.2), np.log(60)))
    least = x_scale * float(scales.max()) / 200
    return x_scale, scales, float(np.float32(max(y_scale, least)))
