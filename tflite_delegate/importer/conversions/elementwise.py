"""Operators that compute each element from the elements in the same place."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import tvm
from tvm import relax, te, tirx

from schedules.errors import LeanconvError
from tflite_delegate.importer.conversions.indexing import checked
from tflite_delegate.importer.conversions.operation import Operation

Function = Callable[..., relax.Expr]


def _unary(function: Function) -> Callable[[Operation], relax.Expr]:
    return lambda operation: function(operation.value(0))


def _binary(function: Function) -> Callable[[Operation], relax.Expr]:
    return lambda operation: function(operation.value(0), operation.value(1))


def _clip(low: float, high: float) -> Callable[[Operation], relax.Expr]:
    return lambda operation: relax.op.clip(operation.value(0), low, high)


def _square(operation: Operation) -> relax.Expr:
    x = operation.value(0)
    return relax.op.multiply(x, x)


def _squared_difference(operation: Operation) -> relax.Expr:
    difference = operation.emit(relax.op.subtract(operation.value(0), operation.value(1)))
    return relax.op.multiply(difference, difference)


def _add_n(operation: Operation) -> relax.Expr:
    total = operation.value(0)
    for position in range(1, len(operation.inputs)):
        total = operation.emit(relax.op.add(total, operation.value(position)))
    return total


def _power(operation: Operation) -> relax.Expr:
    if operation.input_type(0) != "float32":
        raise LeanconvError("powers of integers are not supported")
    return relax.op.power(operation.value(0), operation.value(1))


def _right_shift(operation: Operation) -> relax.Expr:
    bits = np.dtype(operation.input_type(0)).itemsize * 8
    amount = operation.emit(relax.op.clip(operation.value(1), 0, bits - 1))
    return relax.op.right_shift(operation.value(0), amount)


# Divisions: those of integers have no result if the divisor is zero.


def _is_integer(operation: Operation) -> bool:
    return operation.input_quantization(0) is None and "int" in operation.input_type(0)


def _divisor(operation: Operation) -> relax.Expr:
    if not _is_integer(operation):
        return operation.value(1)
    constant = operation.constant(1)
    if constant is not None and constant.all():
        return operation.codes(1)
    return checked(operation, operation.codes(1), lambda value, _: value != 0, "division by zero")


def _divide(operation: Operation) -> relax.Expr:
    x, y = operation.value(0), _divisor(operation)
    if not _is_integer(operation):
        return relax.op.divide(x, y)
    return broadcast(operation, tirx.truncdiv, x, y)


def _floor_divide(operation: Operation) -> relax.Expr:
    x, y = operation.value(0), _divisor(operation)
    if not _is_integer(operation):
        return relax.op.floor(operation.emit(relax.op.divide(x, y)))
    return broadcast(operation, tirx.floordiv, x, y)


def _floor_mod(operation: Operation) -> relax.Expr:
    x, y = operation.value(0), _divisor(operation)
    return broadcast(operation, tirx.floormod if _is_integer(operation) else _float_mod, x, y)


def _float_mod(x: Any, y: Any) -> Any:
    """The remainder that has the divisor's sign, as exact as ``fmod`` is."""
    remainder = tirx.call_pure_extern("float32", "fmodf", x, y)
    above = tirx.Select(y < 0, remainder + y, remainder)
    below = tirx.Select(y < 0, remainder, remainder + y)
    return tirx.Select(remainder > 0, above, tirx.Select(remainder < 0, below, remainder))


def broadcast(
    operation: Operation, function: Callable[[Any, Any], Any], x: relax.Expr, y: relax.Expr
) -> relax.Expr:
    """``function`` of scalars over both tensors."""
    shapes = operation.shape_of(x), operation.shape_of(y)
    shape = np.broadcast_shapes(*shapes)

    def read(tensor: te.Tensor, index: tuple[Any, ...]) -> Any:
        own = zip(index[len(index) - len(tensor.shape) :], tensor.shape, strict=True)
        return tensor[tuple(0 if int(size) == 1 else i for i, size in own)]

    def compute(a: te.Tensor, b: te.Tensor) -> te.Tensor:
        return te.compute(shape, lambda *index: function(read(a, index), read(b, index)))

    return operation.compute(compute, x, y)


