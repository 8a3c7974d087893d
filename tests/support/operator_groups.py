"""The cases of one model each."""

from __future__ import annotations

from tests.support.operator_cases import (
    elements,
    indexing,
    layers,
    movement,
    reductions,
    slices,
    windows,
)
from tests.support.quantised_cases import quantised

GROUPS = {
    function.__name__: list(function())
    for function in (
        elements, reductions, movement, slices, indexing, windows, layers, quantised,
    )
}  # fmt: skip
