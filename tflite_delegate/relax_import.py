"""A .tflite model as a Relax module, by TVM's importer."""

from __future__ import annotations

import gc
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path

import tflite
import tvm
from tvm.relax.frontend.tflite import from_tflite
from tvm.relax.frontend.tflite.tflite_frontend import get_tensor_name

from schedules.errors import LeanconvError, reason
from schedules.quiet import stderr_kept
from tflite_delegate import model as tflite_model
from tflite_delegate.relax_converter import Converter


def import_model(
    path: str | Path, input_shapes: Mapping[str, Sequence[int]] | None = None
) -> tvm.IRModule:
    """The model's main graph as the function ``main``, its constants inside.

    Parameters
    ----------
    path : path
        The .tflite file.
    input_shapes : mapping of str to shape, optional
        Other shapes for inputs, by TFLite's names; only the first size, the batch, may differ.

    Raises
    ------
    LeanconvError
        If the file is damaged, or TVM's importer cannot take an operator or a shape.
    """
    path = Path(path)
    tflite_model.read(path)  # says what is wrong with a file that is no model
    model = tflite.Model.GetRootAs(path.read_bytes(), 0)
    shapes = _checked_shapes(path, model.Subgraphs(0), input_shapes or {})
    problem = ""
    with stderr_kept():
        try:
            module = from_tflite(model, shapes, op_converter=Converter)
        except Exception as error:  # of whatever kind the importer raises
            problem = reason(error)
            # What it left unfinished complains when it goes: here, where nobody hears it.
            traceback.clear_frames(error.__traceback__)
            del error
            gc.collect()
    if problem:
        raise LeanconvError(f"TVM cannot import {path}: {problem}")
    module["main"] = module["main"].without_attr("params")
    return module


def _checked_shapes(
    path: Path, graph: tflite.SubGraph, wanted: Mapping[str, Sequence[int]]
) -> dict[str, tuple[int, ...]]:
    """``wanted`` by the importer's names of the inputs."""
    indices = {graph.Tensors(i).Name().decode(): i for i in graph.InputsAsNumpy().tolist()}
    shapes = {}
    for name, shape in wanted.items():
        if name not in indices:
            raise LeanconvError(f"{path} has no input {name!r}: {', '.join(indices)}")
        own = graph.Tensors(indices[name]).ShapeAsNumpy().tolist()
        if list(shape[1:]) != own[1:]:
            raise LeanconvError(
                f"input {name!r} is {_times(own)}: only its first size can be another, "
                f"not {_times(shape)}"
            )
        shapes[get_tensor_name(graph, indices[name])] = tuple(shape)
    return shapes


def _times(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