# Activations


def _elu(operation: Operation) -> relax.Expr:
    x = operation.value(0)
    below = relax.op.subtract(relax.op.exp(relax.op.minimum(x, _float(0.0))), _float(1.0))
    return relax.op.where(relax.op.less(x, _float(0.0)), below, x)


def _gelu(operation: Operation) -> relax.Expr:
    """By the tanh of a polynomial, where the model says so, or by erf."""
    x = operation.value(0)
    if operation.options["approximate"]:
        cube = relax.op.multiply(relax.op.multiply(x, x), x)
        inner = relax.op.add(x, relax.op.multiply(cube, _float(0.044715)))
        curve = relax.op.tanh(relax.op.multiply(inner, _float(math.sqrt(2 / math.pi))))
    else:
        curve = relax.op.erf(relax.op.multiply(x, _float(math.sqrt(0.5))))
    half = relax.op.multiply(x, _float(0.5))
    return relax.op.multiply(half, relax.op.add(curve, _float(1.0)))


def _hard_swish(operation: Operation) -> relax.Expr:
    x = operation.value(0)
    gate = relax.op.clip(relax.op.add(x, _float(3.0)), 0.0, 6.0)
    return relax.op.divide(relax.op.multiply(x, gate), _float(6.0))


def _leaky_relu(operation: Operation) -> relax.Expr:
    x = operation.value(0)
    scaled = relax.op.multiply(x, _float(operation.options["alpha"]))
    return relax.op.where(relax.op.greater(x, _float(0.0)), x, scaled)


def _prelu(operation: Operation) -> relax.Expr:
    x, alpha = operation.value(0), operation.value(1)
    scaled = relax.op.multiply(x, alpha)
    return relax.op.where(relax.op.greater_equal(x, _float(0.0)), x, scaled)


def _softmax(operation: Operation) -> relax.Expr:
    x, beta = operation.value(0), operation.options["beta"]
    if beta != 1.0:
        x = operation.emit(relax.op.multiply(x, _float(beta)))
    return relax.op.nn.softmax(x, axis=-1)


def _log_softmax(operation: Operation) -> relax.Expr:
    return relax.op.nn.log_softmax(operation.value(0), axis=-1)


def _float(value: float) -> tvm.ir.GenericConst:
    return relax.const(value, "float32")


# Choices and types


def _select(operation: Operation) -> relax.Expr:
    """With a vector of conditions, the first version chooses whole rows."""
    condition, x, y = (operation.codes(position) for position in range(3))
    rank = len(operation.shape_of(x))
    if operation.name == "SELECT" and len(operation.shape_of(condition)) == 1 < rank:
        condition = operation.emit(
            relax.op.reshape(condition, (operation.shape_of(condition)[0], *[1] * (rank - 1)))
        )
    return relax.op.where(condition, x, y)


def _cast(operation: Operation) -> relax.Expr:
    x, wanted = operation.codes(0), operation.output_type()
    if wanted == "bool":
        zero = relax.const(0, operation.input_type(0))
        return relax.op.not_equal(x, zero)
    return relax.op.astype(x, wanted)


def _dequantize(operation: Operation) -> relax.Expr:
    constant = operation.constant(0)
    if constant is not None and operation.input_quantization(0) is None:
        return relax.const(constant.astype(np.float32))
    if operation.input_type(0) == "float16":
        return relax.op.astype(operation.codes(0), "float32")
    return operation.value(0)


def _bucketize(operation: Operation) -> relax.Expr:
    """How many boundaries are at most ``x``."""
    x, boundaries = operation.value(0), operation.options["boundaries"]
    element = operation.input_type(0)
    limits = relax.const(np.array(boundaries, np.float32).astype(element), element)
    if not boundaries:
        return relax.op.zeros(operation.shape(0), "int32")
    reached = relax.op.greater_equal(relax.op.expand_dims(x, -1), limits)
    return relax.op.sum(relax.op.astype(reached, "int32"), -1)


