"""A .tflite model as a Relax module, by TVM's importer."""

from __future__ import annotations

import gc
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path

import tflite
import tvm
from tvm.relax.frontend.tflite import from_tflite

from schedules.errors import LeanconvError, reason
from schedules.quiet import stderr_kept
from schedules.target.simd import Simd
from tflite_delegate.importer.dilation import merge_dilations
from tflite_delegate.importer.editable import EditableGraph
from tflite_delegate.importer.reading import read_model
from tflite_delegate.importer.walk import Walk
from tflite_delegate.importer.winograd import merge_composites
from tflite_delegate.read import model as tflite_model
from tflite_delegate.read.graph import DAMAGE, Graph, told_damage
from tflite_delegate.read.model import composites
from tflite_delegate.read.signatures import named_signature
from tflite_delegate.rules import DEFAULT


def import_model(
    path: str | Path,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    signature: str | None = None,
    simd: Simd | None = None,
    rounding: str = DEFAULT,
) -> tvm.IRModule:
    """The model's main graph, or a signature's, as the function ``main``, its constants inside.

    Parameters
    ----------
    path : path
        The .tflite file.
    input_shapes : mapping of str to shape, optional
        Other shapes for inputs, by TFLite's names; the first size, the batch, may be another one,
        and so may the sizes that the file leaves open, which have to be given.
    signature : str, optional
        The name of one of the model's; the inputs have the names that it gives them.
    simd : Simd, optional
        Codes are rounded as LiteRT does it on such a processor, by default this one.
    rounding : {"xnnpack", "builtin", "reference"}
        By which of its kernels: as it runs them by default, its own, or the reference ones.

    Raises
    ------
    LeanconvError
        If the file is damaged, or TVM's importer cannot take an operator or a shape.
    """
    path = Path(path)
    tflite_model.read(path)  # says what is wrong with a file that is no model
    try:
        content = path.read_bytes()
        source = tflite.Model.GetRootAs(content, 0)
        chosen = named_signature(path, source, signature)
        model = read_model(content, chosen.graph, chosen.inputs)
        merge_composites(model.graphs[0], composites(Graph(source, content, chosen.graph)))
        model.simd, model.rounding = simd or model.simd, rounding
    except DAMAGE as error:
        raise LeanconvError(f"{path} is damaged: {told_damage(error)}") from None
    _set_shapes(path, model.graphs[0], input_shapes or {})
    problem = ""
    with stderr_kept():
        try:
            for graph in model.graphs:
                merge_dilations(model, graph)
            module = from_tflite(model, op_converter=Walk)
        except Exception as error:  # of whatever kind the importer raises
            problem = f"{model.current}{reason(error)}"
            # What it left unfinished complains when it goes: here, where nobody hears it.
            traceback.clear_frames(error.__traceback__)
            del error
            gc.collect()
    if problem:
        raise LeanconvError(f"TVM cannot import {path}: {problem}")
    module["main"] = module["main"].without_attr("params")
    return module


def _set_shapes(path: Path, graph: EditableGraph, wanted: Mapping[str, Sequence[int]]) -> None:
    """Give the inputs the shapes that were asked for."""
    inputs = {tensor.name.decode(): tensor for tensor in map(graph.Tensors, graph.inputs)}
    for name in wanted:
        if name not in inputs:
            raise LeanconvError(f"{path} has no input {name!r}: {', '.join(inputs)}")
    for name, tensor in inputs.items():
        own = tensor.shape
        unknown = [axis for axis in tensor.open_axes if axis or own[0] < 1]
        if name not in wanted and unknown:
            sizes = ",".join("?" if axis in unknown else str(n) for axis, n in enumerate(own))
            raise LeanconvError(
                f"input {name!r} of {path} has sizes that the model leaves open: "
                f"--input-shapes {name}:[{sizes}] says them"
            )
        shape = tuple(wanted.get(name, own))
        free = sorted({0, *tensor.open_axes})
        is_fit = len(shape) == len(own) and all(
            size >= 1 if axis in free else size == own[axis] for axis, size in enumerate(shape)
        )
        if not is_fit:
            only = "its first size" if free == [0] else f"sizes {free}"
            raise LeanconvError(
                f"input {name!r} is {_times(own)}: only {only} can be another, not {_times(shape)}"
            )
        tensor.has_changed = shape != own
        tensor.shape, tensor.is_inferred, tensor.signature = shape, True, ()


def _times(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
