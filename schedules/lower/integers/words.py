"""Words of the image: four elements side by side, or put side by side."""

from __future__ import annotations

from collections.abc import Sequence

import tvm
from tvm import tirx
from tvm.sym import Analyzer
from tvm.tirx import Expr

from schedules.layer.words import WORD
from schedules.lower.integers.vectors import (
    constant,
    lanes_of,
    vector_type,
)


def lower_word(elements: Sequence[Expr], known: Analyzer) -> Expr:
    """One load of bytes that stand side by side, else the bytes shifted to their places.

    What is ``known`` are the values of variables.
    """
    lanes = max(map(lanes_of, elements))
    start = _common_start(elements, known)
    if start is not None:
        count = WORD * lanes
        ramp = tirx.Ramp(start, tirx.const(1, "int32"), count)
        loaded = tirx.BufferLoad(elements[0].source, [ramp])
        return tirx.reinterpret(vector_type("int32", lanes), loaded)
    value = None
    for place, element in enumerate(elements):
        element = tirx.Cast(vector_type("int32", lanes), element) & constant(255, "int32", lanes)
        if place:
            element = element << constant(8 * place, "int32", lanes)
        value = element if value is None else value | element
    assert value is not None, "a word has four elements"
    return value


def _common_start(elements: Sequence[Expr], known: Analyzer) -> Expr | None:
    """The index of the first of bytes that are loaded from places side by side, in every lane."""
    if not all(isinstance(element, tvm.ir.TensorLoad) for element in elements):
        return None
    first, indices = elements[0], [element.indices[0] for element in elements]
    lanes = lanes_of(first)
    if any(not element.source.same_as(first.source) for element in elements):
        return None
    if lanes > 1:
        ramps = all(isinstance(index, tirx.Ramp) for index in indices)
        if not ramps or not known.can_prove_equal(indices[0].stride, WORD):
            return None
        indices = [index.base for index in indices]
    apart = (index - indices[0] for index in indices[1:])
    if not all(known.can_prove_equal(d, place) for place, d in enumerate(apart, 1)):
        return None
    return indices[0]
