"""A graph of a .tflite model: its operators and tensors, with every index checked.

Only the structure is read, and of the constants what a caller asks for. Everything in a file is
taken for possibly damaged: every length is checked against the size of the file before it is
believed.
"""

from __future__ import annotations

import math
import mmap
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import tflite

from schedules.errors import one_line
from schedules.kernel.quantised.sums import CodeSum
from schedules.layer.graph import Operation, Window
from schedules.layer.network import Layer
from tflite_delegate.read.sparsity import stored_places

#: What reading a damaged flatbuffer raises. OverflowError and TypeError come from offsets that are
#: no valid index, UnicodeDecodeError is a ValueError.
DAMAGE = (struct.error, IndexError, KeyError, ValueError, TypeError, OverflowError)
#: What is wrong where an offset of the flatbuffer has no bytes behind it.
_BEYOND_THE_END = "it refers to bytes behind its end, as a file that is cut off does"
_TYPE_NAMES = {
    value: name.lower() for name, value in vars(tflite.TensorType).items() if name.isupper()
}
#: Fused activations by TFLite's numbers.
ACTIVATIONS = {
    tflite.ActivationFunctionType.NONE: "none",
    tflite.ActivationFunctionType.RELU: "relu",
    tflite.ActivationFunctionType.RELU6: "relu6",
    tflite.ActivationFunctionType.RELU_N1_TO_1: "relu_n1_to_1",
}
#: Operators that a layer's kernel may do the work of, as :class:`Operation` calls them.
_NEIGHBOURS = {
    tflite.BuiltinOperator.PAD: "pad",
    tflite.BuiltinOperator.ADD: "add",
    tflite.BuiltinOperator.MUL: "multiply",
    tflite.BuiltinOperator.LOGISTIC: "sigmoid",
    tflite.BuiltinOperator.RELU: "relu",
    tflite.BuiltinOperator.RELU6: "relu6",
    tflite.BuiltinOperator.RELU_N1_TO_1: "relu_n1_to_1",
    tflite.BuiltinOperator.HARD_SWISH: "hard_swish",
    tflite.BuiltinOperator.MAX_POOL_2D: "max_pool",
    tflite.BuiltinOperator.AVERAGE_POOL_2D: "average_pool",
}
_POOLS = ("max_pool", "average_pool")
_FUSED = {"add": "AddOptions", "multiply": "MulOptions"}
#: Bits of one element of the types that weights come in.
_TYPE_BITS = {"float32": 32, "float16": 16, "int8": 8, "uint8": 8, "int16": 16, "int4": 4}
#: Elements of the constants that :meth:`Graph.integers` reads: the paddings of a tensor.
MAX_INTEGERS = 16


#: A file's bytes.
Content = bytes | mmap.mmap


def told_damage(error: BaseException) -> str:
    """What a user is told of one of :data:`DAMAGE`, in a line."""
    return _BEYOND_THE_END if isinstance(error, struct.error) else one_line(error)


def checked_length(length: int, content: Content, what: str) -> int:
    """``length`` of a vector of offsets or 32-bit numbers, if so much fits into the file."""
    if length * 4 > len(content):
        raise ValueError(f"{length} {what} do not fit into {len(content)} bytes")
    return length


