"""The nodes that no compiled kernel computes: which of them the delegate takes, which TFLite keeps.

The delegate computes the operators of :data:`OPERATORS` in C, for every shape, where tensors join
them to one of its layers; those of :data:`CODED_OPERATORS` on codes of 8 bits, too. What is left
falls into partitions, runs of nodes without one of ours in between.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import groupby

import tflite

from tflite_delegate.read.model import Model, Step

_LIST = resources.files("tflite_delegate").joinpath("csrc/operation/operator_list.h")
_LISTED = {
    getattr(tflite.BuiltinOperator, name): bool(coded)
    for coded, name in re.findall(
        r"^LC_(CODED_)?OPERATOR\((\w+)\)$", _LIST.read_text("utf-8"), re.MULTILINE
    )
}
#: What csrc/operation/operators.c knows: both read the same list.
OPERATORS = frozenset(_LISTED)
#: Those that it computes on codes of 8 bits, too.
CODED_OPERATORS = frozenset(code for code, coded in _LISTED.items() if coded)
#: What converters put behind constants.
_EXPANDING = (tflite.BuiltinOperator.DEQUANTIZE, tflite.BuiltinOperator.DENSIFY)
#: From numbers to codes of 8 bits, and between codes.
_CONVERSIONS = (tflite.BuiltinOperator.QUANTIZE, tflite.BuiltinOperator.DEQUANTIZE)
#: Those that it computes in float16, where the processor can.
HALF_OPERATORS = OPERATORS.difference(_CONVERSIONS)
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
    """The nodes around the ``compiled`` ones that the delegate computes by itself.

    An operator joins a node of ours that computes what it reads or reads what it computes, and so
    on from operator to operator, as in csrc/claim/operator_claim.c.
    """
    possible = [step for step in _timed(model) if step.index not in compiled and _is_possible(step)]
    joined = set(compiled)
    computed = {tensor for i in compiled for tensor in model.steps[i].outputs}
    read = {tensor for i in compiled for tensor in model.steps[i].inputs}
    while True:
        new = [
            step
            for step in possible
            if step.index not in joined
            and (computed.intersection(step.inputs) or read.intersection(step.outputs))
        ]
        if not new:
            break
        for step in new:
            joined.add(step.index)
            computed.update(step.outputs)
            read.update(step.inputs)
    kept = _with_layers(model, joined, set(compiled))
    return tuple(step for step in possible if step.index in kept)


def _is_possible(step: Step) -> bool:
    """Whether the delegate computes such a node on such elements."""
    if step.types <= {"float32"}:
        return step.code in OPERATORS
    if step.code in _CONVERSIONS:
        return step.types <= {"float32", "int8", "uint8"}
    return step.code in CODED_OPERATORS and step.types in ({"int8"}, {"uint8"})


def _with_layers(model: Model, joined: set[int], layers: set[int]) -> set[int]:
    """``joined`` without what would only cut TFLite's nodes into more pieces.

    That is a run of operators without a layer between two nodes of TFLite's.
    """
    runs = [(ours, list(run)) for ours, run in groupby(_timed(model), lambda s: s.index in joined)]
    for _, run in runs[1:-1]:
        indices = {step.index for step in run}
        if not indices & layers:
            joined = joined - indices
    return joined


def half_constants(model: Model) -> set[int]:
    """Constants, and what is made of such of float16."""
    computed = {tensor: step for step in model.steps for tensor in step.outputs}
    read = {tensor for step in model.steps for tensor in step.inputs}
    constants = read.difference(computed, model.inputs)
    made = {
        tensor
        for tensor, step in computed.items()
        if step.code in _EXPANDING and "float16" in step.types and constants >= {*step.inputs}
    }
    return constants | made


def _timed(model: Model) -> list[Step]:
    """Every node but the constants that TFLite expands once, which takes no time."""
    timed, varying = [], set(model.inputs)
    for step in model.steps:
        if step.code not in _EXPANDING or varying.intersection(step.inputs):
            timed.append(step)
            varying.update(step.outputs)
    return timed


def partitions(model: Model, taken: Sequence[int]) -> tuple[Partition, ...]:
    """What is left when the delegate computes the nodes ``taken``."""

    def elements(steps: Sequence[Step]) -> int:
        tensors = (tensor for step in steps for tensor in (*step.inputs, *step.outputs))
        return sum(model.sizes.get(tensor, 0) for tensor in tensors)

    ours = set(taken)
    runs = [
        list(run)
        for is_ours, run in groupby(_timed(model), lambda s: s.index in ours)
        if not is_ours
    ]
    whole = max(elements(_timed(model)), 1)
    return tuple(
        Partition(
            tuple(step.index for step in run),
            tuple(operator_name(step.code) for step in run),
            round(elements(run) / whole, 4),
        )
        for run in runs
    )
