"""Inputs like those that a model is made for, where nobody gives any."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schedules.errors import LeanconvError
from tvmc.comparing.tflite_graph import TfliteGraph
from tvmc.compiling.package import TensorInfo


def typical_inputs(
    graph: TfliteGraph, infos: Sequence[TensorInfo], seed: int
) -> list[NDArray[Any]]:
    """A value for each input of a model, in its order.

    Floating-point numbers are uniform in the range that the file declares, or else normal; codes
    and bytes cover their type; other integers, which may be indices, are 0 or 1.

    Raises
    ------
    LeanconvError
        If an input is no number.
    """
    rng = np.random.default_rng(seed)
    tensors = [tensor for tensor in graph.inputs if tensor >= 0]
    return [_value(graph, t, info, rng) for t, info in zip(tensors, infos, strict=True)]


def _value(
    graph: TfliteGraph, tensor: int, info: TensorInfo, rng: np.random.Generator
) -> NDArray[Any]:
    dtype = np.dtype(info.dtype)
    if dtype.kind == "f":
        if declared := _declared(graph, tensor):
            return np.asarray(rng.uniform(*declared, info.shape), dtype)
        return np.asarray(rng.standard_normal(info.shape), dtype)
    if dtype.kind not in "iub":
        raise LeanconvError(f"input {info.name!r} is of type {dtype}: give it a value")
    if dtype.kind != "b" and (graph.is_quantised(tensor) or dtype.itemsize == 1):
        limits = np.iinfo(dtype)
        values = rng.integers(limits.min, limits.max, info.shape, dtype, endpoint=True)
        return np.asarray(values)
    return np.asarray(rng.integers(0, 2, info.shape), dtype)


def _declared(graph: TfliteGraph, tensor: int) -> tuple[float, float] | None:
    """The range of a floating-point input, if the file has one."""
    quantization = graph.tensors[tensor].quantization
    least, most = (
        getattr(quantization, name, None) if quantization else None for name in ("min", "max")
    )
    if least is None or most is None or len(least) != 1 or not least[0] < most[0]:
        return None
    return float(least[0]), float(most[0])
