"""One node of a TFLite graph, as the conversions of operators see it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import tflite
import tvm
from numpy.typing import NDArray
from tvm import relax, tirx
from tvm.relax.frontend.tflite.tflite_frontend import OperatorConverter

from schedules.errors import LeanconvError
from schedules.target.simd import Simd
from tflite_delegate.importer.editable import TYPE_NAMES, EditableOperator, EditableTensor
from tflite_delegate.importer.options import Options, read_options
from tflite_delegate.rules import REFERENCE, XNNPACK

#: Element types whose tensors stand for real numbers if they have a scale.
_CODES = {"int8", "uint8", "int16"}


@dataclass(frozen=True)
class Quantization:
    """Real values are ``(codes - zero_point) * scale``; both broadcast to the tensor's shape."""

    scale: NDArray[np.float32]
    zero_point: NDArray[np.int32]

    @property
    def is_per_tensor(self) -> bool:
        """Whether all elements share one scale."""
        return self.scale.size == 1

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Quantization)
            and np.array_equal(self.scale, other.scale)
            and np.array_equal(self.zero_point, other.zero_point)
        )

    def dequantised(self, codes: NDArray[Any]) -> NDArray[np.float32]:
        """The real values of ``codes``."""
        values = (codes.astype(np.int64) - self.zero_point).astype(np.float32) * self.scale
        return np.asarray(values, np.float32)


