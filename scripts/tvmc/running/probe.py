"""Look inside a TFLite interpreter from Python: its arena, its nodes, the time of each node.

The Python interpreters show neither. A TFLite delegate does see both, and a delegate is a C
struct with one callback, which ctypes can make: the probe applies itself as the last delegate,
claims nothing, and keeps the pointers that it is shown. The struct layouts are those that every
external delegate relies on; tests compare what is read here with what the runtimes publish.
"""

from __future__ import annotations

import contextlib
import ctypes as c
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tflite_delegate.read.supported import operator_name

ARENA_RW, ARENA_RW_PERSISTENT, DYNAMIC = 2, 3, 4  # kinds of tensor allocation
DELEGATE = 51  # operator code of a node that a delegate computes
_INPUTS, _OUTPUTS, _TEMPORARIES = 0, 1, 3  # fields of a node
ALLOW_DYNAMIC_TENSORS = 1  # without it, applying a delegate would freeze the graph


def _fields(**types: Any) -> list[tuple[str, Any]]:
    return list(types.items())


_INVOKE = c.CFUNCTYPE(c.c_int, c.c_void_p, c.c_void_p)
_PROFILING_STRING = c.CFUNCTYPE(c.c_char_p, c.c_void_p, c.c_void_p)


class _Tensor(c.Structure):
    _fields_ = _fields(
        type=c.c_int, data=c.c_void_p, dims=c.c_void_p, scale=c.c_float, zero_point=c.c_int32,
        allocation_type=c.c_int, bytes=c.c_size_t, allocation=c.c_void_p, name=c.c_char_p,
        delegate=c.c_void_p, buffer_handle=c.c_int, data_is_stale=c.c_bool, is_variable=c.c_bool,
        quantization_type=c.c_int, quantization_params=c.c_void_p, sparsity=c.c_void_p,
        dims_signature=c.c_void_p,
    )  # fmt: skip


class _Registration(c.Structure):
    _fields_ = _fields(
        init=c.c_void_p, free=c.c_void_p, prepare=c.c_void_p, invoke=c.c_void_p,
        profiling_string=c.c_void_p, builtin_code=c.c_int32, custom_name=c.c_char_p,
    )  # fmt: skip  # the rest is of no interest


_GET_PLAN = c.CFUNCTYPE(c.c_int, c.c_void_p, c.POINTER(c.POINTER(c.c_int)))
_GET_NODE = c.CFUNCTYPE(
    c.c_int, c.c_void_p, c.c_int, c.POINTER(c.c_void_p), c.POINTER(c.POINTER(_Registration))
)


class _Context(c.Structure):
    _fields_ = _fields(
        tensors_size=c.c_size_t, get_execution_plan=_GET_PLAN, tensors=c.POINTER(_Tensor),
        impl=c.c_void_p, resize_tensor=c.c_void_p, report_error=c.c_void_p,
        add_tensors=c.c_void_p, get_node_and_registration=_GET_NODE,
    )  # fmt: skip


_PREPARE = c.CFUNCTYPE(c.c_int, c.POINTER(_Context), c.c_void_p)


class _Delegate(c.Structure):
    _fields_ = _fields(
        data=c.c_void_p, prepare=_PREPARE, copy_from_buffer_handle=c.c_void_p,
        copy_to_buffer_handle=c.c_void_p, free_buffer_handle=c.c_void_p, flags=c.c_int64,
        opaque_delegate_builder=c.c_void_p,
    )  # fmt: skip


