"""The tensors of a module for TVM's runtime, as the functions that its machine calls left them.

Nothing says which tensor of the .tflite file a function computed. But it computed one: so it is the
one with the value that is expected there, within the bound. Where nothing has that value, it stays
inside a function, or it is wrong, and so is what follows, to the model's outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tvmc.comparing.differences import Row, Seen, row, worst
from tvmc.comparing.node_bound import Result
from tvmc.comparing.rounding import OF_SUMS
from tvmc.comparing.tflite_graph import Array, TfliteGraph

#: Elements by which candidates are told apart before all are compared.
_SAMPLE = 4096


class ModuleTensors:
    """One run of a module.

    Parameters
    ----------
    graph : TfliteGraph
        The model.
    outputs : sequence of array
        Those of the run, in the model's order.
    calls : sequence of (str, array)
        Each function that was called, and a result of it.
    """

    def __init__(
        self, graph: TfliteGraph, outputs: Sequence[Array], calls: Sequence[tuple[str, Array]]
    ) -> None:
        self._graph = graph
        self._outputs = dict(zip((t for t in graph.outputs if t >= 0), outputs, strict=True))
        self._unused = list(calls)
        self._hidden: dict[int, Result] = {}
        self._has_sums = any(name.endswith(OF_SUMS) for name, _ in calls)

    def checks(self, _node: Any) -> bool:
        """It computes all."""
        return True

    def given(self, _tensor: int) -> None:
        """It computes all."""

    def multiplies_sums(self, _node: Any) -> bool:
        """Whether any of its kernels is."""
        return self._has_sums

    def seen(self, tensor: int, expected: Result) -> Seen | None:
        """The output, or the result of a call that is as expected."""
        found = self._closest(tensor, expected)
        if tensor in self._outputs:
            name = self._unused.pop(found[2])[0] if found and found[0] <= found[1] else "the module"
            return Seen(self._outputs[tensor], name)
        if found is None or found[0] > found[1]:
            self._hidden[tensor] = expected
            return None
        name, value = self._unused.pop(found[2])
        return Seen(self._codes(tensor, expected, value), name)

    def first_difference(self, rows: Sequence[Row]) -> Row | None:
        """The first tensor, in graph order, that is wrong; ``None`` if no output is."""
        wrong = {row.tensor: row for row in rows if not row.within}
        if not wrong:
            return None
        producers = {t: node for node in self._graph.nodes for t in node.outputs}
        suspects, left = set[int](), list(wrong)
        while left:
            node = producers.get(left.pop())
            new = {t for t in node.inputs if t in self._hidden} - suspects if node else set()
            suspects |= new
            left += new
        for tensor, node in producers.items():
            if tensor in wrong:
                return wrong[tensor]
            if tensor in suspects and (found := self._closest(tensor, self._hidden[tensor])):
                name, value = self._unused[found[2]]
                expected = self._hidden[tensor]
                seen = Seen(self._codes(tensor, expected, value), name)
                return row(self._graph, node, tensor, expected, seen)
        return next(iter(wrong.values()))

    def _closest(self, tensor: int, expected: Result) -> tuple[float, float, int] | None:
        """Difference, bound and place of the call that comes nearest to what is expected."""
        best: tuple[float, float, float, int] | None = None
        every = max(1, expected.value.size // _SAMPLE)
        sample = Result(
            expected.value.ravel()[::every],
            np.broadcast_to(expected.bound, expected.value.shape).ravel()[::every],
        )
        for place, (_, value) in enumerate(self._unused):
            if not self._may_be(tensor, expected, value):
                continue
            codes = self._codes(tensor, expected, value)
            found = worst(self._graph, tensor, sample, codes.ravel()[::every])
            if found[0] <= found[1]:
                found = worst(self._graph, tensor, expected, codes)
            share = found[0] / found[1] if found[1] else float(found[0] > 0) * np.inf
            if best is None or share < best[0]:
                best = (share, *found, place)
        return best and best[1:]

    def _may_be(self, tensor: int, expected: Result, value: Array) -> bool:
        same_type = value.dtype == expected.value.dtype
        as_real = value.dtype.kind == "f" and self._graph.is_quantised(tensor)
        return value.size == expected.value.size and (same_type or as_real)

    def _codes(self, tensor: int, expected: Result, value: Array) -> Array:
        """``value`` in the shape and type of the file, where it may be in real numbers."""
        value = value.reshape(expected.value.shape)
        if value.dtype == expected.value.dtype:
            return value
        quantization = self._graph.tensors[tensor].quantization
        limits = np.iinfo(expected.value.dtype)
        with np.errstate(invalid="ignore"):
            codes = np.round(value / quantization.scale[0]) + quantization.zeroPoint[0]
            return np.clip(codes, limits.min, limits.max).astype(expected.value.dtype)
