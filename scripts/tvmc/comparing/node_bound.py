"""How far the results of one node may be from what LiteRT's built-in kernel makes of it.

Both are given the same inputs, or inputs that are known to be near. For a float32 result y:

    2 u (SPREAD sqrt(K) M + 4 max(|y|, |x|)) + what the inputs' errors come to,

M the sum of the magnitudes of K terms, where the operator sums (:mod:`tvmc.comparing.rounding`), at
most max |x| times the sum over |w| for an output channel with weights w; |x| the inputs of an
operator that computes element by element, their largest otherwise. A quantised result may also be
the neighbouring code: either side rounds the same value once. A hybrid operator of TFLite, of
float32 activations and int8 weights, first rounds the former to half a step, 1/127 of the largest.

What errors of inputs come to: with weights, at most the largest error times the sum over |w|, or
``SPREAD`` times the root of the sum over w^2; of a softmax p, at most exp(2 error) - 1 of p;
otherwise it is tried, by moving all inputs up, down and at random. Inputs are moved by one rounding
in any case, which also bounds what an ill-posed operator, such as a logarithm near 1, makes of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schedules.kernel.accuracy import UNIT_ROUNDOFF
from tvmc.comparing.rounding import SPREAD, root_of_terms
from tvmc.comparing.tflite_graph import Array, SingleNode, TfliteGraph

Bound = NDArray[np.float64]

#: Operators with weights: where image, weights and bias are among the inputs, and the axes of the
#: weights over which an output channel sums.
_WEIGHTED: Mapping[str, tuple[int, int, int, tuple[int, ...]]] = {
    "CONV_2D": (0, 1, 2, (1, 2, 3)),
    "DEPTHWISE_CONV_2D": (0, 1, 2, (0, 1, 2)),
    "FULLY_CONNECTED": (0, 1, 2, (1,)),
    "TRANSPOSE_CONV": (2, 1, 3, (1, 2, 3)),
    "CONV_3D": (0, 1, 2, (0, 1, 2, 3)),
}
#: Roundings of a float32 result beside those of a sum: of a polynomial, or of a quotient.
_ROUNDINGS = 4
#: Random moves of the inputs, beside one up and one down.
_MOVES = 2
#: Moves are a few of all that errors can do: what they come to may be so many times as much.
_BEYOND = 2.0


@dataclass(frozen=True)
class Result:
    """A result of a node: its value, and how far another's may be from it, in real values."""

    value: Array
    bound: Bound


@dataclass(frozen=True)
class Inputs:
    """What a node is given, by tensor.

    Parameters
    ----------
    values : mapping of int to array
        Those that the file does not hold.
    errors : mapping of int to array
        How far the other side's may be from them, in real values; where none is, they are equal.
    constants : set of int
        Those that no input of the model changes.
    """

    values: Mapping[int, Array]
    errors: Mapping[int, Bound]
    constants: set[int]


def apply(graph: TfliteGraph, node: Any, inputs: Inputs, sums: bool) -> list[Result]:
    """What ``node`` makes of its inputs; ``sums`` if the other side may multiply sums for it.

    Raises
    ------
    NotAlone
        If LiteRT cannot run it by itself.
    """
    single = SingleNode(graph, node, inputs.values, inputs.constants)
    outputs = single.run(inputs.values)
    if inputs.constants.issuperset(t for t in node.inputs if t >= 0):
        return [Result(y, np.zeros(y.shape)) for y in outputs]
    weighted = _weighted(graph, node, inputs, sums)
    moved = [] if weighted is not None else _moved(graph, node, single, inputs, outputs)
    results = []
    for position, (tensor, y) in enumerate(zip(node.outputs, outputs, strict=True)):
        others = [other[position] for other in moved]
        if is_real(graph, tensor, y):
            local = weighted if weighted is not None else _local(graph, node, inputs, tensor, y)
            bound = local + _moves(graph, tensor, y, others)
        else:
            changed = np.any([other != y for other in others], axis=0) if others else False
            bound = np.where(changed, np.inf, np.zeros(y.shape))
        results.append(Result(y, bound))
    return results