class Operation:
    """One node: its tensors as Relax expressions, and its options.

    Parameters
    ----------
    converter : OperatorConverter
        Knows the graph, and the expressions of the tensors that earlier nodes computed.
    node : EditableOperator
        Of the converter's graph.
    """

    def __init__(self, converter: OperatorConverter, node: EditableOperator) -> None:
        self.converter = converter
        self.name, self.position = node.name, node.position
        self.inputs, self.outputs = node.inputs, node.outputs
        #: By the schema's names; each has been decided about.
        self.options: Options = read_options(node.name, node)

    # Tensors. ``position`` counts a node's inputs or outputs.

    @property
    def is_complex(self) -> bool:
        """Whether an input holds complex numbers: pairs along a last axis in Relax."""
        tensors = [self._tensor(tensor) for tensor in self.inputs if tensor >= 0]
        return any(tensor.type == tflite.TensorType.COMPLEX64 for tensor in tensors)

    @property
    def simd(self) -> Simd:
        """The processor whose kernels of LiteRT say how codes are rounded."""
        return cast(Simd, self.converter.model.simd)

    @property
    def is_for_arm(self) -> bool:
        """Whether LiteRT would compute it with its kernels for Arm."""
        return bool(self.simd.arch == "aarch64")

    @property
    def rounding(self) -> str:
        """Whose arithmetic of codes counts: see :mod:`tflite_delegate.rules`."""
        return str(self.converter.model.rounding)

    @property
    def as_xnnpack(self) -> bool:
        """Whether it is XNNPACK's, where that computes the node."""
        return self.rounding == XNNPACK

    @property
    def as_reference(self) -> bool:
        """Whether it is that of the reference kernels, which have no vectors."""
        return self.rounding == REFERENCE

    def has(self, position: int) -> bool:
        """Whether there is such an input; optional ones may be missing."""
        return position < len(self.inputs) and self.inputs[position] >= 0

    def constant(self, position: int) -> NDArray[Any] | None:
        """The codes of an input that is known before the model runs."""
        tensor = self._input(position)
        if not self.converter.has_expr(tensor):
            return self._tensor(tensor).data
        expression = self.converter.get_expr(tensor)
        return expression.value.numpy() if isinstance(expression, tvm.ir.GenericConst) else None

    def stored(self, position: int) -> tuple[NDArray[Any], Quantization] | None:
        """The codes of a constant, or those that a DEQUANTIZE made it of, and what they are."""
        index = self._input(position)
        source = self._tensor(index).source
        index = index if source is None else source
        data, quantization = self._tensor(index).data, self._quantization(index)
        return None if data is None or quantization is None else (data, quantization)

    def parameter(self, position: int, what: str) -> NDArray[Any]:
        """The same of an input that must be known, as axes are."""
        value = self.constant(position)
        if value is None:
            raise LeanconvError(f"{what} that the model computes are not supported")
        return value

    def integers(self, position: int, what: str) -> list[int]:
        """The same as a flat list."""
        return [int(value) for value in self.parameter(position, what).ravel()]

    def codes(self, position: int) -> relax.Expr:
        """An input as it is stored."""
        if self.converter.has_expr(self._input(position)):
            return self.converter.get_expr(self._input(position))
        value = self.constant(position)
        if value is None:
            raise LeanconvError(f"its input {position} has no value")
        return relax.const(value, self.input_type(position))

    def value(self, position: int) -> relax.Expr:
        """An input as real numbers, dequantised if it is quantised."""
        quantization = self.input_quantization(position)
        if quantization is None:
            return self.codes(position)
        if self.constant(position) is not None:
            return relax.const(self.numbers(position, "constants"))
        return self.dequantised(self.codes(position), quantization)

    def numbers(self, position: int, what: str) -> NDArray[Any]:
        """The same of an input that must be known."""
        value, quantization = self.parameter(position, what), self.input_quantization(position)
        return value if quantization is None else quantization.dequantised(value)

    def shape(self, position: int) -> tuple[int, ...]:
        """The shape of an input."""
        constant = self.constant(position)
        if constant is not None:
            return constant.shape
        return self.shape_of(self.codes(position))

    def shape_of(self, expression: relax.Expr) -> tuple[int, ...]:
        """The shape of an expression, which must be known before the model runs."""
        shape = getattr(self.converter.bb.normalize(expression).ty.shape, "values", None)
        if shape is None or not all(isinstance(size, tirx.IntImm) for size in shape):
            raise LeanconvError("a shape that is not known before the model runs is not supported")
        return tuple(map(int, shape))

    def input_type(self, position: int) -> str:
        """The element type of an input, as numpy and TVM name it."""
        return self._type(self._input(position))

    def output_type(self, position: int = 0) -> str:
        """The element type of an output."""
        return self._type(self.outputs[position])

    def input_quantization(self, position: int) -> Quantization | None:
        """How an input is quantised, if it is."""
        return self._quantization(self._input(position))

    def output_quantization(self, position: int = 0) -> Quantization | None:
        """How an output is quantised, if it is."""
        return self._quantization(self.outputs[position])

    # Expressions

    def emit(self, expression: relax.Expr) -> relax.Expr:
        """``expression`` as a variable, for what is read more than once; constants stay."""
        if not isinstance(expression, relax.Call):
            return expression
        return self.converter.bb.emit(expression)

    def compute(
        self, function: Callable[..., Any], *arguments: relax.Expr, **attributes: Any
    ) -> relax.Expr:
        """What a tensor expression computes of ``arguments``, named after the operator."""
        call = self.converter.bb.call_te(
            function,
            *arguments,
            primfunc_name_hint=self.name.lower(),
            primfunc_attrs=attributes or None,
        )
        return self.emit(call)

    def number(self, value: float, position: int = 0) -> relax.Expr:
        """A constant of the element type that ``value(position)`` has."""
        quantised = self.input_quantization(position) is not None
        return relax.const(value, "float32" if quantised else self.input_type(position))

    def axis(self, axis: int, rank: int) -> int:
        """``axis`` counted from the front."""
        if not -rank <= axis < rank:
            raise LeanconvError(f"axis {axis} of a tensor with {rank} dimensions")
        return axis % rank

    def dequantised(self, codes: relax.Expr, quantization: Quantization) -> relax.Expr:
        """The real values of ``codes``."""
        if not quantization.is_per_tensor:
            raise LeanconvError("activations with a scale for each channel are not supported")
        return self.emit(
            relax.op.dequantize(codes, *_scalars(quantization), axis=-1 if self._rank(codes) else 0)
        )

    def quantised(
        self, values: relax.Expr, quantization: Quantization, element_type: str
    ) -> relax.Expr:
        """The codes next to ``values``."""
        if not quantization.is_per_tensor:
            raise LeanconvError("activations with a scale for each channel are not supported")
        axis = -1 if self._rank(values) else 0
        return relax.op.quantize(values, *_scalars(quantization), axis=axis, out_dtype=element_type)

    def _rank(self, expression: relax.Expr) -> int:
        return len(self.shape_of(expression))

    def _input(self, position: int) -> int:
        if not self.has(position):
            raise LeanconvError(f"it has no input {position}")
        return self.inputs[position]

    def _tensor(self, tensor: int) -> EditableTensor:
        return self.converter.subgraph.tensors[tensor]

    def _type(self, tensor: int) -> str:
        number = self._tensor(tensor).type
        if number not in TYPE_NAMES or number == tflite.TensorType.COMPLEX64:
            kinds = {v: k for k, v in vars(tflite.TensorType).items() if isinstance(v, int)}
            raise LeanconvError(f"tensors of type {kinds.get(number, number)} are not supported")
        return TYPE_NAMES[number]

    def _quantization(self, tensor: int) -> Quantization | None:
        stored = self._tensor(tensor).quantization
        if stored is None or self._type(tensor) not in _CODES:
            return None
        along = [1] * len(self._tensor(tensor).shape)
        if stored.scales.size == 1:
            along = []
        else:
            along[stored.axis] = -1
        return Quantization(
            stored.scales.astype(np.float32).reshape(along),
            stored.zero_points.astype(np.int32).reshape(along),
        )


def _scalars(quantization: Quantization) -> tuple[tvm.ir.GenericConst, tvm.ir.GenericConst]:
    return (
        relax.const(float(quantization.scale.ravel()[0]), "float32"),
        relax.const(int(quantization.zero_point.ravel()[0]), "int32"),
    )
