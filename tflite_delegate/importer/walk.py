"""The walk through a graph: TVM's conversions one by one, each result checked against the model.

Relax infers shapes as the walk goes on, for the batch that was asked for. Each tensor takes on what
was found, so that no conversion reads a shape that the file has for another batch, and what the
graph computes from shapes is a constant by the time that somebody needs it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvm import relax, tirx
from tvm.relax.frontend.tflite.tflite_frontend import get_tensor_name

from schedules.errors import LeanconvError
from tflite_delegate.importer.converter import Converter
from tflite_delegate.importer.editable import (
    TYPE_NAMES,
    EditableGraph,
    EditableOperator,
    EditableTensor,
)
from tflite_delegate.importer.folding import folded
from tflite_delegate.importer.regions import Regions

_STATE = "it keeps a state between runs, which modules do not"


class Walk(Converter):
    """Converts the graphs of an :class:`~tflite_delegate.importer.editable.EditableModel`."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._regions = Regions(self)

    def check_unsupported_ops(self) -> None:
        """Refuse what no conversion can make right, before there is any."""
        self.check_order(self.subgraph)
        self._check_states()
        super().check_unsupported_ops()

    def convert_op_to_relax(self) -> None:
        """Convert all operators of the subgraph, in its order."""
        for node in list(self.subgraph.operators):
            self.step(node)
        self.model.current = ""

    def step(self, node: EditableOperator) -> None:
        """Convert one operator."""
        self.model.current = f"operator {node.position} ({node.name}): "
        tensors = self.subgraph.tensors
        results = self._regions.results(node)
        if results is not None:
            for index, result in zip(node.outputs, results, strict=True):
                self._set_equal(index, result)
            return
        constants = folded(self.subgraph, node)
        if constants is None:
            self._convert(node)
            return
        for index, values in zip(node.outputs, constants, strict=True):
            self.model.set_constant(tensors[index], values)
            tensors[index].source = node.inputs[0] if node.name == "DEQUANTIZE" else None

    def get_expr(self, input_tensor_idx: int) -> Any:
        """The tensor in Relax; the importer's own knows computed tensors and inputs alone."""
        if self.has_expr(input_tensor_idx):
            return super().get_expr(input_tensor_idx)
        (tensor,) = self.get_tensors([input_tensor_idx])
        return self.get_tensor_expr(tensor)

    def _convert(self, node: EditableOperator) -> None:
        parts = self.convert(node)
        if parts is None:
            return
        outputs = [self.subgraph.tensors[index] for index in node.outputs]
        is_as_written = self._has_shapes_of_the_file(node)
        for index, tensor, part in zip(node.outputs, outputs, parts, strict=True):
            part = self.bb.normalize(part)
            _accept(tensor, part.ty, is_as_written)
            self.exp_tab.set_expr(get_tensor_name(self.subgraph, index), part)

    def _set_equal(self, index: int, result: int) -> None:
        """Let tensor ``index`` be what ``result`` is."""
        tensor, source = self.subgraph.tensors[index], self.subgraph.tensors[result]
        if source.type != tensor.type:
            raise LeanconvError(f"its result is of type {source.type}, not {tensor.type}")
        if source.data is not None:
            self.model.set_constant(tensor, source.data)
            return
        tensor.shape, tensor.is_inferred, tensor.has_changed = source.shape, True, True
        name = get_tensor_name(self.subgraph, index)
        self.exp_tab.set_expr(name, self.get_expr(result))

    def _has_shapes_of_the_file(self, node: EditableOperator) -> bool:
        """Whether no operand has another shape than in the file, so that no result may have."""
        tensors = [self.subgraph.tensors[index] for index in node.inputs if index >= 0]
        return not any(tensor.has_changed or tensor.open_axes for tensor in tensors)

    def check_order(self, graph: EditableGraph) -> None:
        """Every operand is known when its reader's turn comes, and is computed once."""
        tensors = graph.tensors
        known = set(graph.inputs)
        if len(known) < len(graph.inputs):
            raise LeanconvError("an input is named twice")
        known |= {index for index, tensor in enumerate(tensors) if tensor.buffer}
        place = self.model.current
        for node in graph.operators:
            self.model.current = f"{place}operator {node.position} ({node.name}): "
            self._check_operands(tensors, known, node)
        self.model.current = place
        self._check_known(tensors, known, graph.outputs)

    def _check_states(self) -> None:
        """Variables may be set once, before the first run."""
        for node in self.subgraph.operators:
            if node.name == "ASSIGN_VARIABLE" and not self.conversion_state["in_call_once_init"]:
                self.model.current = f"operator {node.position} ({node.name}): "
                raise LeanconvError(_STATE)

    def _check_operands(
        self, tensors: Sequence[EditableTensor], known: set[int], node: EditableOperator
    ) -> None:
        self._check_known(tensors, known, [index for index in node.inputs if index >= 0])
        for index in node.outputs:
            if index < 0:
                raise LeanconvError("a result without a tensor")
            if index in known:
                raise LeanconvError(f"tensor {index} has another value already")
            known.add(index)

    @staticmethod
    def _check_known(
        tensors: Sequence[EditableTensor], known: set[int], indices: Sequence[int]
    ) -> None:
        for index in indices:
            if index in known:
                continue
            if tensors[index].is_variable:
                raise LeanconvError(_STATE)
            raise LeanconvError(f"tensor {index} is read before it is computed")


def _accept(tensor: EditableTensor, found: Any, is_as_written: bool) -> None:
    """Let the tensor have the type that Relax found, if the model does not say otherwise.

    Raises
    ------
    LeanconvError
        If the importer understood something else than TFLite does, or a size is not known.
    """
    if not isinstance(found, relax.TensorType):
        raise LeanconvError("its result is no tensor")
    expected = TYPE_NAMES.get(tensor.type, f"type {tensor.type}")
    sizes = getattr(found.shape, "values", None)
    if sizes is None or not all(isinstance(size, tirx.IntImm) for size in sizes):
        raise LeanconvError("the size of its result is only known when the model runs")
    shape = tuple(map(int, sizes))
    if expected == "complex64":  # pairs of numbers in Relax
        expected, shape = "float32", shape[:-1]
    if str(found.dtype) != expected:
        raise LeanconvError(f"the importer makes {found.dtype} of it, TFLite {expected}")
    has_changed = shape != tensor.shape
    if is_as_written and has_changed and tensor.shape and not tensor.open_axes:
        raise LeanconvError(f"the importer makes {shape} of it, TFLite {tensor.shape}")
    tensor.has_changed = tensor.has_changed or has_changed
    tensor.shape, tensor.is_inferred, tensor.signature = shape, True, ()
