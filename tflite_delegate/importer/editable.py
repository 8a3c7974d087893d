"""A .tflite model that can be changed, in the form in which TVM's importer reads one.

The importer wants flatbuffers' own classes. These derive from them, keep what may change as plain
attributes, and leave the rest to the table in the file. Everything in a file is taken for possibly
damaged: indices are checked before anything is built on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tflite
from numpy.typing import NDArray

from schedules.target.simd import Simd
from tflite_delegate.rules import DEFAULT

#: numpy's names of the types that tensors come in.
TYPE_NAMES = {
    tflite.TensorType.FLOAT32: "float32",
    tflite.TensorType.FLOAT16: "float16",
    tflite.TensorType.FLOAT64: "float64",
    tflite.TensorType.INT64: "int64",
    tflite.TensorType.INT32: "int32",
    tflite.TensorType.INT16: "int16",
    tflite.TensorType.INT8: "int8",
    tflite.TensorType.UINT8: "uint8",
    tflite.TensorType.UINT16: "uint16",
    tflite.TensorType.UINT32: "uint32",
    tflite.TensorType.UINT64: "uint64",
    tflite.TensorType.BOOL: "bool",
    tflite.TensorType.COMPLEX64: "complex64",
}
TYPE_CODES = {name: code for code, name in TYPE_NAMES.items()}
_OPERATOR_NAMES = {
    code: name for name, code in vars(tflite.BuiltinOperator).items() if name.isupper()
}
#: More dimensions than TFLite's kernels know mean a damaged file.
MAX_RANK = 8


@dataclass(frozen=True)
class Quantization:
    """Scales and zero points of a tensor; flatbuffers' table of the same name."""

    scales: NDArray[np.float32]
    zero_points: NDArray[np.int64]
    axis: int

    def ScaleAsNumpy(self) -> NDArray[np.float32]:
        return self.scales

    def ScaleLength(self) -> int:
        return self.scales.size

    def ZeroPointAsNumpy(self) -> NDArray[np.int64]:
        return self.zero_points

    def ZeroPointLength(self) -> int:
        return self.zero_points.size

    def QuantizedDimension(self) -> int:
        return self.axis


class EditableTensor(tflite.Tensor):  # type: ignore[misc]
    """One tensor.

    ``shape`` is the file's until the walk through the graph finds it (``is_inferred``), maybe
    another one (``has_changed``); ``data``
    are the elements of a constant, else ``None``; ``source`` is the constant that a DEQUANTIZE made
    it of; a variable keeps its value between runs.
    """

    def __init__(self, shape: Sequence[int], element_type: int) -> None:
        self.name = b""
        self.shape = tuple(shape)
        self.type = element_type
        self.buffer = 0
        self.data: NDArray[Any] | None = None
        self.source: int | None = None
        self.quantization: Quantization | None = None
        self.signature: tuple[int, ...] = ()
        self.is_variable = False
        self.is_inferred = self.has_changed = False

    @property
    def open_axes(self) -> list[int]:
        """Axes whose size is only known when the model runs."""
        axes = range(len(self.shape))
        signature = self.signature
        return [a for a in axes if self.shape[a] < 0 or (a < len(signature) and signature[a] < 0)]

    def Name(self) -> bytes:
        return self.name

    def Shape(self, axis: int) -> int:
        return self.shape[axis]

    def ShapeAsNumpy(self) -> NDArray[np.int32]:
        return np.array(self.shape, np.int32)

    def ShapeLength(self) -> int:
        return len(self.shape)

    def Type(self) -> int:
        return self.type

    def Buffer(self) -> int:
        return self.buffer

    def Quantization(self) -> Quantization | None:
        return self.quantization

    def Sparsity(self) -> None:
        """Sparse constants are made dense as they are read."""


class _Ends:
    """Numbers of tensors that an operator, or a graph, reads and writes."""

    inputs: list[int]
    outputs: list[int]

    def Inputs(self, place: int) -> int:
        return self.inputs[place]

    def InputsAsNumpy(self) -> NDArray[np.int32]:
        return np.array(self.inputs, np.int32)

    def InputsLength(self) -> int:
        return len(self.inputs)

    def Outputs(self, place: int) -> int:
        return self.outputs[place]

    def OutputsAsNumpy(self) -> NDArray[np.int32]:
        return np.array(self.outputs, np.int32)

    def OutputsLength(self) -> int:
        return len(self.outputs)


