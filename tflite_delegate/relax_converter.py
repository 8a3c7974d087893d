"""How single operators become Relax where TVM's importer gets them wrong.

Quantised operators become float32 ones between ``dequantize`` and ``quantize``. Hybrid ones, which
multiply float32 activations with int8 weights, are unknown to the importer: here their weights are
dequantised first. That is more exact than TFLite's kernels, which also quantise the activations.
Averages of quantised images, which it would truncate, are rounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tflite
import tvm
from tvm import relax
from tvm.relax.frontend.tflite.tflite_frontend import OperatorConverter, get_tensor_name

from schedules.errors import LeanconvError
from tflite_delegate.layers import OPERATORS
from tflite_delegate.relax_transposed import transposed_convolution
from tflite_delegate.upsampling import Axis


class Converter(OperatorConverter):  # type: ignore[misc]
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

    def convert_expand_dims(self, op: tflite.Operator) -> Any:
        """TVM's fails on every EXPAND_DIMS."""
        source, axis = self.get_input_tensors(op)
        (place,) = self.get_tensor_value(axis).reshape(-1).tolist()
        return relax.op.expand_dims(self.get_expr(source.tensor_idx), place)

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

    def convert_transpose_conv(self, op: tflite.Operator) -> Any:
        """As a sub-pixel convolution, with the output's exact size and its fused activation."""
        output_shape, weights, x, *rest = self.get_input_tensors(op)
        (y,) = self.get_output_tensors(op)
        options = tflite.TransposeConvOptions()
        options.Init(op.BuiltinOptions().Bytes, op.BuiltinOptions().Pos)
        same = options.Padding() == tflite.Padding.SAME
        shape = [int(size) for size in self.get_tensor_shape(x)]
        values = self._float_constant(weights)
        bias = self._float_constant(rest[0]) if rest and rest[0].tensor_idx >= 0 else None
        _, height, width, _ = (int(size) for size in self.get_tensor_value(output_shape))
        rows = Axis.of(shape[1], height, values.shape[1], options.StrideH(), same)
        columns = Axis.of(shape[2], width, values.shape[2], options.StrideW(), same)
        image = self.get_expr(x.tensor_idx)
        if x.qnn_params:
            image = self.dequantize(image, x)
        result = transposed_convolution(image, shape, values, bias, rows, columns)
        activation = options.FusedActivationFunction()
        result = self.convert_fused_activation_function(result, activation)
        return self.quantize(result, y) if y.qnn_params else result

    def _float_constant(self, tensor: Any) -> np.ndarray:
        """Weights or a bias as float32, dequantised if they are quantised."""
        if self.has_expr(tensor.tensor_idx):
            known = self.get_expr(tensor.tensor_idx)
            if isinstance(known, relax.Call) and isinstance(known.args[0], tvm.ir.GenericConst):
                known = known.args[0]  # float16, cast
            if not isinstance(known, tvm.ir.GenericConst):
                raise LeanconvError("TRANSPOSE_CONV: weights are computed at run time")
            return known.value.numpy().astype(np.float32)
        values = self.get_tensor_value_or_prefetched(tensor)
        quantization = tensor.tensor.Quantization()
        if quantization is None or quantization.ScaleLength() == 0:
            return values.astype(np.float32)
        along = [1] * values.ndim
        along[quantization.QuantizedDimension()] = -1
        scale, zero = (
            numbers.reshape(along if numbers.size > 1 else ()).astype(np.float64)
            for numbers in (quantization.ScaleAsNumpy(), quantization.ZeroPointAsNumpy())
        )
        return ((values.astype(np.float64) - zero) * scale).astype(np.float32)

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