@dataclass
class Node:
    """One node of the execution plan, after all delegates have taken what they take."""

    index: int
    graph: int  # number of the subgraph
    kind: str  # its operator, or what a delegate calls this sort of node
    description: str  # what a delegate's node says of itself
    outputs: tuple[str, ...]  # names of tensors
    reads: tuple[int, ...]  # tensors
    writes: tuple[int, ...]
    temporaries: tuple[int, ...]  # tensors that it alone uses
    registration: Any = field(repr=False)
    seconds: list[float] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Kind and description."""
        return " ".join(filter(None, (self.kind, self.description)))

    @property
    def is_delegate(self) -> bool:
        """Whether a delegate computes it."""
        return bool(self.registration.custom_name) and self.registration.builtin_code == DELEGATE


class Probe:
    """What the interpreter executes and where its tensors lie.

    Parameters
    ----------
    interpreter : ai_edge_litert.interpreter.Interpreter or tf.lite.Interpreter
        With tensors allocated. Its input values are lost, as after ``allocate_tensors``. The
        probe must live as long as the interpreter.
    """

    def __init__(self, interpreter: Any) -> None:
        self.nodes: list[Node] = []
        self._contexts: list[Any] = []  # of every subgraph
        self._delegate = _Delegate(prepare=_PREPARE(self._prepare), flags=ALLOW_DYNAMIC_TENSORS)
        interpreter._interpreter.ModifyGraphWithDelegate(c.addressof(self._delegate))
        # Not the wrapper: it refuses while anybody holds a bound method of the interpreter.
        interpreter._interpreter.AllocateTensors()

    def _prepare(self, context: Any, _delegate: Any) -> int:
        self._contexts.append(context)
        address = c.cast(context, c.c_void_p)
        plan = c.POINTER(c.c_int)()
        if context.contents.get_execution_plan(address, c.byref(plan)):
            return 1
        for index in plan[1 : 1 + plan[0]]:
            node, registration = c.c_void_p(), c.POINTER(_Registration)()
            context.contents.get_node_and_registration(
                address, index, c.byref(node), c.byref(registration)
            )
            self.nodes.append(
                Node(
                    index,
                    len(self._contexts) - 1,
                    _kind(registration.contents),
                    _description(address, node, registration.contents),
                    _output_names(context.contents, node),
                    _indices(node, _INPUTS),
                    _indices(node, _OUTPUTS),
                    _indices(node, _TEMPORARIES),
                    registration.contents,
                )
            )
        return 0

    def arena_bytes(self) -> int:
        """Bytes of the memory that intermediate tensors share, delegates' workspace included.

        From the first byte of the first tensor in the arena to the last byte of the last one,
        plus the arena of persistent tensors, plus tensors that were allocated one by one.
        """
        return sum(_arena_bytes(context.contents) for context in self._contexts)

    def spans(self, tensors: Iterable[int]) -> list[tuple[int, int]]:
        """Where those of the main graph's tensors lie that are in the arena: [begin, end)."""
        found = [self._contexts[0].contents.tensors[index] for index in tensors]
        return [
            (tensor.data, tensor.data + tensor.bytes)
            for tensor in found
            if tensor.allocation_type == ARENA_RW and tensor.data
        ]

    @contextlib.contextmanager
    def timing(self) -> Iterator[None]:
        """Record the seconds of each node in ``nodes`` for the invocations inside.

        Each node then costs two more calls between C and Python, some microseconds, of which
        less than one is inside the recorded time.
        """
        originals = []
        wrappers = []  # ctypes callbacks must outlive their use
        for node in self.nodes:
            original = node.registration.invoke
            originals.append(original)
            wrappers.append(_timed(_INVOKE(original), node.seconds))
            node.registration.invoke = c.cast(wrappers[-1], c.c_void_p).value
        try:
            yield
        finally:
            for node, original in zip(self.nodes, originals, strict=True):
                node.registration.invoke = original


def _arena_bytes(context: Any) -> int:
    tensors = context.tensors[: context.tensors_size]
    total = sum(t.bytes for t in tensors if t.allocation_type == DYNAMIC and t.data)
    for kind in (ARENA_RW, ARENA_RW_PERSISTENT):
        spans = [(t.data, t.bytes) for t in tensors if t.allocation_type == kind and t.data]
        if spans:
            total += max(start + size for start, size in spans) - min(spans)[0]
    return total


def _kind(registration: Any) -> str:
    custom = registration.custom_name
    return custom.decode(errors="replace") if custom else operator_name(registration.builtin_code)


def _description(context: Any, node: Any, registration: Any) -> str:
    """What a leanconv delegate's node says of itself; nobody else is asked."""
    ours = (registration.custom_name or b"").startswith(b"leanconv/")
    if not ours or not registration.profiling_string:
        return ""
    text = _PROFILING_STRING(registration.profiling_string)(context, node)
    return (text or b"").decode(errors="replace")


def _output_names(context: Any, node: Any) -> tuple[str, ...]:
    names = (context.tensors[i].name for i in _indices(node, _OUTPUTS))
    return tuple((name or b"").decode(errors="replace") for name in names)


def _indices(node: Any, field: int) -> tuple[int, ...]:
    """The tensors that one of a node's first fields names."""
    indices = c.cast(node, c.POINTER(c.POINTER(c.c_int)))[field]
    return tuple(i for i in indices[1 : 1 + indices[0]] if i >= 0) if indices else ()


def _timed(invoke: Any, seconds: list[float]) -> Any:
    def timed(context: Any, node: Any) -> int:
        start = time.perf_counter()
        status = invoke(context, node)
        seconds.append(time.perf_counter() - start)
        return int(status)

    return _INVOKE(timed)
