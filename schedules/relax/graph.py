"""A Relax function as nodes and tensors: its bindings and variables, numbered in their order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tvm
from tvm import relax

from schedules.layer.graph import Operation
from schedules.layer.network import Layer, Step

#: ``relax.clip`` to these bounds is an activation that kernels know.
_CLIPS = {(0.0, 6.0): "relu6", (-1.0, 1.0): "relu_n1_to_1", (0.0, math.inf): "relu"}
#: Operators that a layer's kernel may do the work of, as :class:`Operation` calls them.
_NEIGHBOURS = {
    "relax.nn.pad": "pad",
    "relax.add": "add",
    "relax.multiply": "multiply",
    "relax.divide": "divide",
    "relax.sigmoid": "sigmoid",
    "relax.nn.relu": "relu",
    "relax.nn.relu6": "relu6",
}


class RelaxGraph:
    """One function's bindings, and who reads which variable."""

    def __init__(self, function: relax.Function) -> None:
        self.values: list[Any] = []
        self.variables: list[Any] = []
        self.numbers: dict[Any, int] = {}
        self.steps: list[Step] = []
        self.producers: dict[int, int] = {}
        self.readers: dict[int, list[int]] = {}
        #: Nodes whose order does not matter and that can be left out: those of dataflow blocks.
        self.pure: set[int] = set()
        #: Codes that stand for zero, by the tensors that have them.
        self.zeros: dict[int, int] = {}
        self.inputs = self._tensors(function.params)
        for block in function.body.blocks:
            for binding in block.bindings:
                node = len(self.values)
                self.values.append(binding.value)
                read = self._tensors(_variables(binding.value))
                (written,) = self._tensors([binding.var])
                self.steps.append(Step(node, read, (written,)))
                self.producers[written] = node
                for tensor in read:
                    self.readers.setdefault(tensor, []).append(node)
                if isinstance(block, relax.DataflowBlock):
                    self.pure.add(node)
        self.outputs = tuple(dict.fromkeys(self._tensors(_variables(function.body.body))))

    def _tensors(self, variables: Sequence[Any]) -> tuple[int, ...]:
        """The numbers of ``variables``, given to those that are new."""
        for variable in variables:
            if variable not in self.numbers:
                self.numbers[variable] = len(self.variables)
                self.variables.append(variable)
        return tuple(self.numbers[variable] for variable in variables)

    def shape(self, tensor: int) -> tuple[int, ...] | None:
        """``None`` if it is not fixed."""
        return shape_of(self.variables[tensor])

    def dtype(self, tensor: int) -> str:
        """Type of the elements."""
        return dtype_of(self.variables[tensor])

    def is_there(self, tensor: int, layer: Layer) -> bool:
        """Whether a tensor is given, or computed before the last of ``layer``'s nodes."""
        return self.producers.get(tensor, -1) <= max(layer.nodes)

    def operation(self, node: int) -> Operation | None:
        """What a node does; ``None`` if no kernel could do it along with its own work."""
        call = self.values[node]
        operator = operator_of(call)
        name = _NEIGHBOURS.get(operator)
        if operator == "relax.clip":
            name = _CLIPS.get(_bounds(call))
        if name is None or node not in self.pure:
            return None
        operands = tuple(self.numbers[a] for a in call.args if isinstance(a, relax.Var))
        (output,) = self.steps[node].outputs
        if name == "add" and self.dtype(output) in ("int8", "uint8"):
            return None  # of codes, which a graph adds as they are
        if name != "pad":
            # A sum's constant may stand on either side; a quotient's, behind what it divides.
            numbers = [_number(a) for a in call.args[name == "divide" :]]
            number = next((n for n in numbers if n is not None), None)
            return Operation(node, name, operands, output, number=number)
        is_zero = call.attrs.pad_value == self.zeros.get(output, 0)
        if call.attrs.pad_mode != "constant" or not is_zero or not operands:
            return None
        paddings = tuple(int(amount) for amount in call.attrs.pad_width)
        return Operation(node, name, operands, output, paddings=paddings)


def operator_of(expression: Any) -> str:
    """Name of the operator that is called; empty if it is none."""
    is_call = isinstance(expression, relax.Call) and isinstance(expression.op, tvm.ir.Op)
    return str(expression.op.name) if is_call else ""


def array_of(expression: Any) -> np.ndarray | None:
    """The value of a constant tensor."""
    value = expression.value if isinstance(expression, tvm.ir.GenericConst) else None
    return value.numpy() if isinstance(value, tvm.runtime.Tensor) else None


def shape_of(expression: Any) -> tuple[int, ...] | None:
    """``None`` if it is not a tensor, or not of a fixed shape."""
    shape = getattr(expression.ty, "shape", None)
    sizes = getattr(shape, "values", None)
    if sizes is None or not all(isinstance(size, tvm.tirx.IntImm) for size in sizes):
        return None
    return tuple(int(size) for size in sizes)


def dtype_of(expression: Any) -> str:
    """Type of the elements."""
    return str(getattr(expression.ty, "dtype", "unknown"))


def bytes_of(expression: Any) -> int:
    """Bytes of a tensor; 0 if that is not known."""
    shape = shape_of(expression)
    if shape is None:
        return 0
    return math.prod(shape) * int(tvm.DataType(dtype_of(expression)).itemsize)


def _bounds(call: relax.Call) -> tuple[float, float]:
    least, most = (float(getattr(bound, "value", math.nan)) for bound in call.args[1:])
    return least, most


def _number(expression: Any) -> float | None:
    """The value of a constant with one element."""
    array = array_of(expression)
    return float(array.reshape(())) if array is not None and array.size == 1 else None


def _variables(expression: Any) -> list[Any]:
    """Every variable that an expression reads, as often as it does."""
    found: list[Any] = []

    def visit(part: Any) -> None:
        if isinstance(part, relax.Var):
            found.append(part)

    relax.analysis.post_order_visit(expression, visit)
    return found
