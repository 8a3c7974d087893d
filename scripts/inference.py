"""Running one .tflite model in TFLite's runtimes, and comparing them.

A :class:`Session` is an interpreter ready to invoke: LiteRT's or TensorFlow's, with the built-in
kernels, with XNNPACK (what users get by default), or with an external delegate (and XNNPACK for
what the delegate leaves).
"""

from __future__ import annotations

import ctypes
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarking import SUMMARY_HEADER, Timing, interleave, summary_columns
from probe import Probe
from schedules.errors import LeanconvError
from tvmc.tables import format_bytes

Arrays = list[NDArray[Any]]


class Runtime(NamedTuple):
    """What is used of one Python package that runs .tflite files."""

    name: str
    interpreter: Any
    load_delegate: Any
    resolver: Any


def runtime(name: str) -> Runtime:
    """``litert`` (ai_edge_litert) or ``tensorflow``.

    Raises
    ------
    LeanconvError
        If the package is not installed.
    """
    if name == "litert":
        try:
            from ai_edge_litert import interpreter as litert
        except ImportError as error:
            raise LeanconvError(f"{error}: pip install 'leanconv[runtime]'") from None
        return Runtime("LiteRT", litert.Interpreter, litert.load_delegate, litert.OpResolverType)
    if name == "tensorflow":
        try:
            from tensorflow import lite
        except ImportError as error:
            raise LeanconvError(f"{error}: pip install 'leanconv[models]'") from None
        resolver = lite.experimental.OpResolverType
        return Runtime("TensorFlow", lite.Interpreter, lite.experimental.load_delegate, resolver)
    raise LeanconvError(f"unknown runtime {name!r}: litert or tensorflow")


class Session:
    """One interpreter with tensors allocated.

    Parameters
    ----------
    graph : path
        The .tflite file.
    runtime : Runtime
        Whose interpreter.
    threads : int
        As ``num_threads`` of the interpreter.
    delegate : path, optional
        Shared library of an external delegate.
    delegate_options : mapping of str to str
        Handed to the delegate.
    xnnpack : bool
        Whether XNNPACK takes the nodes that the delegate leaves.
    keep_tensors : bool
        Whether every tensor keeps its value after a run, to be read; takes more memory.

    Raises
    ------
    LeanconvError
        If the model or the delegate cannot be loaded.
    """

    def __init__(
        self,
        graph: Path,
        runtime: Runtime,
        *,
        threads: int = 1,
        delegate: Path | None = None,
        delegate_options: Mapping[str, str] | None = None,
        xnnpack: bool = True,
        keep_tensors: bool = False,
    ) -> None:
        if not graph.is_file():
            raise LeanconvError(f"there is no file {graph}")
        self.delegate = None
        self._library_path = delegate
        if delegate is not None:
            self.delegate = _load_delegate(runtime, delegate, delegate_options or {})
        resolvers = runtime.resolver
        try:
            self.interpreter = runtime.interpreter(
                model_path=str(graph),
                num_threads=threads,
                experimental_preserve_all_tensors=keep_tensors,
                experimental_delegates=[self.delegate] if self.delegate else None,
                experimental_op_resolver_type=(
                    resolvers.BUILTIN if xnnpack else resolvers.BUILTIN_WITHOUT_DEFAULT_DELEGATES
                ),
            )
            self.interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise LeanconvError(f"{runtime.name} cannot run {graph}: {_one_line(error)}") from None
        # Without the Python wrapper's checks, which would be part of every time.
        self._invoke = self.interpreter._interpreter.Invoke
        self._probe: Probe | None = None

    def invoke(self) -> None:
        """Run the model once."""
        try:
            self._invoke()
        except RuntimeError as error:
            raise LeanconvError(f"the model cannot be run: {_one_line(error)}") from None

    def inputs(self) -> list[dict[str, Any]]:
        """Name, shape, dtype and index of every input tensor."""
        details: list[dict[str, Any]] = self.interpreter.get_input_details()
        return details

    def set_inputs(self, values: Sequence[NDArray[Any]]) -> None:
        """Set every input tensor."""
        for details, value in zip(self.inputs(), values, strict=True):
            self.interpreter.set_tensor(details["index"], value)

    def outputs(self) -> Arrays:
        """Copies of every output tensor."""
        details = self.interpreter.get_output_details()
        return [self.interpreter.get_tensor(output["index"]) for output in details]

    def run(self, values: Sequence[NDArray[Any]]) -> Arrays:
        """The outputs for these inputs."""
        self.set_inputs(values)
        self.invoke()
        return self.outputs()

    def probe(self) -> Probe:
        """A look inside; input values are lost when it is first asked for."""
        if self._probe is None:
            self._probe = Probe(self.interpreter)
        return self._probe

    def report(self) -> dict[str, Any] | None:
        """What a leanconv delegate tells of itself; None for any other."""
        if self.delegate is None or self._library_path is None:
            return None
        library = ctypes.CDLL(str(self._library_path.resolve()))
        try:
            function = library.leanconv_report
        except AttributeError:
            return None
        function.restype = ctypes.c_size_t
        function.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]
        pointer = self.delegate._get_native_delegate_pointer()
        size = function(pointer, None, 0) + 1
        text = ctypes.create_string_buffer(size)
        function(pointer, text, size)
        report: dict[str, Any] = json.loads(text.value.decode())
        return report


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


def _load_delegate(runtime: Runtime, path: Path, options: Mapping[str, str]) -> Any:
    if not path.is_file():
        raise LeanconvError(f"there is no file {path}")
    # A bare name would be searched in the system's folders instead of the current one.
    library = str(path.resolve())
    try:
        # First without the runtime, whose wrapper complains again when it is destroyed.
        if not hasattr(ctypes.CDLL(library), "tflite_plugin_create_delegate"):
            raise LeanconvError(f"{path} is no external delegate of TFLite")
        return runtime.load_delegate(library, dict(options))
    except (OSError, RuntimeError, ValueError) as error:
        raise LeanconvError(f"cannot load the delegate {path}: {_one_line(error)}") from None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def random_inputs(session: Session, seed: int = 0) -> Arrays:
    """Uniform values: [-1, 1) for floating point, the whole range for integers, at most 255."""
    rng = np.random.default_rng(seed)
    values = []
    for details in session.inputs():
        shape, dtype = details["shape"], np.dtype(details["dtype"])
        if dtype.kind == "f":
            values.append(rng.uniform(-1, 1, shape).astype(dtype))
        elif dtype.kind in "iu":
            limits = np.iinfo(dtype)
            low, high = max(limits.min, -128), min(limits.max, 255)
            values.append(rng.integers(low, high, shape, dtype, endpoint=True))
        elif dtype.kind == "b":
            values.append(rng.integers(0, 2, shape).astype(dtype))
        else:
            raise LeanconvError(f"input {details['name']!r} is of type {dtype}: give it a value")
    return values


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
        As for :func:`benchmarking.interleave`.

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
        results.append(
            Result(
                model=graph.stem,
                runtime=name,
                timing=timings[name],
                base=timings[base],
                arena_bytes=session.probe().arena_bytes(),
                workspace_bytes=memory and memory.workspace_bytes,
                packed_bytes=memory and memory.packed_bytes,
                heap_bytes=heap[name],
                difference=difference,
            )
        )
    return results


#: The name of our runtime in tables.
LEANCONV = "leanconv"


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
