"""Operators whose output may lie where an input was: csrc/operators say so to TFLite.

TFLite gives the first output the memory of the first such input that nobody else needs.
"""

from __future__ import annotations

import tflite

from tflite_delegate.read.graph import Node


def _codes(*names: str) -> frozenset[int]:
    return frozenset(getattr(tflite.BuiltinOperator, name) for name in names)


#: That leave the elements as they are.
_VIEWS = _codes("RESHAPE", "SQUEEZE", "EXPAND_DIMS")
#: That compute element by element, or row by row, of one tensor.
_UNARY = _codes(
    "ABS", "EXP", "HARD_SWISH", "LEAKY_RELU", "LOGISTIC", "NEG", "RELU", "RELU6", "RELU_N1_TO_1",
    "RSQRT", "SOFTMAX", "SQRT", "SQUARE", "TANH",
)  # fmt: skip
#: And of two.
_BINARY = _codes("ADD", "DIV", "MAXIMUM", "MINIMUM", "MUL", "PRELU", "SQUARED_DIFFERENCE", "SUB")


def shared_inputs(node: Node) -> tuple[int, ...]:
    """The inputs whose memory the first output may have, in the order in which TFLite asks."""
    count = 2 if node.code in _BINARY else int(node.code in _UNARY | _VIEWS)
    return tuple(tensor for tensor in node.inputs[:count] if tensor is not None)


def is_view(node: Node) -> bool:
    """Whether the output has the elements of the first input."""
    return node.code in _VIEWS