class Tensor:
    """The facts of one tensor: shape, element type, and whether it is a constant."""

    def __init__(self, graph: Graph, index: int) -> None:
        tensor = graph.graph.Tensors(index)
        rank = checked_length(tensor.ShapeLength(), graph.content, "dimensions")
        if rank > 8:
            raise ValueError(f"tensor {index} has {rank} dimensions")
        self.shape = tuple(int(tensor.Shape(axis)) for axis in range(rank))
        signature = tensor.ShapeSignatureLength()
        #: Axes whose size is only known when the model runs.
        self.open_axes = {
            axis for axis in range(rank) if axis < signature and tensor.ShapeSignature(axis) < 0
        }
        self.type = _TYPE_NAMES.get(tensor.Type(), f"type {tensor.Type()}")
        self.sparsity = tensor.Sparsity()
        if tensor.Buffer() >= graph.buffers:
            raise ValueError(f"tensor {index} names buffer {tensor.Buffer()} of {graph.buffers}")
        buffer = graph.model.Buffers(tensor.Buffer())
        # Models above 2 GB keep constants behind the flatbuffer, at an offset.
        self.stored_bytes = buffer.Size() if buffer.Offset() > 1 else buffer.DataLength()
        self.is_constant = self.stored_bytes > 0

    @property
    def is_known(self) -> bool:
        """Whether all of the shape but the batch is known."""
        return bool(self.shape) and min(self.shape) >= 1 and not self.open_axes - {0}

    @property
    def bytes(self) -> int:
        """Bytes of all elements; 0 if the type is not one that weights come in."""
        return -(-max(math.prod(self.shape), 0) * _TYPE_BITS.get(self.type, 0) // 8)

    @property
    def is_whole_constant(self) -> bool:
        """Whether the constant holds as many bytes as its shape, or its sparse form, promises."""
        if not self.is_constant or self.sparsity is None:
            return self.is_constant and self.stored_bytes >= self.bytes
        try:
            elements = stored_places(self.shape, self.sparsity).size
        except DAMAGE:
            return False
        return self.stored_bytes * 8 >= elements * _TYPE_BITS.get(self.type, 0)


@dataclass(frozen=True)
class Node:
    """One operator of the graph: its builtin code, and tensor indices (``None``: left out).

    ``custom`` is the name of a custom operator.
    """

    index: int
    code: int
    inputs: tuple[int | None, ...]
    outputs: tuple[int | None, ...]
    operator: tflite.Operator
    custom: str | None = None

    def options(self, kind: str) -> Any | None:
        """The options table, e.g. ``"Conv2DOptions"``; ``None`` if the node has no such table."""
        table = self.operator.BuiltinOptions()
        expected = getattr(tflite.BuiltinOptions, kind)
        if table is None or self.operator.BuiltinOptionsType() != expected:
            return None
        options = getattr(tflite, kind)()
        options.Init(table.Bytes, table.Pos)
        return options


class Graph:
    """One graph of a model, by default the main one."""

    def __init__(self, model: tflite.Model, content: Content, number: int = 0) -> None:
        self.model, self.content = model, content
        self.graph = model.Subgraphs(number)
        self.opcodes = checked_length(model.OperatorCodesLength(), content, "operator codes")
        self.buffers = checked_length(model.BuffersLength(), content, "buffers")
        self.tensors = checked_length(self.graph.TensorsLength(), content, "tensors")
        count = checked_length(self.graph.OperatorsLength(), content, "operators")
        self._codes: dict[int, int] = {}
        self.nodes = tuple(self._node(index) for index in range(count))
        length = checked_length(self.graph.InputsLength(), content, "graph inputs")
        inputs = {self._index(self.graph.Inputs(i)) for i in range(length)}
        length = checked_length(self.graph.OutputsLength(), content, "graph outputs")
        outputs = {self._index(self.graph.Outputs(i)) for i in range(length)}
        #: Tensors that a caller writes.
        self.inputs = {tensor for tensor in inputs if tensor is not None}
        #: Tensors that a caller reads.
        self.outputs = {tensor for tensor in outputs if tensor is not None}
        #: Tensor -> the nodes that read it; a node that reads it twice is there twice.
        self.readers: dict[int, list[int]] = {}
        #: Tensor -> the node that writes it.
        self.producers: dict[int, int] = {}
        for node in self.nodes:
            for tensor in node.inputs:
                if tensor is not None:
                    self.readers.setdefault(tensor, []).append(node.index)
            for tensor in node.outputs:
                if tensor is not None:
                    self.producers[tensor] = node.index

    def tensor(self, index: int) -> Tensor:
        """The tensor at a valid index."""
        return Tensor(self, index)

    def shape(self, tensor: int) -> tuple[int, ...]:
        """As the file states it."""
        return self.tensor(tensor).shape

    def dtype(self, tensor: int) -> str:
        """Type of the elements."""
        return self.tensor(tensor).type

    def is_there(self, tensor: int, layer: Layer) -> bool:
        """Whether a tensor is no constant, and given or computed before the layer's own node."""
        is_late = self.producers.get(tensor, -1) >= layer.index
        return not is_late and not self.tensor(tensor).is_constant

    def operation(self, node: int) -> Operation | None:
        """What a node does; ``None`` if no kernel could do it along with its own work."""
        operator = self.nodes[node]
        name = _NEIGHBOURS.get(operator.code)
        operands = tuple(tensor for tensor in operator.inputs if tensor is not None)
        output = operator.outputs[0] if operator.outputs else None
        if name is None or output is None or len(operands) != len(operator.inputs):
            return None
        if name in _FUSED:
            if name == "add" and not self._adds(operands, output):
                return None
            options = operator.options(_FUSED[name])
            activation = ACTIVATIONS.get(options.FusedActivationFunction()) if options else None
            return (
                None if activation is None else Operation(node, name, operands, output, activation)
            )
        if name in _POOLS:
            return self._pool(operator, name, operands, output)
        if name != "pad":
            return Operation(node, name, operands, output)
        paddings = self.integers(operands[1]) if len(operands) == 2 else None
        if paddings is None or not self.tensor(operands[0]).is_known:
            return None
        is_float = self.dtype(output) in ("float32", "float16")
        if not is_float and not self._share_codes(operands[0], output):
            return None
        return Operation(node, name, operands[:1], output, paddings=tuple(paddings))

    def _pool(
        self, node: Node, name: str, operands: tuple[int, ...], output: int
    ) -> Operation | None:
        options = node.options("Pool2DOptions")
        if options is None or options.Padding() not in (tflite.Padding.SAME, tflite.Padding.VALID):
            return None
        activation = ACTIVATIONS.get(options.FusedActivationFunction())
        sizes = options.FilterHeight(), options.FilterWidth(), options.StrideH(), options.StrideW()
        if activation is None or min(sizes) < 1 or len(operands) != 1:
            return None
        if self.dtype(output) != "float32" and not self._share_codes(operands[0], output):
            return None
        window = Window(*sizes, same=options.Padding() == tflite.Padding.SAME)
        return Operation(node.index, name, operands, output, activation, window=window)

    def _share_codes(self, *tensors: int) -> bool:
        """Whether tensors have one and the same scale and zero point."""
        found = {self.codes_of(tensor) for tensor in tensors}
        return len(found) == 1 and None not in found

    def _adds(self, operands: tuple[int, ...], output: int) -> bool:
        """Whether an ADD is one of floats, or of codes whose scales XNNPACK takes."""
        types = {self.dtype(tensor) for tensor in (*operands, output)}
        if not types & {"int8", "uint8"}:
            return True
        codes = [self.codes_of(tensor) for tensor in (*operands, output)]
        if len(types) > 1 or len(codes) != 3 or None in codes:
            return False
        a, b, (scale, *_) = (found for found in codes if found)
        return scale > 0 and CodeSum.of(a[:2], b[:2], scale) is not None

    def codes_of(self, tensor: int) -> tuple[float, int, str] | None:
        """Scale, zero point and type of a tensor that has one of each."""
        codes = self.graph.Tensors(tensor).Quantization()
        if codes is None or codes.ScaleLength() != 1 or codes.ZeroPointLength() != 1:
            return None
        return codes.Scale(0), codes.ZeroPoint(0), self.dtype(tensor)

    def dequantized_by(self, index: int) -> int:
        """The tensor that a DEQUANTIZE makes floats of, or the tensor itself."""
        dequantized = self._input_of(index, tflite.BuiltinOperator.DEQUANTIZE)
        return index if dequantized is None else dequantized

    def constant_behind(self, index: int) -> Tensor:
        """The narrow or sparse constant behind DEQUANTIZE and DENSIFY, or the tensor itself."""
        return self.tensor(self.stored_behind(index))

    def stored_behind(self, index: int) -> int:
        """Which tensor that is."""
        dequantized = self._input_of(index, tflite.BuiltinOperator.DEQUANTIZE)
        stored = index if dequantized is None else dequantized
        densified = self._input_of(stored, tflite.BuiltinOperator.DENSIFY)
        if dequantized is None and densified is None:
            return index
        found = stored if densified is None else densified
        tensor, source = self.tensor(index), self.tensor(found)
        fits = source.is_constant and source.shape == tensor.shape
        types = (tensor.type,) if dequantized is None else ("float16", "int8")
        fits = fits and source.type in types and (source.type != "int8" or densified is None)
        is_dense = densified is None
        return found if fits and is_dense == (source.sparsity is None) else index

    def content_of(self, index: int) -> np.ndarray:
        """A copy of what the file has of a constant."""
        buffer = self.model.Buffers(self.graph.Tensors(index).Buffer())
        if buffer.Offset() > 1:
            begin = buffer.Offset()
            return np.frombuffer(self.content[begin : begin + buffer.Size()], np.uint8)
        return np.array(buffer.DataAsNumpy(), np.uint8)

    def _input_of(self, tensor: int, code: int) -> int | None:
        """What the node reads that computes ``tensor``, if it is one of that operator."""
        producer = self.producers.get(tensor)
        node = None if producer is None else self.nodes[producer]
        return node.inputs[0] if node and node.code == code and node.inputs else None

    def integers(self, index: int) -> list[int] | None:
        """The elements of a small int32 or int64 constant; ``None`` if it is something else."""
        tensor = self.tensor(index)
        dtype = {"int32": "<i4", "int64": "<i8"}.get(tensor.type)
        elements = math.prod(tensor.shape)
        if dtype is None or not 0 < elements <= MAX_INTEGERS:
            return None
        data = self.model.Buffers(self.graph.Tensors(index).Buffer()).DataAsNumpy()
        size = elements * np.dtype(dtype).itemsize
        if not isinstance(data, np.ndarray) or data.nbytes < size:
            return None
        return [int(value) for value in data[:size].view(dtype)]

    def floats(self, index: int | None) -> np.ndarray | None:
        """The elements of a dense float32 constant; ``None`` if it is something else."""
        tensor = None if index is None else self.tensor(index)
        if tensor is None or tensor.type != "float32" or not tensor.is_whole_constant:
            return None
        data = self.model.Buffers(self.graph.Tensors(index).Buffer()).DataAsNumpy()
        if tensor.sparsity is not None or not isinstance(data, np.ndarray):
            return None
        return data[: tensor.bytes].view(np.float32).reshape(tensor.shape)

    def _node(self, index: int) -> Node:
        operator = self.graph.Operators(index)
        inputs = checked_length(operator.InputsLength(), self.content, "inputs")
        outputs = checked_length(operator.OutputsLength(), self.content, "outputs")
        return Node(
            index,
            self._code(operator),
            tuple(self._index(operator.Inputs(i)) for i in range(inputs)),
            tuple(self._index(operator.Outputs(i)) for i in range(outputs)),
            operator,
            self._custom(operator),
        )

    def _code(self, operator: tflite.Operator) -> int:
        index = operator.OpcodeIndex()
        if index >= self.opcodes:
            raise ValueError(f"an operator names operator code {index} of {self.opcodes}")
        if index not in self._codes:
            code = self.model.OperatorCodes(index)
            # Codes up to 126 are in the old field, which is one byte; later ones in the new.
            self._codes[index] = max(code.DeprecatedBuiltinCode(), code.BuiltinCode())
        return self._codes[index]

    def _custom(self, operator: tflite.Operator) -> str | None:
        """The name of a custom operator, ``None`` of a built-in one."""
        if self._code(operator) != tflite.BuiltinOperator.CUSTOM:
            return None
        name = self.model.OperatorCodes(operator.OpcodeIndex()).CustomCode()
        return None if name is None else name.decode(errors="replace")

    def _index(self, index: int) -> int | None:
        if index >= self.tensors:
            raise ValueError(f"an operator names tensor {index} of {self.tensors}")
        return None if index < 0 else int(index)
