"""Models of many single operators, with the inputs to run them on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import flatbuffers  # type: ignore[import-untyped]
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from tests.support.tflite_schema import TYPES, Quantization
from tests.support.tflite_writer import Conv, ModelWriter

Array = NDArray[Any]
#: The rounding of one operation on float32, relative.
UNIT = 2.0**-24


@dataclass(frozen=True)
class Tensor:
    """An input of a model or an output of an operator.

    Parameters
    ----------
    shape : sequence of int
        Of outputs it is found by the interpreter, if it can be before the model runs.
    element_type : str
        As numpy names it.
    low, high : number
        Inputs are drawn between them, ``high`` excluded.
    quantization : Quantization, optional
        Of codes.
    """

    shape: Sequence[int] = ()
    element_type: str = "float32"
    low: float = -2.0
    high: float = 2.0
    quantization: Quantization | None = None

    def draw(self, rng: np.random.Generator) -> Array:
        """Values of the input."""
        if self.element_type.startswith("float"):
            return rng.uniform(self.low, self.high, self.shape).astype(self.element_type)
        return rng.integers(int(self.low), int(self.high), self.shape).astype(self.element_type)


@dataclass(frozen=True)
class Constant:
    """A quantised constant."""

    codes: Array
    quantization: Quantization


@dataclass(frozen=True)
class Case:
    """One operator of a test model.

    Parameters
    ----------
    operator : str
        As in the schema.
    inputs : sequence of Tensor, array, Constant or None
        Inputs of the model, constants, and optional ones that are missing.
    options : mapping
        Fields of its options.
    outputs : sequence of Tensor
        Their types.
    roundings : float
        How far a float32 result may be from TFLite's, in roundings of the largest element (at
        least 1); 0: equal.
    codes : int
        The same of integers.
    """

    operator: str
    inputs: Sequence[Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    outputs: Sequence[Tensor] = (Tensor(),)
    roundings: float = 0.0
    codes: int = 0

    @property
    def is_behind_layer(self) -> bool:
        """Whether a convolution that copies goes before it: only then does a delegate look."""
        first = self.inputs[0]
        is_image = isinstance(first, Tensor) and len(first.shape) == 4
        return is_image and first.element_type == "float32"

    def add(self, writer: ModelWriter) -> tuple[list[int], list[int]]:
        """Write the nodes; the inputs of the model, and the outputs."""
        inputs, operands = [], []
        for value in self.inputs:
            if value is None:
                operands.append(-1)
            elif isinstance(value, Constant):
                operands.append(writer.constant(value.codes, value.quantization))
            elif isinstance(value, np.ndarray):
                operands.append(writer.tensor(value.shape, str(value.dtype), value))
            else:
                assert isinstance(value, Tensor)
                inputs.append(_tensor(writer, value))
                operands.append(inputs[-1])
        if self.is_behind_layer:
            operands[0] = identity(writer, inputs[0], self.inputs[0].shape)
        outputs = [_tensor(writer, output) for output in self.outputs]
        writer.add(self.operator, operands, outputs, **self.options)
        return inputs, outputs

    def differences(self, found: Array, expected: Array) -> float:
        """The largest difference, of which 1 is allowed."""
        assert found.dtype == expected.dtype, (self.operator, found.dtype, expected.dtype)
        assert found.shape == expected.shape, (self.operator, found.shape, expected.shape)
        if np.array_equal(found, expected, equal_nan=found.dtype.kind == "f"):
            return 0.0
        difference = np.abs(found.astype(np.float64) - expected.astype(np.float64)).max()
        if found.dtype.kind != "f":
            return float(difference / self.codes if self.codes else np.inf)
        bound = self.roundings * UNIT * max(1.0, float(np.abs(expected).max()))
        return float(difference / bound if bound else np.inf)


def identity(writer: ModelWriter, x: int, shape: Sequence[int]) -> int:
    """A 1x1 convolution that copies: every product but one is zero."""
    channels = shape[3]
    weights = np.eye(channels, dtype=np.float32).reshape(channels, 1, 1, channels)
    constants = [writer.constant(weights), writer.constant(np.zeros(channels, np.float32))]
    return writer.conv(x, tuple(shape), Conv(channels, (1, 1)), constants=constants)[0]


def model(cases: Sequence[Case], interpreter: Any) -> bytes:
    """All of ``cases`` in one model, whose shapes are what ``interpreter`` (of bytes) infers."""
    writer, inputs, outputs = ModelWriter(), [], []
    for case in cases:
        own_inputs, own_outputs = case.add(writer)
        inputs += own_inputs
        outputs += own_outputs
    content = writer.finish(inputs, outputs)
    running = interpreter(content)
    running.allocate_tensors()
    parsed = schema.ModelT.InitFromPackedBuf(bytearray(content), 0)
    for detail in running.get_output_details():
        tensor = parsed.subgraphs[0].tensors[detail["index"]]
        if not len(tensor.shape):
            tensor.shape = detail["shape"].tolist()
    builder = flatbuffers.Builder(1024)
    builder.Finish(parsed.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def inputs_of(cases: Sequence[Case]) -> list[Array]:
    """What to run :func:`model` on, in the order of its inputs."""
    rng = np.random.default_rng(0)
    tensors = [value for case in cases for value in case.inputs if isinstance(value, Tensor)]
    return [tensor.draw(rng) for tensor in tensors]


def _tensor(writer: ModelWriter, tensor: Tensor) -> int:
    assert tensor.element_type in TYPES
    return writer.tensor(tensor.shape, tensor.element_type, quantization=tensor.quantization)
