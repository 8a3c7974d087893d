"""Operators and their options, one case each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tests.support.operator_models import Case, Tensor

IMAGE = (1, 6, 5, 8)
ACTIVATIONS = ("none", "relu", "relu6", "relu_n1_to_1")
#: Errors of functions of the C library and of TVM's polynomials, in roundings.
FUNCTION = 4
#: The same of the delegate's hyperbolic tangent (see exponential.h).
TANH = 7
TYPE = schema.TensorType


def real(*shape: int, low: float = -2.0, high: float = 2.0) -> Tensor:
    return Tensor(shape, "float32", low, high)


def whole(*shape: int, low: int = -9, high: int = 10, element: str = "int32") -> Tensor:
    return Tensor(shape, element, low, high)


def truth(*shape: int) -> Tensor:
    return Tensor(shape, "bool", 0, 2)


def ints(*values: Any) -> np.ndarray:
    return np.array(values, np.int32)


def longs(*values: Any) -> np.ndarray:
    return np.array(values, np.int64)


def scalar(value: Any, element: str = "int32") -> np.ndarray:
    return np.array(value, element)


def floats(*shape: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.uniform(0.5, 2.0, shape).astype(np.float32)


def of(*elements: str) -> list[Tensor]:
    """Outputs of these types."""
    return [Tensor(element_type=element) for element in elements]


def fused(activation: str) -> dict[str, Any]:
    return {"fusedActivationFunction": activation}


def elements() -> Iterator[Case]:
    x = real(*IMAGE)
    for name in ("ABS", "CEIL", "FLOOR", "NEG", "RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1"):
        yield Case(name, [real(*IMAGE, low=-8, high=8)])
    for name in ("COS", "SIN", "EXP", "LOGISTIC", "ELU", "HARD_SWISH", "SIGN", "SQUARE"):
        yield Case(name, [real(*IMAGE, low=-4, high=4)], roundings=FUNCTION)
    yield Case("TANH", [real(*IMAGE, low=-4, high=4)], roundings=TANH)
    yield Case("ROUND", [Tensor(IMAGE, "float32", -8, 8)])
    yield Case("ROUND", [np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5], np.float32)])
    for name in ("LOG", "SQRT", "RSQRT"):
        yield Case(name, [real(*IMAGE, low=0.1, high=8)], roundings=FUNCTION)
    for approximate in (False, True):
        yield Case(
            "GELU", [real(*IMAGE, low=-4, high=4)], {"approximate": approximate}, roundings=8
        )
    for alpha in (0.2, -0.5, 1.5):
        yield Case("LEAKY_RELU", [x], {"alpha": alpha})
    yield Case("PRELU", [x, floats(8)])
    yield Case("PRELU", [x, floats(1, 5, 1)])
    for beta in (1.0, 2.5, 0.3):
        yield Case("SOFTMAX", [x], {"beta": beta}, roundings=8 * FUNCTION)
    yield Case("SOFTMAX", [real(3, 9)], {"beta": 0.5}, roundings=8 * FUNCTION)
    yield Case("SOFTMAX", [real(7)], {"beta": 2.0}, roundings=8 * FUNCTION)
    yield Case("LOG_SOFTMAX", [real(3, 9)], roundings=8 * FUNCTION)
    for activation in ACTIVATIONS:
        for name in ("ADD", "SUB", "MUL", "DIV"):
            divisor = real(*IMAGE, low=0.5) if name == "DIV" else real(*IMAGE)
            yield Case(
                name, [real(*IMAGE, low=-9, high=9), divisor], fused(activation), roundings=1
            )
    yield Case("ADD", [x, x], {"potScaleInt16": False})
    yield Case("ADD", [real(2, 1, 3, 1, 5, 4), real(3, 2, 1, 4)], fused("relu"))
    yield Case("MUL", [real(2, 1, 3, 1, 5), real(1, 4, 3, 2, 5)], fused("none"))
    yield Case("SUB", [real(8), real(2, 3, 8)], fused("none"))
    yield Case("ADD", [whole(2, 7), whole(7)], fused("relu6"), of("int32"))
    yield Case("SUB", [whole(2, 7, element="int64"), longs(3)], fused("none"), of("int64"))
    yield Case("MUL", [whole(2, 7), ints(3)], fused("relu"), of("int32"))
    yield Case("DIV", [whole(40), whole(40, low=1)], fused("none"), of("int32"))
    yield Case("ADD_N", [x, real(*IMAGE), real(*IMAGE)], roundings=2)
    for name in ("MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE"):
        yield Case(name, [x, real(5, 1)], roundings=1)
        yield Case(name, [whole(3, 4), whole(4)], outputs=of("int32"))
    yield Case("ATAN2", [x, real(*IMAGE)], roundings=FUNCTION)
    yield Case("POW", [real(*IMAGE, low=0.5), real(*IMAGE)], roundings=2 * FUNCTION)
    yield Case("FLOOR_DIV", [real(*IMAGE, low=-9, high=9), real(*IMAGE, low=0.5)])
    yield Case("FLOOR_DIV", [whole(40), whole(40, low=-5, high=0)], outputs=of("int32"))
    yield Case("FLOOR_MOD", [real(*IMAGE, low=-9, high=9), real(8, low=-2, high=-0.5)])
    yield Case("FLOOR_MOD", [whole(40), whole(40, low=1)], outputs=of("int32"))
    yield Case("FLOOR_MOD", [whole(40, element="int64"), longs(-3)], outputs=of("int64"))
    for name in ("EQUAL", "NOT_EQUAL", "LESS", "LESS_EQUAL", "GREATER", "GREATER_EQUAL"):
        yield Case(name, [whole(4, 9, low=0, high=3), whole(9, low=0, high=3)], outputs=of("bool"))
        yield Case(name, [x, real(8)], outputs=of("bool"))
    yield Case("LOGICAL_AND", [truth(4, 9), truth(9)], outputs=of("bool"))
    yield Case("LOGICAL_OR", [truth(4, 9), truth(4, 1)], outputs=of("bool"))
    yield Case("LOGICAL_NOT", [truth(4, 9)], outputs=of("bool"))
    yield Case("BITWISE_XOR", [whole(4, 9), whole(4, 9)], outputs=of("int32"))
    yield Case("RIGHT_SHIFT", [whole(4, 9), whole(4, 9, low=0, high=5)], outputs=of("int32"))
    yield Case("SELECT", [truth(6), real(6, 4), real(6, 4)])
    yield Case("SELECT", [truth(6, 4), real(6, 4), real(6, 4)])
    yield Case("SELECT_V2", [truth(6, 1), real(4), real(6, 4)])
    yield Case("SELECT_V2", [truth(4), whole(6, 4), ints(7)], outputs=of("int32"))
    for source, target in (
        ("float32", "int32"),
        ("float32", "int8"),
        ("int32", "float32"),
        ("int64", "int32"),
        ("int32", "bool"),
        ("bool", "float32"),
        ("uint8", "float32"),
        ("float32", "float16"),
        ("int8", "int64"),
    ):
        low, high = (0, 2) if source == "bool" else (0 if source == "uint8" else -9, 10)
        types = {
            f"{side}DataType": getattr(TYPE, t.upper())
            for side, t in (("in", source), ("out", target))
        }
        yield Case("CAST", [Tensor((3, 7), source, low, high)], types, of(target))
    yield Case("BUCKETIZE", [real(40)], {"boundaries": [-1.0, 0.0, 0.5]}, of("int32"))
    for bits in (4, 8):
        limits = {"min": -1.0, "max": 1.5, "numBits": bits, "narrowRange": False}
        yield Case("FAKE_QUANT", [x], limits, roundings=4)


def reductions() -> Iterator[Case]:
    for keep in (False, True):
        for name, axes in (
            ("MEAN", ints(1, 2)),
            ("MEAN", ints(-1)),
            ("SUM", ints(-1, 1)),
            ("SUM", scalar(2)),
            ("REDUCE_MAX", ints(1, 1, 2)),
            ("REDUCE_MIN", ints(-3)),
            ("REDUCE_PROD", ints(2, 3)),
            ("MEAN", ints(0, 1, 2, 3)),
        ):
            yield Case(name, [real(*IMAGE), axes], {"keepDims": keep}, roundings=240)
        yield Case("REDUCE_ANY", [truth(3, 4, 2), ints(1)], {"keepDims": keep}, of("bool"))
        yield Case("REDUCE_ALL", [truth(3, 4, 2), ints(-1)], {"keepDims": keep}, of("bool"))
    yield Case("SUM", [whole(3, 4), ints(1)], {"keepDims": False}, of("int32"))
    yield Case("MEAN", [whole(3, 4), ints(1)], {"keepDims": False}, of("int32"))
    yield Case("REDUCE_MAX", [whole(3, 4, element="int64"), ints(0)], {}, of("int64"))
    for name in ("ARG_MAX", "ARG_MIN"):
        for axis in (scalar(-1), scalar(1), ints(0)):
            for element in ("int32", "int64"):
                options = {"outputType": getattr(TYPE, element.upper())}
                tensor = whole(4, 6, 5, low=0, high=4)
                yield Case(name, [tensor, axis], options, of(element))
    yield Case("ARG_MAX", [real(*IMAGE), scalar(3)], {"outputType": TYPE.INT64}, of("int64"))
    for exclusive in (False, True):
        for reverse in (False, True):
            options = {"exclusive": exclusive, "reverse": reverse}
            yield Case("CUMSUM", [real(3, 4, 5), scalar(1)], options, roundings=4)
            yield Case("CUMSUM", [whole(3, 4), scalar(-1)], options, of("int32"))
    yield Case("TOPK_V2", [real(3, 9), scalar(4)], outputs=of("float32", "int32"))
    yield Case("TOPK_V2", [whole(3, 9, low=0, high=3), scalar(9)], outputs=of("int32", "int32"))
    yield Case("TOPK_V2", [real(9), scalar(1)], outputs=of("float32", "int32"))


def movement() -> Iterator[Case]:
    x = real(*IMAGE)
    yield Case("RESHAPE", [x, ints(3, -1, 4)], {"newShape": [3, 20, 4]})
    yield Case("RESHAPE", [x], {"newShape": [6, 40]})
    yield Case("SQUEEZE", [real(1, 3, 1, 4)])
    yield Case("SQUEEZE", [real(1, 3, 1, 4)], {"squeezeDims": [2]})
    yield Case("SQUEEZE", [real(1, 3, 1, 4)], {"squeezeDims": [-4, 2]})
    for axis in (scalar(0), ints(-1), scalar(2)):
        yield Case("EXPAND_DIMS", [real(2, 3, 4), axis])
    yield Case("TRANSPOSE", [x, ints(0, 3, 1, 2)])
    yield Case("TRANSPOSE", [whole(2, 3, 4), ints(2, 0, 1)], outputs=of("int32"))
    yield Case("TRANSPOSE", [real(2, 3, 4, 5, 2), ints(4, 1, 0, 3, 2)])
    for joined in (3, -1, -2):
        yield Case("CONCATENATION", [x, real(*IMAGE)], {"axis": joined, **fused("none")})
    yield Case("CONCATENATION", [real(2, 3), floats(4, 3)], {"axis": 0, **fused("none")})
    for packed in (0, 1, -1):
        yield Case("PACK", [real(3, 4), floats(3, 4)], {"axis": packed, "valuesCount": 2})
        outputs = of(*["float32"] * (3, 4, 5)[packed])
        yield Case("UNPACK", [real(3, 4, 5)], {"axis": packed, "num": len(outputs)}, outputs)
    for split in (1, -1):
        halves = of("float32", "float32")
        yield Case("SPLIT", [scalar(split), real(2, 4, 6)], {"numSplits": 2}, halves)
    yield Case("SPLIT", [scalar(3), real(*IMAGE)], {"numSplits": 4}, of(*["float32"] * 4))
    sizes = [real(2, 7), ints(3, -1, 2), scalar(-1)]
    yield Case("SPLIT_V", sizes, {"numSplits": 3}, of(*["float32"] * 3))
    yield Case("TILE", [real(2, 3), ints(2, 3)])
    yield Case("TILE", [whole(2, 3, element="int64"), ints(1, 2)], outputs=of("int64"))
    yield Case("BROADCAST_TO", [real(3, 1), ints(2, 3, 4)])
    yield Case("REVERSE_V2", [real(3, 4, 5), ints(1)])
    yield Case("REVERSE_V2", [real(3, 4, 5), ints(-1)])
    lengths = ints(1, 4, 0)
    yield Case("REVERSE_SEQUENCE", [real(3, 4, 2), lengths], {"seqDim": 1, "batchDim": 0})
    lengths_in = whole(2, low=0, high=4)
    yield Case("REVERSE_SEQUENCE", [real(3, 2, 4), lengths_in], {"seqDim": 0, "batchDim": 1})
    yield Case("SPACE_TO_DEPTH", [real(1, 4, 6, 3)], {"blockSize": 2})
    yield Case("DEPTH_TO_SPACE", [x], {"blockSize": 2})
    pads, crops = ints([1, 2], [0, 1]), ints([0, 1], [1, 0])
    yield Case("SPACE_TO_BATCH_ND", [real(2, 6, 5, 3), ints(3, 2), pads])
    yield Case("BATCH_TO_SPACE_ND", [real(6, 2, 3, 3), ints(2, 3), crops])
    yield Case("SPACE_TO_BATCH_ND", [real(2, 6, 5), ints(2), ints([1, 1])])
    yield Case("FILL", [ints(2, 3), scalar(1.5, "float32")])
    yield Case("ZEROS_LIKE", [whole(2, 3)], outputs=of("int32"))
    for element in ("int32", "int64"):
        options = {"outType": getattr(TYPE, element.upper())}
        yield Case("SHAPE", [real(2, 3, 4)], options, of(element))
    yield Case("RANK", [real(2, 3, 4)], outputs=of("int32"))
    yield Case("RANGE", [scalar(2), scalar(11), scalar(3)], outputs=of("int32"))
    bounds = [scalar(value, "float32") for value in (1.0, -1.0, -0.3)]
    yield Case("RANGE", bounds, roundings=2)
    yield Case("MATRIX_DIAG", [real(2, 3)])
    yield Case("MATRIX_SET_DIAG", [real(2, 3, 4), real(2, 3)])
    yield Case("MATRIX_SET_DIAG", [real(4, 3), real(3)])


def slices() -> Iterator[Case]:
    yield Case("SLICE", [real(*IMAGE), ints(0, 1, 2, 0), ints(1, -1, 2, 8)])
    yield Case("SLICE", [whole(4, 5), longs(1, 0), longs(2, 3)], outputs=of("int32"))
    steps = ("begin", "end", "ellipsis", "newAxis", "shrinkAxis")
    for begin, end, stride, masks in (
        ((1, -3), (-1, 5), (1, 2), (0, 0, 0, 0, 0)),
        ((1, 1), (3, 3), (1, 1), (1, 2, 0, 0, 0)),
        ((-1, 3), (-9, 0), (-1, -2), (0, 1, 0, 0, 0)),
        ((1, 2), (0, 4), (1, 1), (0, 0, 0, 0, 1)),
        ((-2, 0), (0, 4), (1, 3), (2, 0, 0, 0, 1)),
        ((0, 0, 1), (0, 0, 3), (1, 1, 1), (0, 0, 1, 2, 0)),
        ((0, 0, 0), (0, 0, 9), (1, 1, 2), (0, 0, 2, 1, 0)),
    ):
        options = {f"{step}Mask": mask for step, mask in zip(steps, masks, strict=True)}
        operands = [ints(*begin), ints(*end), ints(*stride)]
        yield Case("STRIDED_SLICE", [real(4, 5, 6), *operands], options)
        yield Case("STRIDED_SLICE", [real(4, 5, 6, 2), *operands], options)
    offset = [real(4, 5), ints(1, 2), ints(2, 2), ints(1, 1)]
    yield Case("STRIDED_SLICE", offset, {"offset": True})
    pads = ints([0, 0], [1, 2], [0, 3], [2, 0])
    yield Case("PAD", [real(*IMAGE), pads])
    yield Case("PADV2", [real(*IMAGE), pads, scalar(-1.5, "float32")])
    yield Case("PAD", [whole(3, 4), longs([1, 0], [0, 2])], outputs=of("int32"))
    yield Case("PADV2", [whole(3, 4), ints([1, 0], [0, 2]), scalar(7)], outputs=of("int32"))
    for mode in (0, 1):
        mirrored = ints([0, 0], [1, 2], [3, 0], [0, 4])
        yield Case("MIRROR_PAD", [real(*IMAGE), mirrored], {"mode": mode})
        yield Case("MIRROR_PAD", [whole(3, 4), ints([2, 1], [0, 3])], {"mode": mode}, of("int32"))


def indexing() -> Iterator[Case]:
    for axis, batch in ((0, 0), (1, 0), (-1, 0), (1, 1), (2, 1), (3, 2)):
        indices = whole(1, 6, 3, low=0, high=5)
        indices = whole(3, low=0, high=1) if not batch and axis == 0 else indices
        yield Case("GATHER", [real(*IMAGE), indices], {"axis": axis, "batchDims": batch})
    yield Case(
        "GATHER", [whole(9, element="int64"), longs([1, 8], [0, 3])], {"axis": 0}, of("int64")
    )
    yield Case("GATHER_ND", [real(3, 4, 5), whole(2, 6, 2, low=0, high=3)])
    yield Case("GATHER_ND", [real(3, 4, 5), longs([2, 3, 4], [0, 0, 1])])
    yield Case("EMBEDDING_LOOKUP", [whole(5, low=0, high=7), floats(7, 4)])
    yield Case("SCATTER_ND", [ints([0], [3], [0]), real(3, 4), ints(5, 4)], roundings=1)
    pairs = whole(6, 2, low=0, high=3)
    yield Case("SCATTER_ND", [pairs, whole(6), ints(3, 4)], outputs=of("int32"))
    for axis in (-1, 0, 1):
        levels = [scalar(4), scalar(2.5, "float32"), scalar(-1.0, "float32")]
        yield Case("ONE_HOT", [whole(3, 5, low=-1, high=6), *levels], {"axis": axis})
    yield Case(
        "ONE_HOT",
        [whole(3, element="int64"), scalar(4), scalar(1), scalar(0)],
        {"axis": -1},
        of("int32"),
    )
    for starts in (whole(3, low=-3, high=9), ints(1, 0, 3)):
        yield Case("DYNAMIC_UPDATE_SLICE", [real(4, 5, 6), real(2, 5, 3), starts])


def windows() -> Iterator[Case]:
    for name in ("MAX_POOL_2D", "AVERAGE_POOL_2D", "L2_POOL_2D"):
        for number, activation in enumerate(ACTIVATIONS):
            options = {
                "padding": number % 2,
                "strideH": 1 + number % 2,
                "strideW": 2 - number % 2,
                "filterHeight": 3 - number % 2,
                "filterWidth": 2 + number % 2,
                **fused(activation),
            }
            x = real(*IMAGE, low=-9, high=9)
            yield Case(name, [x], options, roundings=0 if name[0] == "M" else 12)
    yield Case("L2_NORMALIZATION", [real(*IMAGE)], fused("none"), roundings=12)
    yield Case("L2_NORMALIZATION", [np.zeros((2, 3), np.float32)], fused("none"), roundings=12)
    for radius in (1, 5):
        options = {"radius": radius, "bias": 1.5, "alpha": 0.3, "beta": 0.75}
        yield Case("LOCAL_RESPONSE_NORMALIZATION", [real(*IMAGE)], options, roundings=16)
    for align, half in ((False, False), (True, False), (False, True)):
        for size in (ints(9, 11), ints(3, 4), ints(12, 1)):
            options = {"alignCorners": align, "halfPixelCenters": half}
            yield Case("RESIZE_BILINEAR", [real(*IMAGE), size], options, roundings=64)
            yield Case("RESIZE_NEAREST_NEIGHBOR", [real(*IMAGE), size], options)


def layers() -> Iterator[Case]:
    x = real(*IMAGE)
    for strides, dilations, padding, activation in zip(
        ((1, 1), (2, 1), (1, 2), (1, 1)),
        ((2, 1), (1, 1), (1, 1), (1, 2)),
        (0, 0, 1, 1),
        ACTIVATIONS,
        strict=True,
    ):
        options = {"strideH": strides[0], "strideW": strides[1], "padding": padding}
        options |= {"dilationHFactor": dilations[0], "dilationWFactor": dilations[1]}
        options |= fused(activation)
        yield Case("CONV_2D", [x, floats(6, 3, 3, 8), floats(6)], options, roundings=100)
        depthwise = [x, floats(1, 3, 2, 16), floats(16)]
        options = {**options, "depthMultiplier": 2}
        yield Case("DEPTHWISE_CONV_2D", depthwise, options, roundings=20)
    options = {"strideH": 1, "strideW": 1, "padding": 1, **fused("none")}
    options |= {"dilationHFactor": 1, "dilationWFactor": 1}
    yield Case("CONV_2D", [x, floats(8, 3, 3, 2), floats(8)], options, roundings=40)
    single = [real(1, 6, 5, 1), floats(1, 3, 2, 4), floats(4)]
    yield Case("DEPTHWISE_CONV_2D", single, {**options, "depthMultiplier": 4}, roundings=20)
    volume = real(1, 5, 7, 6, 3)
    for number, activation in enumerate(ACTIVATIONS):
        steps = {"strideD": 1 + number % 2, "strideH": 1 + number // 2, "strideW": 2 - number % 2}
        steps |= {f"dilation{axis}Factor": 1 + number % 2 for axis in "DHW"}
        options = {**steps, "padding": number // 2, **fused(activation)}
        weights = [floats(2, 3, 2, 3, 4), *([floats(4)] if number % 2 else [])]
        yield Case("CONV_3D", [volume, *weights], options, roundings=100)
    for number, activation in enumerate(ACTIVATIONS):
        strides, size = ((2, 1), (12, 5)) if number % 2 else ((1, 2), (8, 11))
        options = {"strideH": strides[0], "strideW": strides[1], "padding": 1 - number % 2}
        operands = [ints(1, *size, 4), floats(4, 3, 3, 8), x, *([floats(4)] if number // 2 else [])]
        yield Case("TRANSPOSE_CONV", operands, {**options, **fused(activation)}, roundings=100)
    for activation in ACTIVATIONS:
        yield Case(
            "FULLY_CONNECTED",
            [real(3, 8), floats(5, 8), floats(5)],
            fused(activation),
            roundings=20,
        )
    for shape, depth, keep in (
        ((8,), 8, False),
        ((2, 3, 8), 8, False),
        ((2, 3, 8), 8, True),
        ((1, 2, 2, 4), 16, False),
        ((1, 2, 3, 8), 8, True),
        ((2, 3, 4), 12, False),
    ):
        operands = [real(*shape), floats(5, depth), None]
        yield Case(
            "FULLY_CONNECTED", operands, {"keepNumDims": keep, **fused("relu")}, roundings=40
        )
    for adj_x in (False, True):
        for adj_y in (False, True):
            a = real(2, 4, 3) if adj_x else real(2, 3, 4)
            b = real(2, 5, 4) if adj_y else real(2, 4, 5)
            yield Case("BATCH_MATMUL", [a, b], {"adjX": adj_x, "adjY": adj_y}, roundings=16)
    wide = [real(2, 1, 3, 4), real(3, 4, 2)]
    yield Case("BATCH_MATMUL", wide, {"asymmetricQuantizeInputs": True}, roundings=16)
    yield Case("BATCH_MATMUL", [real(2, 3, 4), floats(4, 5)], {}, roundings=32)