class EditableOperator(_Ends, tflite.Operator):  # type: ignore[misc]
    """One node; ``name`` is its operator's in the schema, ``position`` its place in the file."""

    def __init__(
        self,
        source: tflite.Operator,
        name: str,
        code: int,
        position: int,
        inputs: Sequence[int],
        outputs: Sequence[int],
    ) -> None:
        self._tab = source._tab
        self.name, self.code, self.position = name, code, position
        self.inputs, self.outputs = list(inputs), list(outputs)
        #: Another table of options in place of the file's.
        self.changed_options: Any = None

    def OpcodeIndex(self) -> int:
        return self.code

    def BuiltinOptions(self) -> Any:
        return super().BuiltinOptions() if self.changed_options is None else self.changed_options

    def options(self, kind: str) -> Any:
        """The table of options, e.g. ``"Conv2DOptions"``; ``None`` if the node has no such."""
        table = self.BuiltinOptions()
        if table is None or self.BuiltinOptionsType() != getattr(tflite.BuiltinOptions, kind):
            return None
        options = getattr(tflite, kind)()
        options.Init(table.Bytes, table.Pos)
        return options


class EditableGraph(_Ends, tflite.SubGraph):  # type: ignore[misc]
    """One subgraph."""

    def __init__(
        self,
        tensors: list[EditableTensor],
        operators: list[EditableOperator],
        inputs: list[int],
        outputs: list[int],
    ) -> None:
        self.tensors, self.operators = tensors, operators
        self.inputs, self.outputs = inputs, outputs

    def Tensors(self, index: int) -> EditableTensor:
        if index < 0:
            raise IndexError("an operand is left out")
        return self.tensors[index]

    def TensorsLength(self) -> int:
        return len(self.tensors)

    def Operators(self, position: int) -> EditableOperator:
        return self.operators[position]

    def OperatorsLength(self) -> int:
        return len(self.operators)


@dataclass(frozen=True)
class OperatorCode:
    """What an operator is; flatbuffers' table of the same name."""

    builtin: int
    custom: bytes | None

    @property
    def name(self) -> str:
        """The operator's name in the schema, or the one that a custom operator has."""
        if self.builtin == tflite.BuiltinOperator.CUSTOM:
            return (self.custom or b"CUSTOM").decode(errors="replace")
        return _OPERATOR_NAMES.get(self.builtin, f"operator {self.builtin}")

    def BuiltinCode(self) -> int:
        return self.builtin

    def DeprecatedBuiltinCode(self) -> int:
        return min(self.builtin, tflite.BuiltinOperator.PLACEHOLDER_FOR_GREATER_OP_CODES)

    def CustomCode(self) -> bytes | None:
        return self.custom


class _Buffer:
    """The bytes of one constant; flatbuffers' table of the same name."""

    def __init__(self, data: NDArray[np.uint8] | None) -> None:
        self.data = data

    def DataAsNumpy(self) -> NDArray[np.uint8] | int:
        return 0 if self.data is None else self.data

    def DataLength(self) -> int:
        return 0 if self.data is None else self.data.size


class EditableModel(tflite.Model):  # type: ignore[misc]
    """A whole model; ``graphs[0]`` is the one that is imported.

    ``current`` is the operator that is being imported, for messages; ``simd`` the processor
    that it is imported for, and ``rounding`` whose arithmetic of codes counts.
    """

    def __init__(self, codes: list[OperatorCode], graphs: list[EditableGraph]) -> None:
        self.codes, self.graphs = codes, graphs
        self.buffers = [_Buffer(None)]
        self.current, self.simd, self.rounding = "", Simd.named("host"), DEFAULT

    def set_constant(self, tensor: EditableTensor, values: NDArray[Any]) -> None:
        """Make a tensor the constant ``values``; it takes on their shape and type."""
        values = np.ascontiguousarray(values).reshape(values.shape)
        tensor.shape, tensor.type = values.shape, TYPE_CODES[values.dtype.name]
        tensor.data, tensor.is_inferred = values, True
        tensor.buffer = len(self.buffers)
        self.buffers.append(_Buffer(values.reshape(-1).view(np.uint8)))

    def set_bytes(self, tensor: EditableTensor, stored: NDArray[np.uint8]) -> None:
        """Give a tensor bytes that are no numbers, such as strings."""
        tensor.buffer = len(self.buffers)
        self.buffers.append(_Buffer(stored))

    def code_of(self, builtin: int) -> int:
        """The index of the operator's code, which may be new."""
        code = OperatorCode(builtin, None)
        if code not in self.codes:
            self.codes.append(code)
        return self.codes.index(code)

    def OperatorCodes(self, index: int) -> OperatorCode:
        return self.codes[index]

    def OperatorCodesLength(self) -> int:
        return len(self.codes)

    def Subgraphs(self, index: int) -> EditableGraph:
        return self.graphs[index]

    def SubgraphsLength(self) -> int:
        return len(self.graphs)

    def Buffers(self, index: int) -> _Buffer:
        return self.buffers[index]

    def BuffersLength(self) -> int:
        return len(self.buffers)