def _fake_quant(operation: Operation) -> relax.Expr:
    """Rounded to the levels of a quantisation whose zero is one of them."""
    options = operation.options
    low, high = np.float32(options["min"]), np.float32(options["max"])
    last = np.float32(2 ** options["numBits"] - 1)
    if not low < high or last < 1:
        raise LeanconvError(f"a range from {low} to {high} of {options['numBits']} bits")
    scale = (high - low) / last
    zero = np.floor(np.clip(-low / scale, 0, last) + np.float32(0.5))
    nudged = -zero * scale, (last - zero) * scale
    x = relax.op.clip(operation.value(0), float(nudged[0]), float(nudged[1]))
    above = relax.op.subtract(x, _float(float(nudged[0])))
    level = relax.op.floor(
        relax.op.add(relax.op.multiply(above, _float(float(np.float32(1) / scale))), _float(0.5))
    )
    return relax.op.add(relax.op.multiply(level, _float(float(scale))), _float(float(nudged[0])))


ON_VALUES = {
    "ABS": _unary(relax.op.abs),
    "ADD": _binary(relax.op.add),
    "ADD_N": _add_n,
    "ATAN2": _binary(relax.op.atan2),
    "BUCKETIZE": _bucketize,
    "CEIL": _unary(relax.op.ceil),
    "COS": _unary(relax.op.cos),
    "DEQUANTIZE": _dequantize,
    "DIV": _divide,
    "ELU": _elu,
    "EQUAL": _binary(relax.op.equal),
    "EXP": _unary(relax.op.exp),
    "FAKE_QUANT": _fake_quant,
    "FLOOR": _unary(relax.op.floor),
    "FLOOR_DIV": _floor_divide,
    "FLOOR_MOD": _floor_mod,
    "GELU": _gelu,
    "GREATER": _binary(relax.op.greater),
    "GREATER_EQUAL": _binary(relax.op.greater_equal),
    "HARD_SWISH": _hard_swish,
    "LEAKY_RELU": _leaky_relu,
    "LESS": _binary(relax.op.less),
    "LESS_EQUAL": _binary(relax.op.less_equal),
    "LOG": _unary(relax.op.log),
    "LOGISTIC": _unary(relax.op.sigmoid),
    "LOG_SOFTMAX": _log_softmax,
    "MUL": _binary(relax.op.multiply),
    "NEG": _unary(relax.op.negative),
    "NOT_EQUAL": _binary(relax.op.not_equal),
    "POW": _power,
    "PRELU": _prelu,
    "QUANTIZE": lambda operation: operation.value(0),
    "RELU": _unary(relax.op.nn.relu),
    "RELU6": _clip(0, 6),
    "RELU_0_TO_1": _clip(0, 1),
    "RELU_N1_TO_1": _clip(-1, 1),
    "ROUND": _unary(relax.op.round),
    "RSQRT": _unary(relax.op.rsqrt),
    "SIGN": _unary(relax.op.sign),
    "SIN": _unary(relax.op.sin),
    "SOFTMAX": _softmax,
    "SQRT": _unary(relax.op.sqrt),
    "SQUARE": _square,
    "SQUARED_DIFFERENCE": _squared_difference,
    "SUB": _binary(relax.op.subtract),
    "TANH": _unary(relax.op.tanh),
}
ON_CODES = {
    "BITWISE_XOR": _binary(relax.op.bitwise_xor),
    "CAST": _cast,
    "LOGICAL_AND": _binary(relax.op.logical_and),
    "LOGICAL_NOT": _unary(relax.op.logical_not),
    "LOGICAL_OR": _binary(relax.op.logical_or),
    "MAXIMUM": lambda operation: relax.op.maximum(operation.codes(0), operation.codes(1)),
    "MINIMUM": lambda operation: relax.op.minimum(operation.codes(0), operation.codes(1)),
    "RIGHT_SHIFT": _right_shift,
    "SELECT": _select,
    "SELECT_V2": _select,
}
