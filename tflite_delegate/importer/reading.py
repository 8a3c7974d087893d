"""Read a .tflite file into an :class:`~tflite_delegate.importer.editable.EditableModel`.

What files say in several ways is said in one: constants are dense, and in buffers of their own,
wherever the file keeps them; four-bit integers are int8; tensors have unique names; quantisation
has a zero point for each scale, and an axis that the tensor has.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np
import tflite
from numpy.typing import NDArray

from tflite_delegate.importer.editable import (
    MAX_RANK,
    TYPE_NAMES,
    EditableGraph,
    EditableModel,
    EditableOperator,
    EditableTensor,
    OperatorCode,
    Quantization,
)
from tflite_delegate.read.names import unique_names
from tflite_delegate.read.sparsity import densify

_QUANTISED_TYPES = {
    tflite.TensorType.INT4,
    tflite.TensorType.INT8,
    tflite.TensorType.UINT8,
    tflite.TensorType.INT16,
    tflite.TensorType.INT32,
    tflite.TensorType.INT64,
}


def read_model(
    content: bytes, main: int = 0, names: Mapping[int, str] | None = None
) -> EditableModel:
    """The model in the bytes of a .tflite file.

    Parameters
    ----------
    content : bytes
        The whole file, with whatever is behind the flatbuffer.
    main : int
        The subgraph to import, which becomes the first one.
    names : mapping of int to str, optional
        What its inputs are to be called, by tensor, instead of their own names.

    Raises
    ------
    ValueError
        Or another of :data:`tflite_delegate.read.graph.DAMAGE`, if the file is damaged.
    """
    source = tflite.Model.GetRootAs(content, 0)
    codes = [
        OperatorCode(max(code.DeprecatedBuiltinCode(), code.BuiltinCode()), code.CustomCode())
        for code in map(
            source.OperatorCodes,
            _counted(source.OperatorCodesLength(), content),
        )
    ]
    model = EditableModel(codes, [])
    stored = [
        _stored(source.Buffers(index), content)
        for index in _counted(source.BuffersLength(), content)
    ]
    if main >= source.SubgraphsLength():
        raise ValueError("there is no graph")
    places = list(_counted(source.SubgraphsLength(), content))
    if main:  # nothing calls it, so that it may change places with the first
        places[0], places[main] = places[main], places[0]
    for place in places:
        graph = _read_graph(model, source.Subgraphs(place), stored, content)
        for index, name in (names or {}).items() if place == main else ():
            if index in graph.inputs:
                graph.tensors[index].name = name.encode()
        _name(graph, place)
        model.graphs.append(graph)
    return model


def _counted(length: int, content: bytes) -> Iterable[int]:
    """The places of a vector, if one of so many offsets fits into the file."""
    if length * 4 > len(content):
        raise ValueError(f"a vector of {length} does not fit into {len(content)} bytes")
    return range(length)


def _stored(buffer: tflite.Buffer, content: bytes) -> NDArray[np.uint8] | None:
    """A buffer's bytes; models above 2 GB keep them behind the flatbuffer, at an offset."""
    if buffer.Offset() > 1:
        start, size = buffer.Offset(), buffer.Size()
        if start + size > len(content):
            raise ValueError(f"a constant ends at byte {start + size} of {len(content)}")
        return np.frombuffer(content, np.uint8, size, start) if size else None
    return buffer.DataAsNumpy() if buffer.DataLength() else None


def _read_graph(
    model: EditableModel,
    source: tflite.SubGraph,
    stored: list[NDArray[np.uint8] | None],
    content: bytes,
) -> EditableGraph:
    tensors = [
        _read_tensor(model, index, source.Tensors(index), stored)
        for index in _counted(source.TensorsLength(), content)
    ]

    def indices(count: int, value: object) -> list[int]:
        found = [] if not count else np.asarray(value).tolist()
        if any(index >= len(tensors) for index in found):
            raise ValueError(f"tensor {max(found)} is named, of {len(tensors)}")
        return [max(index, -1) for index in found]

    operators = []
    for position in _counted(source.OperatorsLength(), content):
        node = source.Operators(position)
        code = node.OpcodeIndex()
        if code >= len(model.codes):
            raise ValueError(f"operator code {code} is named, of {len(model.codes)}")
        operators.append(
            EditableOperator(
                node,
                model.codes[code].name,
                code,
                position,
                indices(node.InputsLength(), node.InputsAsNumpy()),
                indices(node.OutputsLength(), node.OutputsAsNumpy()),
            )
        )
    return EditableGraph(
        tensors,
        operators,
        [i for i in indices(source.InputsLength(), source.InputsAsNumpy()) if i >= 0],
        [i for i in indices(source.OutputsLength(), source.OutputsAsNumpy()) if i >= 0],
    )


