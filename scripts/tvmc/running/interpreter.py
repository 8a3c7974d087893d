"""An interpreter of TFLite with a model in it, ready to invoke.

LiteRT's or TensorFlow's, with the built-in kernels, with XNNPACK (what users get by default), or
with an external delegate (and XNNPACK for what the delegate leaves).
"""

from __future__ import annotations

import ctypes
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from schedules.errors import LeanconvError, one_line
from schedules.target import elf
from tvmc.compiling.package import TensorInfo
from tvmc.running.probe import Probe

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
            raise LeanconvError(f"{runtime.name} cannot run {graph}: {one_line(error)}") from None
        # Without the Python wrapper's checks, which would be part of every time.
        self._invoke = self.interpreter._interpreter.Invoke
        self._probe: Probe | None = None

    def invoke(self) -> None:
        """Run the model once."""
        try:
            self._invoke()
        except RuntimeError as error:
            raise LeanconvError(f"the model cannot be run: {one_line(error)}") from None

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


def tensor_info(details: Mapping[str, Any]) -> TensorInfo:
    """What an interpreter tells of a tensor, as modules describe theirs."""
    shape = tuple(int(size) for size in details["shape"])
    return TensorInfo(details["name"], shape, np.dtype(details["dtype"]).name)


def _load_delegate(runtime: Runtime, path: Path, options: Mapping[str, str]) -> Any:
    if not path.is_file():
        raise LeanconvError(f"there is no file {path}")
    # First without the runtime, whose wrapper complains again when it is destroyed.
    if problem := elf.refusal(path, "tflite_plugin_create_delegate"):
        raise LeanconvError(f"cannot load the delegate {path}: it {problem}")
    # A bare name would be searched in the system's folders instead of the current one.
    library = str(path.resolve())
    try:
        ctypes.CDLL(library)
        return runtime.load_delegate(library, dict(options))
    except (OSError, RuntimeError, ValueError) as error:
        raise LeanconvError(f"cannot load the delegate {path}: {one_line(error)}") from None
