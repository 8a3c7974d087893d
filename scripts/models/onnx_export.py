"""A .tflite network as ONNX, for the libraries that benchmarks/networks.py sets beside TFLite.

Feature maps become NCHW, which those libraries work in, and nothing is transposed back and forth
between layers. The dozen operators that the networks of models/architectures.py have are all that
is served: float32, batch 1. tf2onnx makes equal outputs, but leaves 35 transpositions and 30
reshapes in MobileNetV3-Small, which ONNX Runtime then takes a sixth longer for, and takes 20 s a
network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tflite
from numpy.typing import NDArray

from schedules.errors import LeanconvError
from schedules.layer.padding import same_padding

#: The first with HardSwish is 14; both peers know this one.
OPSET, IR_VERSION = 17, 9

_OP_NAMES = {value: name for name, value in vars(tflite.BuiltinOperator).items() if name.isupper()}
_FIXED = {tflite.ActivationFunctionType.NONE: None, tflite.ActivationFunctionType.RELU: "Relu"}


def export(source: Path, target: Path) -> None:
    """Write the network in ``source`` (.tflite) to ``target`` (.onnx).

    Raises
    ------
    LeanconvError
        If it has an operator that is not served.
    ImportError
        If onnx is not installed.
    """
    target.write_bytes(_Exporter(source).model().SerializeToString())


class _Exporter:
    """The main graph of a model, operator by operator."""

    def __init__(self, source: Path) -> None:
        self.name = source.stem
        self.tflite = tflite.Model.GetRootAs(source.read_bytes(), 0)
        self.graph = self.tflite.Subgraphs(0)
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def model(self) -> Any:
        from onnx import TensorProto, helper

        for index in range(self.graph.OperatorsLength()):
            self.operator(self.graph.Operators(index))
        ends = [
            [
                helper.make_tensor_value_info(f"t{i}", TensorProto.FLOAT, self.nchw_shape(i))
                for i in indices
            ]
            for indices in (self.graph.InputsAsNumpy(), self.graph.OutputsAsNumpy())
        ]
        graph = helper.make_graph(self.nodes, self.name, *ends, self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
        model.ir_version = IR_VERSION
        return model

    def operator(self, operator: Any) -> None:
        code = self.tflite.OperatorCodes(operator.OpcodeIndex())
        name = _OP_NAMES[max(code.DeprecatedBuiltinCode(), code.BuiltinCode())]
        if name not in _EXPORTS:
            raise LeanconvError(f"{name} is not exported to ONNX")
        export_one, options_class = _EXPORTS[name]
        options = options_class() if options_class else None
        if options is not None:
            table = operator.BuiltinOptions()
            options.Init(table.Bytes, table.Pos)
        inputs = [int(i) for i in operator.InputsAsNumpy() if i >= 0]
        export_one(self, inputs, int(operator.Outputs(0)), options)

    # Tensors

    def shape(self, index: int) -> list[int]:
        """As in the .tflite file."""
        return [int(size) for size in self.graph.Tensors(index).ShapeAsNumpy()]

    def nchw_shape(self, index: int) -> list[int]:
        shape = self.shape(index)
        return [shape[axis] for axis in (0, 3, 1, 2)] if len(shape) == 4 else shape

    def values(self, index: int) -> NDArray[Any]:
        """A constant tensor."""
        tensor = self.graph.Tensors(index)
        types = {tflite.TensorType.FLOAT32: np.float32, tflite.TensorType.INT32: np.int32}
        data = self.tflite.Buffers(tensor.Buffer()).DataAsNumpy()
        return np.frombuffer(data.tobytes(), types[tensor.Type()]).reshape(self.shape(index))

    def is_constant(self, index: int) -> bool:
        return self.tflite.Buffers(self.graph.Tensors(index).Buffer()).DataLength() > 0

    def constant(self, values: NDArray[Any]) -> str:
        from onnx import numpy_helper

        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def operand(self, index: int) -> str:
        """An input of an elementwise operator; constants broadcast along channels."""
        if not self.is_constant(index):
            return f"t{index}"
        values = self.values(index)
        if values.ndim == 4:
            values = values.transpose(0, 3, 1, 2)
        elif values.ndim == 1 and values.size > 1:
            values = values[:, None, None]
        return self.constant(values)

    # Nodes

    def node(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> None:
        from onnx import helper

        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))

    def activated(
        self, kind: str, inputs: Sequence[str], output: int, activation: int, **attributes: Any
    ) -> None:
        """A node and the activation that TFLite fuses into it."""
        clamps = activation == tflite.ActivationFunctionType.RELU6
        if not clamps and activation not in _FIXED:
            raise LeanconvError(f"activation {activation} is not exported to ONNX")
        follower = "Clip" if clamps else _FIXED[activation]
        self.node(kind, inputs, f"t{output}_sum" if follower else f"t{output}", **attributes)
        if follower:
            limits = [self.constant(np.float32(limit)) for limit in (0, 6)] if clamps else []
            self.node(follower, [f"t{output}_sum", *limits], f"t{output}")


def _window(
    graph: _Exporter, x: int, options: Any, kernel: Sequence[int], dilation: Sequence[int]
) -> dict[str, Any]:
    """Kernel, strides and explicit padding, as ONNX names them."""
    strides = [options.StrideH(), options.StrideW()]
    pads = [(0, 0), (0, 0)]
    if options.Padding() == tflite.Padding.SAME:
        geometry = zip(graph.shape(x)[1:3], kernel, strides, dilation, strict=True)
        pads = [same_padding(*axis) for axis in geometry]
    flat = [pads[0][0], pads[1][0], pads[0][1], pads[1][1]]
    return {"kernel_shape": list(kernel), "strides": strides, "pads": flat}


def _convolution(graph: _Exporter, inputs: list[int], output: int, options: Any) -> None:
    x, w, b = inputs
    weights = graph.values(w)
    depthwise = isinstance(options, tflite.DepthwiseConv2DOptions)
    # ONNX: output channels first, then the channels of one group.
    weights = weights.transpose((3, 0, 1, 2) if depthwise else (0, 3, 1, 2))
    dilations = [options.DilationHFactor(), options.DilationWFactor()]
    graph.activated(
        "Conv",
        [f"t{x}", graph.constant(weights), graph.constant(graph.values(b))],
        output,
        options.FusedActivationFunction(),
        group=graph.shape(x)[3] // weights.shape[1],
        dilations=dilations,
        **_window(graph, x, options, weights.shape[2:], dilations),
    )


def _fully_connected(graph: _Exporter, inputs: list[int], output: int, options: Any) -> None:
    x, *parameters = inputs
    constants = [graph.constant(graph.values(index)) for index in parameters]
    activation = options.FusedActivationFunction()
    graph.activated("Gemm", [f"t{x}", *constants], output, activation, transB=1)


def _pooling(kind: str, **attributes: Any) -> Callable[..., None]:
    def pooling(graph: _Exporter, inputs: list[int], output: int, options: Any) -> None:
        kernel = [options.FilterHeight(), options.FilterWidth()]
        window = _window(graph, inputs[0], options, kernel, (1, 1))
        activation = options.FusedActivationFunction()
        graph.activated(kind, [f"t{inputs[0]}"], output, activation, **window, **attributes)

    return pooling


def _elementwise(kind: str) -> Callable[..., None]:
    def elementwise(graph: _Exporter, inputs: list[int], output: int, options: Any) -> None:
        operands = [graph.operand(index) for index in inputs]
        graph.activated(kind, operands, output, options.FusedActivationFunction())

    return elementwise


def _concatenation(graph: _Exporter, inputs: list[int], output: int, options: Any) -> None:
    axis = [0, 2, 3, 1][options.Axis()]
    operands = [f"t{index}" for index in inputs]
    graph.activated("Concat", operands, output, options.FusedActivationFunction(), axis=axis)


def _mean(graph: _Exporter, inputs: list[int], output: int, options: Any) -> None:
    x, axes = inputs
    if sorted(graph.values(axes).ravel().tolist()) != [1, 2]:
        raise LeanconvError("MEAN over other axes than height and width is not exported to ONNX")
    if options.KeepDims():
        graph.node("GlobalAveragePool", [f"t{x}"], f"t{output}")
        return
    graph.node("GlobalAveragePool", [f"t{x}"], f"t{output}_mean")
    graph.node("Flatten", [f"t{output}_mean"], f"t{output}")


def _reshape(graph: _Exporter, inputs: list[int], output: int, _options: Any) -> None:
    source = f"t{inputs[0]}"
    shape = graph.shape(inputs[0])
    if len(shape) == 4 and shape[1] * shape[2] > 1:  # rows of NHWC
        graph.node("Transpose", [source], f"t{output}_nhwc", perm=[0, 2, 3, 1])
        source = f"t{output}_nhwc"
    new_shape = graph.constant(np.array(graph.nchw_shape(output), np.int64))
    graph.node("Reshape", [source, new_shape], f"t{output}")


def _pad(graph: _Exporter, inputs: list[int], output: int, _options: Any) -> None:
    x, padding = inputs
    before, after = graph.values(padding)[[0, 3, 1, 2]].T
    pads = graph.constant(np.concatenate([before, after]).astype(np.int64))
    zero = graph.constant(np.float32(0))
    graph.node("Pad", [f"t{x}", pads, zero], f"t{output}", mode="constant")


def _unary(kind: str) -> Callable[..., None]:
    return lambda graph, inputs, output, _options: graph.node(kind, [f"t{inputs[0]}"], f"t{output}")


_EXPORTS: dict[str, tuple[Callable[..., None], Any]] = {
    "CONV_2D": (_convolution, tflite.Conv2DOptions),
    "DEPTHWISE_CONV_2D": (_convolution, tflite.DepthwiseConv2DOptions),
    "FULLY_CONNECTED": (_fully_connected, tflite.FullyConnectedOptions),
    "MAX_POOL_2D": (_pooling("MaxPool"), tflite.Pool2DOptions),
    "AVERAGE_POOL_2D": (_pooling("AveragePool", count_include_pad=0), tflite.Pool2DOptions),
    "ADD": (_elementwise("Add"), tflite.AddOptions),
    "MUL": (_elementwise("Mul"), tflite.MulOptions),
    "CONCATENATION": (_concatenation, tflite.ConcatenationOptions),
    "MEAN": (_mean, tflite.ReducerOptions),
    "RESHAPE": (_reshape, None),
    "PAD": (_pad, None),
    "HARD_SWISH": (_unary("HardSwish"), None),
    "SOFTMAX": (_unary("Softmax"), None),
}
