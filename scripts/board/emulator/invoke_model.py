"""Run one TensorFlow Lite model on the board, with a delegate or without.

This file runs on the board's own Python under LiteRT: it imports nothing of this project. Inputs
come from a file or a generator, outputs go to an ``.npz`` file (``output_0``, ``output_1``, … in
the model's order), and the last line of standard output is what the delegate's ``leanconv_report``
says after the last invocation, or ``null``. Bad input ends with one line on standard error and exit
status 2.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Delegate, Interpreter, OpResolverType


class InvocationError(Exception):
    """Bad input, told in one line."""


def parse_options(text: str) -> dict[str, str]:
    """Delegate options from ``key:value;key:value``, the form that ``benchmark_model`` takes.

    Raises
    ------
    InvocationError
        For a part without a colon or without a key.
    """
    options = {}
    for part in filter(None, text.split(";")):
        key, colon, value = part.partition(":")
        if not colon or not key:
            raise InvocationError(f"delegate option {part!r} is not of the form key:value")
        options[key] = value
    return options


def random_input(generator: np.random.Generator, shape: Any, dtype: Any) -> np.ndarray:
    """Values that exercise a layer: floats in [-1, 1), 8 and 16-bit integers over their range.

    Wider integers are 0 or 1, because models use them as indices and lengths.
    """
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return generator.uniform(-1.0, 1.0, shape).astype(kind)
    if kind.kind in "iu" and kind.itemsize <= 2:
        limits = np.iinfo(kind)
        return generator.integers(limits.min, limits.max, shape, kind, endpoint=True)
    return generator.integers(0, 2, shape).astype(kind)


def load_inputs(path: Path) -> list[np.ndarray]:
    """Input arrays in the model's order: one from ``.npy``, ``input_0``, … from ``.npz``."""
    try:
        loaded = np.load(path)
        if isinstance(loaded, np.ndarray):
            return [loaded]
        return [loaded[f"input_{i}"] for i in range(len(loaded.files))]
    except (OSError, ValueError, KeyError) as error:
        raise InvocationError(f"cannot read the inputs {path}: {error}") from error


def open_delegate(library: Path, options: dict[str, str]) -> Delegate:
    """Load a TensorFlow Lite external delegate."""
    try:
        return Delegate(str(library.absolute()), options)
    except (OSError, ValueError, AttributeError) as error:
        reason = str(error) or "it gives no reason"
        raise InvocationError(f"cannot load the delegate {library}: {reason}") from error


def open_interpreter(
    model: Path, *, builtin: bool, threads: int, delegate: Delegate | None
) -> Interpreter:
    """Load a model; what a delegate leaves goes to XNNPACK unless `builtin`."""
    resolver = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES if builtin else OpResolverType.AUTO
    try:
        return Interpreter(
            model_path=str(model),
            num_threads=threads,
            experimental_op_resolver_type=resolver,
            experimental_delegates=[delegate] if delegate else None,
        )
    except (ValueError, RuntimeError) as error:
        raise InvocationError(f"LiteRT cannot load the model {model}: {error}") from error


def set_inputs(interpreter: Interpreter, given: list[np.ndarray] | None) -> None:
    """Allocate the tensors and fill the inputs; given ones may change the model's shapes."""
    details = interpreter.get_input_details()
    if given is not None and len(given) != len(details):
        raise InvocationError(f"the model takes {len(details)} inputs, {len(given)} are given")
    generator = np.random.default_rng(0)
    try:
        for detail, array in zip(details, given or [], strict=False):
            if tuple(detail["shape"]) != array.shape:
                interpreter.resize_tensor_input(detail["index"], array.shape)
        interpreter.allocate_tensors()
        for i, detail in enumerate(interpreter.get_input_details()):
            array = (
                random_input(generator, detail["shape"], detail["dtype"])
                if given is None
                else given[i]
            )
            interpreter.set_tensor(detail["index"], array)
    except (ValueError, RuntimeError) as error:
        raise InvocationError(f"LiteRT refuses the model or its inputs: {error}") from error


def delegate_report(delegate: Delegate) -> Any:
    """The delegate's own JSON report, or None when the library has none."""
    library = delegate._library
    try:
        function = library.leanconv_report
    except AttributeError:
        return None
    function.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]
    function.restype = ctypes.c_size_t
    pointer = delegate._get_native_delegate_pointer()
    size = function(pointer, None, 0) + 1
    buffer = ctypes.create_string_buffer(size)
    function(pointer, buffer, size)
    try:
        return json.loads(buffer.value)
    except ValueError as error:
        raise InvocationError(f"the delegate's report is no JSON: {error}") from error


def count_invocation(interpreter: Interpreter, markers_library: Path) -> None:
    """Mark two regions last: a Python call of nothing, then one invocation.

    The first is what marking costs. It is repeated because CPython rewrites the bytecode of a loop
    during its first rounds.
    """
    markers = ctypes.CDLL(str(markers_library))
    for call in [lambda: None] * 16 + [interpreter.invoke]:
        markers.leanconv_region_start()
        call()
        markers.leanconv_region_stop()


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Run one TensorFlow Lite model under LiteRT.")
    parser.add_argument("model", type=Path)
    parser.add_argument(
        "--inputs", type=Path, help=".npy, or .npz with input_0, …; without it, random inputs"
    )
    parser.add_argument("--outputs", type=Path, required=True, help="the .npz file to write")
    parser.add_argument("--delegate", type=Path, help="a TensorFlow Lite external delegate")
    parser.add_argument("--delegate-options", default="", metavar="K:V;K:V")
    parser.add_argument("--builtin", action="store_true", help="built-in kernels, no XNNPACK")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--invocations", type=int, default=1, help="before the outputs are read")
    parser.add_argument(
        "--count", type=Path, metavar="MARKERS", help="mark one more invocation with this library"
    )
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> Any:
    """Invoke the model as the command line says; the delegate's report."""
    delegate = None
    if options.delegate:
        delegate = open_delegate(options.delegate, parse_options(options.delegate_options))
    interpreter = open_interpreter(
        options.model, builtin=options.builtin, threads=options.threads, delegate=delegate
    )
    set_inputs(interpreter, load_inputs(options.inputs) if options.inputs else None)
    try:
        for _ in range(options.invocations):
            interpreter.invoke()
        if options.count:
            count_invocation(interpreter, options.count)
    except RuntimeError as error:
        raise InvocationError(f"the model fails when it is invoked: {error}") from error
    details = interpreter.get_output_details()
    arrays = {f"output_{i}": interpreter.get_tensor(d["index"]) for i, d in enumerate(details)}
    np.savez(options.outputs, **arrays)
    return delegate_report(delegate) if delegate else None


def main() -> int:
    """Run the command; the exit status."""
    try:
        print(json.dumps(run(parse_arguments())), flush=True)
    except InvocationError as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
