"""Running one .tflite model in TFLite's runtimes, and comparing them."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from scripts.benchmarks.harness.interleaving import (
    SUMMARY_HEADER,
    Timing,
    interleave,
    summary_columns,
)
from tvmc.running.interpreter import Arrays, Runtime, Session, tensor_info
from tvmc.running.tensors import input_values
from tvmc.tables import format_bytes


class DelegateMemory(NamedTuple):
    """Bytes that a leanconv delegate needs beside the model's tensors."""

    workspace_bytes: int  # the largest layer's: layers share it
    packed_bytes: int


def delegate_memory(report: Mapping[str, Any] | None) -> DelegateMemory | None:
    """The totals of what :meth:`Session.report` returned."""
    if report is None:
        return None
    layers = report["layers"]
    workspace = max((layer["workspace_bytes"] for layer in layers), default=0)
    return DelegateMemory(workspace, sum(layer["packed_bytes"] for layer in layers))


def described(session: Session) -> dict[str, Any]:
    """Its arena, and what a leanconv delegate in it reports."""
    report = session.report()
    memory = delegate_memory(report)
    layers = report["layers"] if report else []
    return {
        "arena_bytes": session.probe().arena_bytes(),
        "workspace_bytes": memory and memory.workspace_bytes,
        "packed_bytes": memory and memory.packed_bytes,
        "own_bytes": report and report["memory"]["own_bytes"],
        "algorithms": [layer["algorithm"] for layer in layers],
        "claimed": sum(len(layer["layers"]) for layer in layers),
    }


def random_inputs(session: Session, seed: int = 0) -> Arrays:
    """Uniform values: [-1, 1) for floating point, the whole range for integers, at most 255."""
    return input_values([tensor_info(d) for d in session.inputs()], {}, "random", seed)


#: Operators whose layers have weights.
WITH_WEIGHTS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


def is_of_codes(session: Session) -> bool:
    """Whether a model has layers with weights of 8 bits, whatever their activations are."""
    interpreter = session.interpreter
    types = {tensor["index"]: tensor["dtype"] for tensor in interpreter.get_tensor_details()}
    nodes = interpreter._get_ops_details()
    weights = [node["inputs"][1] for node in nodes if node["op_name"] in WITH_WEIGHTS]
    return any(types[tensor] in (np.int8, np.uint8) for tensor in weights)


# Memory


class _Mallinfo(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd")
        + ("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")
    ]


def heap_bytes() -> int | None:
    """Bytes that this process has taken with malloc and not freed; None where libc cannot tell."""
    try:
        mallinfo = ctypes.CDLL(None).mallinfo2
    except (AttributeError, OSError):
        return None
    mallinfo.restype = _Mallinfo
    info = mallinfo()
    return int(info.uordblks + info.hblkhd)


# Comparison


