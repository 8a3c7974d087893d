"""The nodes that no compiled kernel computes: which of them the delegate takes, which TFLite keeps.

The delegate computes the operators of :data:`OPERATORS` in C, for every shape, where they follow
one of its layers. What is left falls into partitions, runs of nodes without one of ours in between.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import tflite

from tflite_delegate.model import Model, Step

#: What csrc/operators.c knows.
OPERATORS = frozenset(
    getattr(tflite.BuiltinOperator, name)
    for name in (
        "ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM", "RELU", "RELU6", "RELU_N1_TO_1",
        "LEAKY_RELU", "PRELU", "HARD_SWISH", "LOGISTIC", "MAX_POOL_2D", "AVERAGE_POOL_2D", "MEAN",
        "SUM", "SOFTMAX", "RESHAPE", "SQUEEZE", "EXPAND_DIMS", "PAD", "PADV2", "CONCATENATION",
    )
)  # fmt: skip
_NAMES = {value: name for name, value in vars(tflite.BuiltinOperator).items() if name[:1].isupper()}


@dataclass(frozen=True)
class Partition:
    """Consecutive nodes that are left to TFLite.

    ``share`` is that of the elements which they read and write in those of the whole network: a
    model of time, for nodes that do little with each element.
    """

    nodes: tuple[int, ...]
    operators: tuple[str, ...]
    share: float


def operator_name(code: int) -> str:
    """TFLite's name of a builtin operator."""
    return _NAMES.get(code, f"operator {code}")


def between(model: Model, compiled: Sequence[int]) -> tuple[Step, ...]:
    """The nodes behind the ``compiled`` ones that the delegate computes by itself."""
    ours = {tensor for i in compiled for tensor in model.steps[i].outputs}
    steps = []
    for step in model.steps:
        follows = any(tensor in ours for tensor in step.inputs)
        if step.index not in compiled and step.code in OPERATORS and follows:
            steps.append(step)
            ours.update(step.outputs)
    return tuple(steps)


def partitions(model: Model, taken: Sequence[int]) -> tuple[Partition, ...]:
    """What is left when the delegate computes the nodes ``taken``."""

    def elements(steps: Sequence[Step]) -> int:
        tensors = (tensor for step in steps for tensor in (*step.inputs, *step.outputs))
        return sum(model.sizes.get(tensor, 0) for tensor in tensors)

    ours = set(taken)
    # A constant that TFLite expands once takes no time.
    steps = [s for s in model.steps if s.code != tflite.BuiltinOperator.DEQUANTIZE]
    runs = [list(run) for is_ours, run in groupby(steps, lambda s: s.index in ours) if not is_ours]
    whole = max(elements(steps), 1)
    return tuple(
        Partition(
            tuple(step.index for step in run),
            tuple(operator_name(step.code) for step in run),
            round(elements(run) / whole, 4),
        )
        for run in runs
    )
