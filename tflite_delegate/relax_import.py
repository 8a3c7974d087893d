"""A .tflite model as a Relax module, by TVM's importer.

Quantised operators become float32 ones between ``dequantize`` and ``quantize``. Hybrid ones, which
multiply float32 activations with int8 weights, are unknown to the importer: here their weights are
dequantised first. That is more exact than TFLite's kernels, which also quantise the activations.
Averages of quantised images, which it would truncate, are rounded.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tflite
import tvm
from tvm import relax
from tvm.relax.frontend.tflite import from_tflite
from tvm.relax.frontend.tflite.tflite_frontend import OperatorConverter, get_tensor_name

from schedules.errors import LeanconvError
from tflite_delegate import model as tflite_model
from tflite_delegate.layers import OPERATORS


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
    with _quiet():
        try:
            module = from_tflite(model, shapes, op_converter=_Converter)
        except Exception as error:  # of whatever kind the importer raises
            problem = _first_line(error)
            # What it left unfinished complains when it goes: here, where nobody hears it.
            traceback.clear_frames(error.__traceback__)
            del error
            gc.collect()
    if problem:
        raise LeanconvError(f"TVM cannot import {path}: {problem}")
    module["main"] = module["main"].without_attr("params")
    return module


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what TVM's C++ writes to standard error."""
    sys.stderr.flush()
    own = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(own, 2)
        os.close(own)


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


class _Converter(OperatorConverter):  # type: ignore[misc]
    """TVM's, with float32 weights for hybrid operators, and averages that are not truncated."""

    def __init__(
        self, model: tflite.Model, subgraph: tflite.SubGraph, *arguments: Any, **keywords: Any
    ) -> None:
        super().__init__(model, subgraph, *arguments, **keywords)
        self._dequantised: set[int] = set()
        for position in range(subgraph.OperatorsLength()):
            operator = subgraph.Operators(position)
            code = model.OperatorCodes(operator.OpcodeIndex()).BuiltinCode()
            if code in OPERATORS:
                self._dequantise(operator.InputsAsNumpy()[:2].tolist())

    def get_tensors(self, tensors_idx_list: Sequence[int]) -> list[Any]:
        """The same, but what has been dequantised is no longer quantised."""
        tensors = super().get_tensors(tensors_idx_list)
        for tensor in tensors:
            if tensor is not None and tensor.tensor_idx in self._dequantised:
                tensor.qnn_params = None
        return tensors

    def convert_pool2d(self, op: tflite.Operator, pool_type: str) -> Any:
        """The same, but averages of codes are rounded to the nearest one: TVM's are truncated."""
        (source,), (result,) = self.get_input_tensors(op), self.get_output_tensors(op)
        if pool_type != "average" or source.qnn_params is None:
            return super().convert_pool2d(op, pool_type)
        codes, name = self.get_expr(source.tensor_idx), get_tensor_name(self.subgraph, op.Inputs(0))
        known = set(self._dequantised)
        self._dequantised |= {source.tensor_idx, result.tensor_idx}
        self.exp_tab.set_expr(name, self.dequantize(codes, source), force_override=True)
        average = super().convert_pool2d(op, pool_type)
        self.exp_tab.set_expr(name, codes, force_override=True)
        self._dequantised = known
        return self.quantize(average, result)

    def _dequantise(self, inputs: Sequence[int]) -> None:
        image, weights = (self.subgraph.Tensors(index) for index in inputs)
        quantization = weights.Quantization()
        is_hybrid = (
            image.Type() == tflite.TensorType.FLOAT32
            and weights.Type() == tflite.TensorType.INT8
            and quantization is not None
            and quantization.ScaleLength() > 0
        )
        if not is_hybrid or inputs[1] in self._dequantised:
            return
        shape = weights.ShapeAsNumpy().tolist()
        stored = self.model.Buffers(weights.Buffer()).DataAsNumpy()
        if isinstance(stored, int) or stored.size != np.prod(shape):
            return  # not a plain constant: the importer says so
        along = [1] * len(shape)
        along[quantization.QuantizedDimension()] = -1
        scale, zero = (
            values.reshape(along if values.size > 1 else ()).astype(np.float32)
            for values in (quantization.ScaleAsNumpy(), quantization.ZeroPointAsNumpy())
        )
        values = (stored.view(np.int8).reshape(shape).astype(np.float32) - zero) * scale
        name = get_tensor_name(self.subgraph, inputs[1])
        self.exp_tab.set_expr(name, relax.const(values))
        self._dequantised.add(inputs[1])


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