def _name(graph: EditableGraph, place: int) -> None:
    """Give every tensor a name of its own; the inputs keep theirs if they can.

    The importer finds tensors by name, and adds constants under names of its own, ``_param_1``.
    Those of tensors that users do not see begin with a percent sign.
    """
    names = unique_names([graph.tensors[index].name for index in graph.inputs], "input")
    names = [f"input{name}" if name.startswith(("_param_", "%")) else name for name in names]
    for index, tensor in enumerate(graph.tensors):
        tensor.name = f"%{place}.{index}".encode()
    for index, name in zip(graph.inputs, names, strict=True):
        graph.tensors[index].name = name.encode()


def _read_tensor(
    model: EditableModel,
    index: int,
    source: tflite.Tensor,
    stored: list[NDArray[np.uint8] | None],
) -> EditableTensor:
    rank = source.ShapeLength()
    if rank > MAX_RANK or source.ShapeSignatureLength() > MAX_RANK:
        raise ValueError(f"tensor {index} has {rank} dimensions")
    shape = source.ShapeAsNumpy().tolist() if rank else []
    tensor = EditableTensor(shape, source.Type())
    tensor.name = source.Name() or b""
    tensor.is_variable = bool(source.IsVariable())
    if source.ShapeSignatureLength():
        tensor.signature = tuple(source.ShapeSignatureAsNumpy().tolist())
    if source.Buffer() >= len(stored):
        raise ValueError(f"tensor {index} names buffer {source.Buffer()} of {len(stored)}")
    tensor.quantization = _read_quantization(index, tensor, source)
    data = stored[source.Buffer()]
    if data is not None:
        _set_data(model, index, tensor, data, source.Sparsity())
    if tensor.type == tflite.TensorType.INT4:
        tensor.type = tflite.TensorType.INT8
    return tensor


def _set_data(
    model: EditableModel,
    index: int,
    tensor: EditableTensor,
    data: NDArray[np.uint8],
    sparsity: tflite.SparsityParameters | None,
) -> None:
    """Make the tensor the constant that these bytes are."""
    is_packed = tensor.type == tflite.TensorType.INT4
    if tensor.type not in TYPE_NAMES and not is_packed:
        model.set_bytes(tensor, data)
        return
    if min(tensor.shape, default=0) < 0:
        raise ValueError(f"tensor {index} is a constant of {tensor.shape}")
    count = math.prod(tensor.shape)
    dtype = np.dtype("int8" if is_packed else TYPE_NAMES[tensor.type])
    if sparsity is not None:
        if is_packed or data.size % dtype.itemsize:
            raise ValueError(f"sparse tensor {index} holds {data.size} bytes of {dtype}")
        model.set_constant(tensor, densify(tensor.shape, sparsity, data.view(dtype)))
        return
    size = (count + 1) // 2 if is_packed else count * dtype.itemsize
    if data.size != size:
        raise ValueError(f"tensor {index} holds {data.size} bytes of {size}")
    if is_packed:
        # Two a byte, the lower half first; shifted up and down again for the sign.
        halves = np.stack([data << 4, data & 0xF0], axis=-1).reshape(-1)[:count]
        values = halves.view(np.int8) >> 4
    else:
        values = data.view(dtype)
    model.set_constant(tensor, values.reshape(tensor.shape))


def _read_quantization(
    index: int, tensor: EditableTensor, source: tflite.Tensor
) -> Quantization | None:
    """Scales, zero points and axis as they must be meant; ``None`` for a tensor without."""
    table = source.Quantization()
    if table is None or tensor.type not in _QUANTISED_TYPES or not table.ScaleLength():
        return None
    scales = table.ScaleAsNumpy()
    if not scales.any():  # as operands have that are no numbers of the network, like shapes
        return None
    zeros = table.ZeroPointAsNumpy() if table.ZeroPointLength() else np.zeros(1, np.int64)
    if zeros.size not in (1, scales.size):
        raise ValueError(f"tensor {index} has {scales.size} scales and {zeros.size} zero points")
    zeros = np.broadcast_to(zeros, scales.shape)
    if scales.size == 1:
        return Quantization(scales, zeros, 0)
    # Converters of old write the weights' axis for biases, too, which have only one.
    axis = 0 if len(tensor.shape) == 1 else table.QuantizedDimension()
    if not 0 <= axis < len(tensor.shape) or tensor.shape[axis] != scales.size:
        raise ValueError(
            f"tensor {index} of {tensor.shape} has {scales.size} scales on axis {axis}"
        )
    return Quantization(scales, zeros, axis)