@dataclass(frozen=True)
class Result:
    """One runtime's part of a comparison on one model."""

    model: str
    runtime: str
    timing: Timing
    base: Timing
    arena_bytes: int
    workspace_bytes: int | None
    packed_bytes: int | None
    heap_bytes: int | None
    difference: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; bytes and seconds."""
        minima, medians = self.timing.ratio(self.base)
        return {
            "model": self.model,
            "runtime": self.runtime,
            **self.timing.to_dict(),
            "ratio_of_minima": minima,
            "ratio_of_medians": medians,
            "arena_bytes": self.arena_bytes,
            "workspace_bytes": self.workspace_bytes,
            "packed_bytes": self.packed_bytes,
            "heap_bytes": self.heap_bytes,
            "max_difference": self.difference,
        }

    def columns(self) -> list[str]:
        """Text for the columns of ``COMPARISON_HEADER``."""
        memory = (self.arena_bytes, self.workspace_bytes, self.packed_bytes, self.heap_bytes)
        return [
            self.model,
            self.runtime,
            *summary_columns(self.timing, self.base),
            *("-" if count is None else format_bytes(count) for count in memory),
            f"{self.difference:.2g}",
        ]


#: What `Result.columns` returns.
COMPARISON_HEADER = (
    "model",
    "runtime",
    *SUMMARY_HEADER,
    "arena",
    "workspace",
    "packed",
    "heap",
    "max diff",
)

#: What the memory columns mean, for the line under a table.
MEMORY_NOTE = (
    "arena: memory that TFLite's tensors share, leanconv's workspace included; packed: weights in "
    "leanconv's layout;\nheap: everything allocated from opening the model to the end of the first "
    "run (arena, packed weights, XNNPACK's own)"
)


def compare(
    graph: Path,
    delegate: Path | None,
    *,
    runtime: Runtime,
    threads: int = 1,
    delegate_options: Mapping[str, str] | None = None,
    values: Sequence[NDArray[Any]] | None = None,
    rounds: int = 50,
    seconds: float = 10.0,
) -> list[Result]:
    """One model with XNNPACK, with the built-in kernels and with a delegate, in turns.

    Parameters
    ----------
    graph, delegate : path
        The model, and the delegate's library if there is one.
    values : sequence of arrays, optional
        The inputs; random ones by default.
    rounds, seconds : int, float
        As for :func:`scripts.benchmarks.harness.interleaving.interleave`.

    Returns
    -------
    list of Result
        Time ratios are to XNNPACK, differences of outputs are to the built-in kernels.
    """
    kinds: dict[str, dict[str, Any]] = {
        f"{runtime.name} + XNNPACK": {},
        f"{runtime.name} built-in": {"xnnpack": False},
    }
    if delegate is not None:
        options = {"delegate": delegate, "delegate_options": delegate_options}
        kinds[LEANCONV] = options
    sessions: dict[str, Session] = {}
    heap: dict[str, int | None] = {}
    for name, arguments in kinds.items():
        opening, session = _heap_growth(
            lambda arguments=arguments: Session(graph, runtime, threads=threads, **arguments)
        )
        values = values or random_inputs(session)
        session.set_inputs(values)
        running, _ = _heap_growth(session.invoke)
        heap[name] = None if opening is None or running is None else opening + running
        sessions[name] = session
    base, reference = list(sessions)[:2]
    timings = interleave(
        {name: session.invoke for name, session in sessions.items()}, rounds=rounds, seconds=seconds
    )
    expected = sessions[reference].outputs()
    results = []
    for name, session in sessions.items():
        difference = max_difference(session.outputs(), expected)
        memory = delegate_memory(session.report())
        held = heap[name]
        if held is not None and memory is not None and memory.packed_bytes >= MAPPED_BYTES:
            held += memory.packed_bytes
        results.append(
            Result(
                model=graph.stem,
                runtime=name,
                timing=timings[name],
                base=timings[base],
                arena_bytes=session.probe().arena_bytes(),
                workspace_bytes=memory and memory.workspace_bytes,
                packed_bytes=memory and memory.packed_bytes,
                heap_bytes=held,
                difference=difference,
            )
        )
    return results


#: The name of our runtime in tables.
LEANCONV = "leanconv"
#: Packed weights of so many bytes lie in pages of their own, which malloc does not know of
#: (tflite_delegate/csrc/kernels/pages/weight_region.c).
MAPPED_BYTES = 2 << 20


def max_difference(outputs: Sequence[NDArray[Any]], expected: Sequence[NDArray[Any]]) -> float:
    """Largest absolute difference of any element; infinite if there is a NaN on one side only."""
    largest = 0.0
    for got, want in zip(outputs, expected, strict=True):
        if got.dtype.kind not in "fiub" or not got.size:
            continue
        difference = np.abs(got.astype(np.float64) - want.astype(np.float64))
        difference[np.isnan(got) & np.isnan(want)] = 0.0
        largest = max(largest, float(np.nan_to_num(difference, nan=np.inf).max()))
    return largest


def _heap_growth(action: Any) -> tuple[int | None, Any]:
    """Bytes that ``action`` has allocated and kept, and what it returned."""
    before = heap_bytes()
    result = action()
    after = heap_bytes()
    return None if before is None or after is None else after - before, result
