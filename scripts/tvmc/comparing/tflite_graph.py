"""A .tflite file taken apart: its nodes one at a time, in LiteRT, and its tensors as outputs.

Read with the schema that comes with LiteRT, whose objects can be written again.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schedules.errors import LeanconvError, one_line
from tflite_delegate.importer.editable import TYPE_NAMES

Array = NDArray[Any]

#: Characters of a name that are shown.
_SHORT = 40


class NotAlone(Exception):
    """LiteRT cannot run a node by itself, on these inputs."""


class TfliteGraph:
    """A graph of a file that was read before; tensors and nodes by their numbers.

    It is the main one, or that of a signature, by name.

    ``graphs`` counts all that the file has.

    Raises
    ------
    LeanconvError
        If LiteRT is not installed.
    """

    def __init__(self, path: Path, signature: str | None = None) -> None:
        try:
            from ai_edge_litert import schema_py_generated as schema
        except ImportError as error:
            raise LeanconvError(f"{error}: pip install 'leanconv[runtime]'") from None
        content = path.read_bytes()
        self._schema = schema
        self._model = schema.ModelT.InitFromPackedBuf(content, 0)
        for buffer in self._model.buffers:
            if getattr(buffer, "offset", 0) > 1:  # behind the file's tables
                end = buffer.offset + buffer.size
                buffer.data = np.frombuffer(content[buffer.offset : end], np.uint8)
                buffer.offset = buffer.size = 0
        for entry in self._model.signatureDefs or []:
            if signature is not None and bytes(entry.signatureKey or b"").decode() == signature:
                graphs, place = self._model.subgraphs, entry.subgraphIndex
                graphs[0], graphs[place] = graphs[place], graphs[0]
        graph = self._model.subgraphs[0]
        self.graphs = len(self._model.subgraphs)
        self.nodes: Sequence[Any] = graph.operators or []
        self.tensors: Sequence[Any] = graph.tensors
        self.inputs, self.outputs = list(graph.inputs), list(graph.outputs)
        codes = vars(schema.BuiltinOperator).items()
        self._names = {value: name for name, value in codes if name.isupper()}

    def operator(self, node: Any) -> str:
        """Its name in TFLite."""
        code = self._model.operatorCodes[node.opcodeIndex]
        if code.customCode:
            return bytes(code.customCode).decode(errors="replace")
        return self._names[max(code.builtinCode, code.deprecatedBuiltinCode)]

    def tensor_name(self, tensor: int) -> str:
        """For people: its number, and the beginning of its name, if it has one."""
        name = bytes(self.tensors[tensor].name or b"").decode(errors="replace")
        # Converters join the names of all that they made one tensor of.
        short = name.partition(";")[0][:_SHORT]
        cut = "…" if len(short) < len(name) else ""
        return f"{tensor} '{short}{cut}'" if name else f"{tensor}"

    def shape(self, tensor: int) -> tuple[int, ...]:
        """In the file."""
        shape = self.tensors[tensor].shape
        return () if shape is None else tuple(map(int, shape))

    def dtype(self, tensor: int) -> str | None:
        """Type of its elements; ``None`` for one that numpy does not have."""
        return TYPE_NAMES.get(self.tensors[tensor].type)

    def open_axes(self, tensor: int) -> set[int]:
        """Axes whose size is only known when the model runs: the batch, and what the file says."""
        sizes = self.tensors[tensor].shapeSignature
        return {0, *(axis for axis, size in enumerate([] if sizes is None else sizes) if size < 0)}

    def is_constant(self, tensor: int) -> bool:
        """Whether the file has its value."""
        data = self._model.buffers[self.tensors[tensor].buffer].data
        return data is not None and len(data) > 0

    def constant(self, tensor: int) -> Array:
        """The value that the file has.

        Raises
        ------
        NotAlone
            If its elements are no whole bytes.
        """
        entry = self.tensors[tensor]
        if entry.type not in TYPE_NAMES or entry.sparsity is not None:
            raise NotAlone(f"tensor {self.tensor_name(tensor)} is packed")
        data = np.asarray(self._model.buffers[entry.buffer].data)
        return np.frombuffer(data.tobytes(), TYPE_NAMES[entry.type]).reshape(self.shape(tensor))

    def is_quantised(self, tensor: int) -> bool:
        """Whether its values are codes with a scale."""
        quantization = self.tensors[tensor].quantization
        has_scale = quantization is not None and quantization.scale is not None
        return has_scale and self.tensors[tensor].type != self._schema.TensorType.FLOAT32

    def step(self, tensor: int) -> float:
        """Between two neighbouring codes; the largest if channels have steps of their own."""
        if not self.is_quantised(tensor):
            return 0.0
        return float(np.max(self.tensors[tensor].quantization.scale))

    def real(self, tensor: int, codes: Array) -> NDArray[np.float64]:
        """What ``codes`` stand for."""
        if not self.is_quantised(tensor):
            return codes.astype(np.float64)
        quantization = self.tensors[tensor].quantization
        along = [1] * codes.ndim
        if len(quantization.scale) > 1:
            along[_dimension(quantization, codes.ndim)] = -1
        scale, zero = (
            np.asarray(values, np.float64).reshape(along if len(values) > 1 else ())
            for values in (quantization.scale, quantization.zeroPoint)
        )
        return np.asarray((codes.astype(np.float64) - zero) * scale)

    def with_outputs(self, tensors: Iterable[int]) -> bytes:
        """A model that also gives what is in these tensors."""
        model = copy.copy(self._model)
        graph = copy.copy(model.subgraphs[0])
        graph.outputs = list(dict.fromkeys([*self.outputs, *tensors]))
        # What signatures do not name as outputs would not be kept.
        model.subgraphs, model.signatureDefs = [graph, *model.subgraphs[1:]], []
        return self._packed(model)

    def single_node(self, node: Any, values: Mapping[int, Array], constants: set[int]) -> bytes:
        """A model of one node: of its inputs, ``constants`` are inside, the others its inputs."""
        schema, model = self._schema, copy.copy(self._model)
        graph = schema.SubGraphT()
        graph.operators = [copy.copy(node)]
        graph.tensors, graph.inputs, graph.outputs = [], [], []
        model.buffers, model.signatureDefs, model.metadata = [schema.BufferT()], [], []
        model.metadataBuffer = []
        numbers = {-1: -1}
        for tensor in dict.fromkeys([*node.inputs, *node.outputs]):
            if tensor < 0:
                continue
            entry = copy.copy(self.tensors[tensor])
            entry.name, entry.buffer, entry.isVariable = f"t{tensor}", 0, False
            entry.shapeSignature = None
            if entry.quantization is not None:
                entry.quantization = copy.copy(entry.quantization)
                dimension = _dimension(entry.quantization, len(self.shape(tensor)))
                entry.quantization.quantizedDimension = dimension
            if tensor in values and not self.is_constant(tensor):
                entry.shape = list(values[tensor].shape)
            data = self._data(tensor, values) if tensor in constants else None
            if data is not None:
                entry.buffer = len(model.buffers)
                model.buffers.append(schema.BufferT())
                model.buffers[-1].data = data
            elif tensor in node.inputs:
                graph.inputs.append(len(graph.tensors))
            numbers[tensor] = len(graph.tensors)
            graph.tensors.append(entry)
        (operator,) = graph.operators
        operator.inputs = [numbers[tensor] for tensor in node.inputs]
        operator.outputs = [numbers[tensor] for tensor in node.outputs]
        operator.intermediates = []
        graph.outputs = list(operator.outputs)
        model.subgraphs = [graph]
        return self._packed(model)

    def _data(self, tensor: int, values: Mapping[int, Array]) -> Array:
        if self.is_constant(tensor):
            return np.asarray(self._model.buffers[self.tensors[tensor].buffer].data)
        return np.frombuffer(np.ascontiguousarray(values[tensor]).tobytes(), np.uint8)

    def _packed(self, model: Any) -> bytes:
        import flatbuffers  # type: ignore[import-untyped]

        builder = flatbuffers.Builder(1 << 16)
        builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())


def _dimension(quantization: Any, rank: int) -> int:
    """The axis that has a scale for each index; old converters gave biases that of their layer."""
    dimension = int(quantization.quantizedDimension)
    return dimension if dimension < rank else 0


class SingleNode:
    """One node in LiteRT's interpreter, with the built-in kernels.

    Raises
    ------
    NotAlone
        If it cannot be run by itself.
    """

    def __init__(
        self, graph: TfliteGraph, node: Any, values: Mapping[int, Array], constants: set[int]
    ) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        self._fed = [t for t in dict.fromkeys(node.inputs) if t >= 0 and t not in constants]
        content = graph.single_node(node, values, constants)
        try:
            self._interpreter = Interpreter(
                model_content=content,
                experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            )
            self._interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise NotAlone(one_line(error)) from None

    def run(self, values: Mapping[int, Array]) -> list[Array]:
        """Its outputs for the values of its inputs that are not constant."""
        interpreter = self._interpreter
        try:
            for details, tensor in zip(interpreter.get_input_details(), self._fed, strict=True):
                interpreter.set_tensor(details["index"], values[tensor])
            interpreter.invoke()
            return [interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()]
        except (RuntimeError, ValueError) as error:
            raise NotAlone(one_line(error)) from None