def is_real(graph: TfliteGraph, tensor: int, value: Array) -> bool:
    """Whether a tensor holds real numbers, rounded, and not integers or truth values."""
    return value.dtype.kind == "f" or graph.is_quantised(tensor)


def _weighted(graph: TfliteGraph, node: Any, inputs: Inputs, sums: bool) -> Bound | None:
    """The bound of a layer with constant weights; ``None`` if it is none."""
    operator = graph.operator(node)
    if operator not in _WEIGHTED:
        return None
    *places, axes = _WEIGHTED[operator]
    image, weights, bias = (node.inputs[p] if p < len(node.inputs) else -1 for p in places)
    if weights not in inputs.constants or image in inputs.constants:
        return None
    codes, x = _value(graph, inputs, weights), inputs.values[image]
    w = graph.real(weights, codes)
    size = np.abs(w).sum(axes)
    largest = _largest(graph.real(image, x))
    kernel = w.shape[1:3] if w.ndim == 4 else ()
    channels = w.size // max(1, size.size * int(np.prod(kernel)))
    sums = sums and operator == "CONV_2D"
    is_winograd = sums and node.builtinOptions.strideW == 1
    outputs = _winograd_outputs(max(kernel)) if is_winograd else None
    root = root_of_terms(kernel, channels, outputs, is_strassen=sums and max(kernel) == 1)
    magnitude = largest * size
    if bias >= 0 and bias in inputs.constants:
        magnitude = magnitude + np.abs(graph.real(bias, _value(graph, inputs, bias)))
    error = float(np.max(inputs.errors.get(image, np.zeros(1)), initial=0))
    if x.dtype.kind == "f" and codes.dtype.kind in "iu":
        error += largest / 127 / 2
    spread = np.minimum(size, SPREAD * np.sqrt((w**2).sum(axes)))
    bound = 2 * UNIT_ROUNDOFF * (SPREAD * root + _ROUNDINGS) * magnitude + spread * error
    return np.asarray(bound + graph.step(node.outputs[0]))


def _winograd_outputs(taps: int) -> int | None:
    """The m of the least exact F(m, r) there is."""
    from schedules.algorithms.winograd.winograd import FORMS, MAX_INPUTS

    possible = [m for m in FORMS if taps > 1 and m + taps - 1 <= MAX_INPUTS]
    return max(possible, default=None)


def _local(graph: TfliteGraph, node: Any, inputs: Inputs, tensor: int, y: Array) -> Bound:
    """The roundings of a node without weights."""
    real = graph.real(tensor, y)
    given = [
        graph.real(t, inputs.values[t])
        for t in node.inputs
        if t in inputs.values and is_real(graph, t, inputs.values[t])
    ]
    scale = np.abs(real)
    for x in given:
        try:
            scale = np.maximum(scale, np.abs(np.broadcast_to(x, real.shape)))
        except ValueError:
            scale = np.maximum(scale, _largest(x))
    sums = _sum(graph.operator(node), node.builtinOptions, given, real)
    bound = 2 * UNIT_ROUNDOFF * (SPREAD * sums + _ROUNDINGS * np.nan_to_num(scale, posinf=0))
    errors = [float(np.max(inputs.errors.get(t, 0.0), initial=0.0)) for t in node.inputs]
    return np.asarray(
        bound + _coupled(graph.operator(node), given, errors, real) + graph.step(tensor)
    )


def _coupled(
    operator: str, given: list[NDArray[np.float64]], errors: list[float], y: Bound
) -> Bound | float:
    """What errors come to where each result depends on many inputs, more than moves can try."""
    if not any(errors):
        return 0.0
    match operator:
        case "SOFTMAX":
            return np.asarray(np.abs(y) * np.expm1(min(2 * max(errors), 100.0)))
        case "LOG_SOFTMAX":
            return 2 * max(errors)
        case "BATCH_MATMUL" if len(given) == 2:
            (a, b), (error_a, error_b) = map(_largest, given), errors[:2]
            return float(SPREAD * np.sqrt(given[0].shape[-1]) * (error_a * b + error_b * a))
    return 0.0


