"""Random operators on codes of 8 bits, each behind a convolution that copies and a QUANTIZE.

Only what is joined to a claimed layer is claimed; see
:mod:`tests.tflite_delegate.csrc.operators.operator_cases`, whose images these are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.support.operator_models import Constant, identity
from tests.support.tflite_schema import PADDINGS, Quantization
from tests.support.tflite_writer import ModelWriter

Array = NDArray[Any]
Shape = tuple[int, ...]
#: Images of the convolutions in front.
IMAGES = ((9, 7, 12), (6, 5, 77), (11, 10, 3), (1, 1, 12), (4, 4, 64))
ACTIVATIONS = ("none", "relu", "relu6", "relu_n1_to_1")


@dataclass(frozen=True)
class Codes:
    """A tensor of codes, or of float32 numbers if it has no scale."""

    shape: Shape
    dtype: str
    scale: float | None = None
    zero: int = 0

    @property
    def quantization(self) -> Quantization | None:
        return None if self.scale is None else Quantization(self.scale, self.zero)

    def draw(self, rng: np.random.Generator) -> Array:
        """Codes, with many at both ends; or numbers, with many at halves of binary scales."""
        if self.scale is None:
            numbers = rng.uniform(-1.5, 1.5, self.shape)
            rounded = np.round(numbers * 1024) / 1024
            return np.where(rng.random(self.shape) < 0.5, numbers, rounded).astype(np.float32)
        limits = np.iinfo(self.dtype)
        drawn = rng.integers(limits.min, limits.max + 1, self.shape)
        ends = rng.choice([limits.min, limits.max], self.shape)
        return np.where(rng.random(self.shape) < 0.1, ends, drawn).astype(self.dtype)

    def numbers(self, codes: Array) -> Array:
        """What codes stand for, in float32: a QUANTIZE makes these codes of them again."""
        assert self.scale is not None
        return (codes.astype(np.float32) - np.float32(self.zero)) * np.float32(self.scale)


#: An input of the model, or a constant.
Operand = Codes | Array | Constant


@dataclass(frozen=True)
class CodedCase:
    """One operator.

    Parameters
    ----------
    operator : str
        As in the schema.
    inputs : sequence of Codes, array or Constant
        Inputs of the model and constants.
    outputs : sequence of Codes
        With the shapes of the operator's outputs.
    options : mapping
        Fields of its options.
    data : int
        Which input is behind the convolution; an image.
    """

    operator: str
    inputs: Sequence[Operand]
    outputs: Sequence[Codes]
    options: Mapping[str, Any] = field(default_factory=dict)
    data: int = 0

    @property
    def nodes(self) -> int:
        """How many nodes of the model are not convolutions."""
        (x,) = (self.inputs[self.data],)
        assert isinstance(x, Codes)
        return 1 if x.scale is None else 2

    def add(self, writer: ModelWriter) -> tuple[list[int], list[int]]:
        """Write the nodes; the inputs of the model, and the outputs."""
        inputs, operands = [], []
        for number, value in enumerate(self.inputs):
            if isinstance(value, Constant):
                operands.append(writer.constant(value.codes, value.quantization))
            elif isinstance(value, Codes) and number == self.data:
                inputs.append(writer.tensor(value.shape))
                operands.append(identity(writer, inputs[-1], value.shape))
                if value.scale is not None:
                    operands[-1] = _quantised(writer, operands[-1], value)
            elif isinstance(value, Codes):
                inputs.append(_tensor(writer, value))
                operands.append(inputs[-1])
            else:
                operands.append(writer.constant(value))
        outputs = [_tensor(writer, output) for output in self.outputs]
        writer.add(self.operator, operands, outputs, **self.options)
        return inputs, outputs

    def draw(self, rng: np.random.Generator) -> list[Array]:
        """The inputs of the model."""
        drawn = []
        for number, value in enumerate(self.inputs):
            if isinstance(value, Codes):
                codes = value.draw(rng)
                is_seed = number == self.data and value.scale is not None
                drawn.append(value.numbers(codes) if is_seed else codes)
        return drawn


def model(cases: Sequence[CodedCase]) -> bytes:
    """All cases side by side."""
    writer = ModelWriter()
    inputs: list[int] = []
    outputs: list[int] = []
    for case in cases:
        own_inputs, own_outputs = case.add(writer)
        inputs += own_inputs
        outputs += own_outputs
    return writer.finish(inputs, outputs)


def _tensor(writer: ModelWriter, codes: Codes) -> int:
    return writer.tensor(codes.shape, codes.dtype, quantization=codes.quantization)


def _quantised(writer: ModelWriter, numbers: int, codes: Codes) -> int:
    output = _tensor(writer, codes)
    writer.add("QUANTIZE", [numbers], [output])
    return output


# Random cases


def codes(
    rng: np.random.Generator, shape: Shape, dtype: str, low: float = 0.003, high: float = 0.3
) -> Codes:
    """Of a scale between these and any zero point, often at an end."""
    limits = np.iinfo(dtype)
    zero = rng.choice([limits.min, limits.max, (limits.min + limits.max + 1) // 2])
    if rng.random() < 0.6:
        zero = rng.integers(limits.min, limits.max + 1)
    scale = np.exp(rng.uniform(np.log(low), np.log(high)))
    if rng.random() < 0.25:  # powers of two make halves
        scale = 2.0 ** np.round(np.log2(scale))
    return Codes(shape, dtype, float(np.float32(scale)), int(zero))


def image(rng: np.random.Generator) -> Shape:
    return (int(rng.integers(1, 3)), *IMAGES[rng.integers(len(IMAGES))])


def like(x: Codes, shape: Shape) -> Codes:
    """Another shape, the same numbers."""
    return Codes(shape, x.dtype, x.scale, x.zero)


def _stretched(rng: np.random.Generator, shape: Shape) -> Shape:
    """The shape of another operand: the same, a vector of channels, or with axes of one element."""
    form = rng.integers(4)
    if form == 0:
        return shape[-1:]
    if form == 1:
        return tuple(size if rng.random() < 0.5 else 1 for size in shape)
    return shape


def arithmetic(rng: np.random.Generator, dtype: str, name: str) -> CodedCase:
    """ADD, SUB or MUL."""
    x = codes(rng, image(rng), dtype)
    other = codes(rng, _stretched(rng, x.shape), dtype)
    y = codes(rng, x.shape, dtype)
    if name == "MUL":
        y = codes(rng, x.shape, dtype, 0.001, 0.1)
    options = {"fusedActivationFunction": str(rng.choice(ACTIVATIONS))}
    operands: list[Operand] = [x, other]
    if rng.random() < 0.3:
        assert other.quantization
        operands[1] = Constant(other.draw(rng), other.quantization)
    elif rng.random() < 0.3:
        return CodedCase(name, [other, x], [y], options, data=1)
    return CodedCase(name, operands, [y], options)


def unary(rng: np.random.Generator, dtype: str, name: str) -> CodedCase:
    """An activation."""
    x = codes(rng, image(rng), dtype)
    limits = np.iinfo(dtype)
    if name == "LOGISTIC":
        return CodedCase(name, [x], [Codes(x.shape, dtype, 1 / 256, int(limits.min))])
    options = {"alpha": float(rng.uniform(-0.2, 1.2))} if name == "LEAKY_RELU" else {}
    y = codes(rng, x.shape, dtype)
    if name == "HARD_SWISH" and rng.random() < 0.3:  # many halves
        x, y = replace(x, scale=1 / 16), replace(y, scale=1 / 256)
    return CodedCase(name, [x], [y], options)


def prelu(rng: np.random.Generator, dtype: str) -> CodedCase:
    x = codes(rng, image(rng), dtype)
    slope = codes(rng, (1, 1, x.shape[3]), dtype, 0.001, 0.01)
    assert slope.quantization
    alpha = Constant(slope.draw(rng), slope.quantization)
    return CodedCase("PRELU", [x, alpha], [codes(rng, x.shape, dtype)])


def quantize(rng: np.random.Generator, dtype: str, source: str) -> CodedCase:
    """Of numbers, the same type or the other one."""
    shape = image(rng)
    if source == "numbers":
        return CodedCase("QUANTIZE", [Codes(shape, "float32")], [codes(rng, shape, dtype)])
    other = dtype if source == "same" else {"int8": "uint8", "uint8": "int8"}[dtype]
    return CodedCase("QUANTIZE", [codes(rng, shape, other)], [codes(rng, shape, dtype)])


def dequantize(rng: np.random.Generator, dtype: str) -> CodedCase:
    x = codes(rng, image(rng), dtype)
    return CodedCase("DEQUANTIZE", [x], [Codes(x.shape, "float32")])


def pool(rng: np.random.Generator, dtype: str, name: str) -> CodedCase:
    """Windows that the border cuts, that leave a rest, and of the whole image."""
    x = codes(rng, image(rng), dtype)
    size = [int(rng.integers(1, extent + 1)) for extent in x.shape[1:3]]
    if rng.random() < 0.3:
        size = [min(3, extent) for extent in x.shape[1:3]]
    stride = [int(rng.integers(1, 4)) for _ in size]
    if size == [1, 1]:
        stride = [1, 1]  # XNNPACK would refuse others
    padding = str(rng.choice(["SAME", "VALID"]))
    out = [
        -(-extent // step) if padding == "SAME" else (extent - window) // step + 1
        for extent, window, step in zip(x.shape[1:3], size, stride, strict=True)
    ]
    options = {
        "filterHeight": size[0],
        "filterWidth": size[1],
        "strideH": stride[0],
        "strideW": stride[1],
        "padding": PADDINGS[padding],
        "fusedActivationFunction": str(rng.choice(ACTIVATIONS)),
    }
    return CodedCase(name, [x], [like(x, (x.shape[0], *out, x.shape[3]))], options)


def mean(rng: np.random.Generator, dtype: str) -> CodedCase:
    x = codes(rng, image(rng), dtype)
    axes = [(1, 2), (2, 1), (1, 2), (1,), (2,), (3,), (1, 2, 3), (0, 1)][rng.integers(8)]
    keeps = bool(rng.integers(2))
    shape = tuple(
        1 if axis in axes else size
        for axis, size in enumerate(x.shape)
        if keeps or axis not in axes
    )
    y = codes(rng, shape, dtype)
    return CodedCase("MEAN", [x, np.array(axes, np.int32)], [y], {"keepDims": keeps})


def softmax(rng: np.random.Generator, dtype: str) -> CodedCase:
    x = codes(rng, image(rng), dtype)
    y = Codes(x.shape, dtype, 1 / 256, int(np.iinfo(dtype).min))
    return CodedCase("SOFTMAX", [x], [y], {"beta": float(rng.choice([1.0, 0.5, 1.7]))})


def resize_bilinear(rng: np.random.Generator, dtype: str) -> CodedCase:
    x = codes(rng, image(rng), dtype)
    size = rng.integers(1, 20, 2)
    if rng.random() < 0.3:
        size = 2 * np.array(x.shape[1:3])
    y = like(x, (x.shape[0], int(size[0]), int(size[1]), x.shape[3]))
    corners = bool(rng.random() < 0.3)
    options = {"alignCorners": corners, "halfPixelCenters": not corners and rng.random() < 0.5}
    return CodedCase("RESIZE_BILINEAR", [x, size.astype(np.int32)], [y], options)


#: By name: what makes one of a random generator and the type of the codes.
OPERATORS: Mapping[str, Callable[[np.random.Generator, str], CodedCase]] = {
    **{name: partial(arithmetic, name=name) for name in ("ADD", "SUB", "MUL")},
    **{
        name: partial(unary, name=name)
        for name in ("LOGISTIC", "LEAKY_RELU", "HARD_SWISH", "RELU", "RELU6", "RELU_N1_TO_1")
    },
    "PRELU": prelu,
    **{
        f"QUANTIZE {source}": partial(quantize, source=source)
        for source in ("numbers", "same", "other")
    },
    "DEQUANTIZE": dequantize,
    "AVERAGE_POOL_2D": partial(pool, name="AVERAGE_POOL_2D"),
    "MAX_POOL_2D": partial(pool, name="MAX_POOL_2D"),
    "MEAN": mean,
    "SOFTMAX": softmax,
    "RESIZE_BILINEAR": resize_bilinear,
}


def random_cases(name: str, dtype: str, count: int) -> list[CodedCase]:
    rng = np.random.default_rng(sum(name.encode()) + len(dtype))
    return [OPERATORS[name](rng, dtype) for _ in range(count)]


def extreme_cases() -> list[CodedCase]:
    """Scales whose quotients leave single precision or the multipliers of 31 digits."""
    cases = []
    for scales in ((1e30, 1e-30, 1e-30), (1e-30, 1e30, 1e30), (1e-30, 1e-30, 1e30)):
        x, other, y = (Codes((1, 1, 1, 12), "int8", scale, 5) for scale in scales)
        assert other.quantization
        constant = Constant(np.arange(12, dtype=np.int8).reshape(1, 1, 1, 12), other.quantization)
        fused = {"fusedActivationFunction": "relu6"}
        for name in ("ADD", "SUB", "MUL"):
            cases.append(CodedCase(name, [x, constant], [y], fused))
        for name in ("RELU6", "HARD_SWISH", "QUANTIZE", "PRELU", "LEAKY_RELU"):
            alpha = {"alpha": 0.3} if name == "LEAKY_RELU" else {}
            slope = [constant] if name == "PRELU" else []
            cases.append(CodedCase(name, [x, *slope], [y], alpha))
        axes = np.array([1, 2], np.int32)
        cases.append(CodedCase("MEAN", [x, axes], [y], {"keepDims": True}))
    return cases
