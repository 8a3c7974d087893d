"""What an imported model computes, beside what LiteRT's built-in kernels do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from numpy.typing import NDArray
from tvm import relax

from tflite_delegate.importer.relax import import_model

Array = NDArray[Any]


def litert(content: bytes, inputs: Sequence[Array]) -> list[Array]:
    """The outputs of a model for inputs of maybe other shapes, without XNNPACK."""
    interpreter = Interpreter(
        model_content=content,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    return outputs_of(interpreter, inputs)


def outputs_of(interpreter: Interpreter, inputs: Sequence[Array]) -> list[Array]:
    """What an interpreter computes of inputs of maybe other shapes."""
    details = interpreter.get_input_details()
    for entry, value in zip(details, inputs, strict=True):
        if tuple(entry["shape"]) != value.shape:
            interpreter.resize_tensor_input(entry["index"], value.shape)
    interpreter.allocate_tensors()
    for entry, value in zip(details, inputs, strict=True):
        interpreter.set_tensor(entry["index"], value)
    interpreter.invoke()
    return [interpreter.get_tensor(entry["index"]) for entry in interpreter.get_output_details()]


def imported(
    content: bytes, folder: Path, inputs: Sequence[Array], rounding: str = "xnnpack"
) -> list[Array]:
    """The outputs of the imported model in TVM's own kernels, for the shapes of ``inputs``."""
    path = folder / "model.tflite"
    path.write_bytes(content)
    shapes = [value.shape for value in inputs]
    module = import_model(path, rounding=rounding)
    names = [parameter.name for parameter in module["main"].params]
    if [tuple(map(int, parameter.ty.shape)) for parameter in module["main"].params] != shapes:
        module = import_model(path, dict(zip(names, shapes, strict=True)), rounding=rounding)
    machine = relax.VirtualMachine(tvm.compile(module, target="llvm"), tvm.cpu())
    found = machine["main"](*(tvm.runtime.tensor(value) for value in inputs))
    found = [found] if isinstance(found, tvm.runtime.Tensor) else list(found)
    return [value.numpy() for value in found]


def assert_as_litert(content: bytes, folder: Path, inputs: Sequence[Array]) -> None:
    """Both compute the same to the bit: for integers, or sums that float32 holds exactly."""
    expected = litert(content, inputs)
    for ours, theirs in zip(imported(content, folder, inputs), expected, strict=True):
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
        np.testing.assert_array_equal(ours, theirs)