def _sum(operator: str, options: Any, given: list[NDArray[np.float64]], y: Bound) -> Bound | float:
    """sqrt(K) M of a node without weights."""
    if not given:
        return 0.0
    x, largest = given[0], max(map(_largest, given))
    terms = max(1.0, x.size / max(1, y.size))
    match operator:
        case "SUM":
            return float(terms**1.5 * largest)
        case "MEAN" | "REDUCE_PROD":
            return float(np.sqrt(terms) * largest)
        case "AVERAGE_POOL_2D" | "L2_POOL_2D":
            return float(np.sqrt(options.filterHeight * options.filterWidth) * largest)
        case "SOFTMAX" | "L2_NORMALIZATION":
            return np.asarray(np.sqrt(x.shape[-1]) * np.abs(y))
        case "LOG_SOFTMAX":
            return np.asarray(np.sqrt(x.shape[-1]) * (1 + np.abs(y)))
        case "CUMSUM":
            return float(max(x.shape) ** 1.5 * largest)
        case "BATCH_MATMUL" | "FULLY_CONNECTED" | "CONV_2D" | "DEPTHWISE_CONV_2D":
            return float(x.shape[-1] ** 1.5 * _largest(x) * _largest(given[-1]))
        case "RESIZE_BILINEAR":  # the rounding of a coordinate
            return float(max(x.shape) * largest)
    return 0.0


def _moves(graph: TfliteGraph, tensor: int, y: Array, others: list[Array]) -> Bound | float:
    """What errors of the inputs come to."""
    if not others:
        return 0.0
    real = graph.real(tensor, y)
    with np.errstate(invalid="ignore"):
        found = [np.abs(graph.real(tensor, other) - real) for other in others]
    return np.asarray(_BEYOND * np.nan_to_num(np.max(found, axis=0), nan=0.0, posinf=np.inf))


def _moved(
    graph: TfliteGraph, node: Any, single: SingleNode, inputs: Inputs, outputs: list[Array]
) -> list[list[Array]]:
    """The results where all inputs are moved up, down and at random by their errors."""
    is_rounded = any(y.dtype.kind == "f" for y in outputs)
    given = [t for t in dict.fromkeys(node.inputs) if t in inputs.values and t >= 0]
    given = [t for t in given if t not in inputs.constants]
    moves = {t: move for t in given if (move := _move(graph, inputs, t, is_rounded)) is not None}
    if not moves:
        return []
    rng = np.random.default_rng(0)
    results = []
    for position in range(2 + _MOVES):
        values = dict(inputs.values)
        for tensor, (step, least, most) in moves.items():
            signs: Any = 1 - 2 * position
            if position > 1:
                signs = rng.choice((-1, 1), step.shape)
            x = inputs.values[tensor]
            with np.errstate(over="ignore", invalid="ignore"):
                values[tensor] = np.clip(x + signs * step, least, most).astype(x.dtype)
        results.append(single.run(values))
    return results


def _move(
    graph: TfliteGraph, inputs: Inputs, tensor: int, is_rounded: bool
) -> tuple[Bound, float, float] | None:
    """How far to move an input, in its codes, and their limits; ``None``: not at all."""
    x, error = inputs.values[tensor], inputs.errors.get(tensor)
    if x.dtype.kind == "f":
        step = np.zeros(x.shape) if error is None else np.broadcast_to(error, x.shape).copy()
        if is_rounded:
            step += np.nan_to_num(np.abs(x), nan=0.0, posinf=0.0) * UNIT_ROUNDOFF * 2
        return (step, -np.inf, np.inf) if step.any() else None
    if error is None or not graph.is_quantised(tensor):
        return None
    codes = np.round(np.broadcast_to(error, x.shape) / graph.step(tensor))
    limits = np.iinfo(x.dtype)
    return (codes, limits.min, limits.max) if codes.any() else None


def _value(graph: TfliteGraph, inputs: Inputs, tensor: int) -> Array:
    """Of a constant."""
    return inputs.values[tensor] if tensor in inputs.values else graph.constant(tensor)


def _largest(values: NDArray[np.float64]) -> float:
    """The largest magnitude of finite values."""
    return float(np.max(np.abs(values), initial=0.0, where=np.isfinite(values)))
