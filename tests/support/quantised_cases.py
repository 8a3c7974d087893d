"""Operators on codes, one case each: right to the code where codes are moved, else to one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tests.support.operator_cases import (
    ACTIVATIONS,
    IMAGE,
    TYPE,
    fused,
    ints,
    of,
    real,
    scalar,
    whole,
)
from tests.support.operator_models import Case, Constant, Tensor
from tests.support.tflite_schema import Quantization


def codes(*shape: int, scale: float = 0.05, zero: int = 3, element: str = "int8") -> Tensor:
    limits = np.iinfo(element)
    return Tensor(shape, element, limits.min, limits.max + 1, Quantization(scale, zero))


def quantised() -> Iterator[Case]:
    x, same, other = codes(*IMAGE), [codes()], [codes(scale=0.08, zero=-7)]
    pads = ints([0, 0], [1, 2], [0, 3], [2, 0])
    # Moved as they are.
    yield Case("RESHAPE", [x, ints(6, 40)], {"newShape": [6, 40]}, same)
    yield Case("TRANSPOSE", [x, ints(0, 3, 1, 2)], {}, same)
    yield Case("SPLIT", [scalar(3), x], {"numSplits": 2}, same * 2)
    yield Case("SPLIT_V", [x, ints(1, 7), scalar(3)], {"numSplits": 2}, same * 2)
    yield Case("PAD", [x, pads], {}, same)
    yield Case("PAD", [codes(*IMAGE, element="uint8"), pads], {}, [codes(element="uint8")])
    yield Case("PADV2", [x, pads, Constant(np.array(9, np.int8), Quantization(0.05, 3))], {}, same)
    yield Case("MIRROR_PAD", [x, ints([0, 0], [1, 2], [3, 0], [0, 4])], {"mode": 1}, same)
    yield Case("SLICE", [x, ints(0, 1, 2, 0), ints(1, -1, 2, 8)], {}, same)
    strided = [x, ints(0, 1, 0, 0), ints(1, 6, 5, 8), ints(1, 2, 1, 3)]
    yield Case("STRIDED_SLICE", strided, {}, same)
    yield Case("PACK", [x, x], {"axis": 1, "valuesCount": 2}, same)
    yield Case("UNPACK", [codes(2, 3, 4)], {"axis": 1, "num": 3}, same * 3)
    yield Case("GATHER", [x, whole(3, low=0, high=5)], {"axis": 2}, same)
    yield Case("CONCATENATION", [x, x], {"axis": -1, **fused("none")}, same)
    unequal = [codes(*IMAGE, element="uint8"), codes(*IMAGE, scale=0.02, zero=9, element="uint8")]
    target = [codes(element="uint8")]
    yield Case("CONCATENATION", unequal, {"axis": 3, **fused("none")}, target, codes=1)
    yield Case("SPACE_TO_BATCH_ND", [x, ints(2, 2), ints([1, 1], [0, 1])], {}, same)
    yield Case("BATCH_TO_SPACE_ND", [codes(4, 3, 2, 3), ints(2, 2), ints([1, 0], [0, 1])], {}, same)
    yield Case("DEPTH_TO_SPACE", [x], {"blockSize": 2}, same)
    yield Case("EXPAND_DIMS", [codes(2, 3), scalar(1)], {}, same)
    yield Case("SQUEEZE", [codes(1, 3, 1, 2)], {}, same)
    yield Case("RESIZE_NEAREST_NEIGHBOR", [x, ints(9, 11)], {"halfPixelCenters": True}, same)
    yield Case("MAXIMUM", [x, codes(8)], {}, same)
    yield Case("REDUCE_MAX", [x, ints(1, 2)], {"keepDims": True}, same)
    yield Case("ARG_MAX", [x, scalar(3)], {"outputType": TYPE.INT32}, of("int32"))
    yield Case("TILE", [codes(2, 3), ints(2, 2)], {}, same)
    # Computed in real numbers, to one code.
    for name in ("RELU", "RELU6", "TANH", "LOGISTIC", "HARD_SWISH"):
        target = [codes(scale=1 / 128, zero=0)] if name == "TANH" else other
        target = [codes(scale=1 / 256, zero=-128)] if name == "LOGISTIC" else target
        yield Case(name, [x], {}, target, codes=1)
    yield Case("LEAKY_RELU", [x], {"alpha": 0.3}, other, codes=1)
    yield Case(
        "PRELU",
        [x, Constant(np.arange(8, dtype=np.int8), Quantization(0.1, 2))],
        {},
        other,
        codes=1,
    )
    yield Case("SOFTMAX", [x], {"beta": 1.5}, [codes(scale=1 / 256, zero=-128)], codes=1)
    for activation in ACTIVATIONS:
        yield Case("ADD", [x, codes(*IMAGE, scale=0.1)], fused(activation), other, codes=1)
        yield Case("MUL", [x, codes(1, 1, 1, 8, scale=0.02)], fused(activation), other, codes=1)
    yield Case("SUB", [x, codes(*IMAGE, scale=0.1)], fused("none"), other, codes=1)
    yield Case("MEAN", [x, ints(1, 2)], {"keepDims": True}, other, codes=1)
    yield Case("SUM", [x, ints(1)], {"keepDims": True}, [codes(scale=0.3)], codes=1)
    yield Case("QUANTIZE", [real(*IMAGE)], {}, same, codes=1)
    yield Case("QUANTIZE", [x], {}, other, codes=1)
    yield Case("DEQUANTIZE", [x], roundings=2)
    for element in ("EQUAL", "LESS"):
        yield Case(element, [x, x], {}, of("bool"))
    pool = {"padding": 0, "strideH": 2, "strideW": 1, "filterHeight": 3, "filterWidth": 2}
    for activation in ("none", "relu6"):
        yield Case("MAX_POOL_2D", [x], {**pool, **fused(activation)}, same)
        yield Case("AVERAGE_POOL_2D", [x], {**pool, **fused(activation)}, same, codes=1)
    yield Case("RESIZE_BILINEAR", [x, ints(9, 11)], {"halfPixelCenters": True}, same, codes=1)
    yield Case("L2_NORMALIZATION", [x], fused("none"), [codes(scale=1 / 128, zero=0)], codes=1)
    yield from _quantised_layers(x)


def _quantised_layers(x: Tensor) -> Iterator[Case]:
    rng, target = np.random.default_rng(1), [codes(scale=0.4, zero=-7)]

    def weights(*shape: int, axis: int) -> tuple[Constant, Constant]:
        scales = rng.uniform(0.01, 0.03, shape[axis])
        biases = rng.integers(-500, 500, shape[axis]).astype(np.int32)
        stored = rng.integers(-127, 128, shape).astype(np.int8)
        own = Quantization(scales.tolist(), 0, axis)
        return Constant(stored, own), Constant(biases, Quantization((0.05 * scales).tolist()))

    window = {"strideH": 1, "strideW": 1, "padding": 0, "dilationHFactor": 1, "dilationWFactor": 1}
    for activation in ("none", "relu6"):
        options = {**window, **fused(activation)}
        yield Case("CONV_2D", [x, *weights(6, 3, 3, 8, axis=0)], options, target, codes=1)
        options = {**options, "depthMultiplier": 2}
        yield Case(
            "DEPTHWISE_CONV_2D", [x, *weights(1, 3, 3, 16, axis=3)], options, target, codes=1
        )
        options = {"keepNumDims": True, **fused(activation)}
        yield Case("FULLY_CONNECTED", [x, *weights(5, 8, axis=0)], options, target, codes=1)
    matrices = [codes(2, 3, 8), codes(2, 8, 5, scale=0.03, zero=-4)]
    yield Case("BATCH_MATMUL", matrices, {"adjX": False}, target, codes=1)
