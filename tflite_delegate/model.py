"""Find the layers of a .tflite model, and say for each whether leanconv can take it.

Only the structure of the model is read, never its weights, so a model of any size costs little.
Everything in a file is taken for possibly damaged: every length is checked against the size of
the file before it is believed.
"""

from __future__ import annotations

import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path

import tflite

from schedules.errors import LeanconvError
from schedules.workload import Conv2dWorkload, same_padding

_IDENTIFIER = b"TFL3"
#: What reading a damaged flatbuffer raises. OverflowError and TypeError come from offsets that are
#: no valid index, UnicodeDecodeError is a ValueError.
_DAMAGE = (struct.error, IndexError, KeyError, ValueError, TypeError, OverflowError)
_ACTIVATIONS = {
    tflite.ActivationFunctionType.NONE: "none",
    tflite.ActivationFunctionType.RELU: "relu",
    tflite.ActivationFunctionType.RELU6: "relu6",
    tflite.ActivationFunctionType.RELU_N1_TO_1: "relu_n1_to_1",
}
_PADDINGS = {tflite.Padding.SAME: "SAME", tflite.Padding.VALID: "VALID"}
_OPS = {
    tflite.BuiltinOperator.CONV_2D: "CONV_2D",
    tflite.BuiltinOperator.DEPTHWISE_CONV_2D: "DEPTHWISE_CONV_2D",
    tflite.BuiltinOperator.FULLY_CONNECTED: "FULLY_CONNECTED",
}
_OPTIONS = {
    "CONV_2D": tflite.BuiltinOptions.Conv2DOptions,
    "DEPTHWISE_CONV_2D": tflite.BuiltinOptions.DepthwiseConv2DOptions,
    "FULLY_CONNECTED": tflite.BuiltinOptions.FullyConnectedOptions,
}
_TYPE_NAMES = {
    value: name.lower() for name, value in vars(tflite.TensorType).items() if name.isupper()
}
#: Bits of one element of the types that weights come in.
_TYPE_BITS = {"float32": 32, "float16": 16, "int8": 8, "uint8": 8, "int16": 16, "int4": 4}


@dataclass(frozen=True)
class Layer:
    """One convolution, depthwise convolution or fully-connected node of a model.

    Parameters
    ----------
    index : int
        Index of the node in the model's graph, which is its place in the order of execution.
    op : {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"}
        TFLite's name of the operator.
    geometry : str
        A short description for tables, e.g. ``conv3x3 s2 224x224x3->32 relu6``.
    workload : Conv2dWorkload or None
        What to compile; ``None`` if leanconv does not take the layer.
    reason : str or None
        Why it does not.
    weight_bytes : int
        Bytes of the weights in the model, without the bias.
    macs : int
        Multiply-accumulates of one inference; 0 if the shape is not known.
    """

    index: int
    op: str
    geometry: str
    workload: Conv2dWorkload | None
    reason: str | None
    weight_bytes: int
    macs: int


@dataclass(frozen=True)
class Model:
    """The layers of a .tflite model.

    Parameters
    ----------
    path : Path
        The file.
    layers : tuple of Layer
        One for every convolution, depthwise and fully-connected node of the main graph.
    subgraphs : int
        Graphs in the model; all but the first (bodies of loops and conditions) are not read.
    """

    path: Path
    layers: tuple[Layer, ...]
    subgraphs: int


def read(path: str | Path) -> Model:
    """Read the layers of the .tflite model at ``path``.

    Raises
    ------
    LeanconvError
        If the file cannot be read or is not a whole .tflite model.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            if file.tell() == 0:
                raise LeanconvError(f"{path} is empty")
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError:
        raise LeanconvError(f"model {path} does not exist") from None
    except IsADirectoryError:
        raise LeanconvError(f"{path} is a directory, not a .tflite model") from None
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        raise LeanconvError(f"model {path} cannot be read: {error}") from None
    with content:
        if content[4:8] != _IDENTIFIER:
            raise LeanconvError(f"{path} is not a .tflite model (no {_IDENTIFIER.decode()} mark)")
        try:
            return _read(path, content)
        except _DAMAGE as error:
            detail = " ".join(str(error).split())
            raise LeanconvError(f"{path} is damaged: {detail or type(error).__name__}") from None


def _read(path: Path, content: mmap.mmap) -> Model:
    model = tflite.Model.GetRootAs(content, 0)
    subgraphs = _length(model.SubgraphsLength(), content, "subgraphs")
    if subgraphs == 0:
        raise LeanconvError(f"{path} is damaged: it has no graph")
    graph = _Graph(model, content)
    layers = []
    for index in range(graph.operators):
        operator = graph.graph.Operators(index)
        op = _OPS.get(graph.opcode(operator))
        if op is not None:
            layers.append(_layer(graph, index, op, operator))
    return Model(path, tuple(layers), subgraphs)


def _length(length: int, content: mmap.mmap, what: str) -> int:
    """``length`` of a vector of offsets or 32-bit numbers, if so much fits into the file."""
    if length * 4 > len(content):
        raise ValueError(f"{length} {what} do not fit into {len(content)} bytes")
    return length


class _Tensor:
    """The facts of one tensor: shape, element type, and whether it is a constant."""

    def __init__(self, graph: _Graph, index: int) -> None:
        tensor = graph.graph.Tensors(index)
        rank = _length(tensor.ShapeLength(), graph.content, "dimensions")
        if rank > 8:
            raise ValueError(f"tensor {index} has {rank} dimensions")
        self.shape = tuple(int(tensor.Shape(axis)) for axis in range(rank))
        signature = tensor.ShapeSignatureLength()
        #: Axes whose size is only known when the model runs.
        self.open_axes = {
            axis for axis in range(rank) if axis < signature and tensor.ShapeSignature(axis) < 0
        }
        self.type = _TYPE_NAMES.get(tensor.Type(), f"type {tensor.Type()}")
        self.sparse = tensor.Sparsity() is not None
        if tensor.Buffer() >= graph.buffers:
            raise ValueError(f"tensor {index} names buffer {tensor.Buffer()} of {graph.buffers}")
        buffer = graph.model.Buffers(tensor.Buffer())
        # Models above 2 GB keep constants behind the flatbuffer, at an offset.
        self.stored_bytes = buffer.Size() if buffer.Offset() > 1 else buffer.DataLength()
        self.is_constant = self.stored_bytes > 0

    @property
    def is_known(self) -> bool:
        """Whether all of the shape but the batch is known."""
        return bool(self.shape) and min(self.shape) >= 1 and not self.open_axes - {0}

    @property
    def bytes(self) -> int:
        """Bytes of all elements; 0 if the type is not one that weights come in."""
        return -(-max(math.prod(self.shape), 0) * _TYPE_BITS.get(self.type, 0) // 8)

    @property
    def is_whole_constant(self) -> bool:
        """Whether the constant holds as many bytes as its shape promises."""
        return self.is_constant and self.stored_bytes >= self.bytes


class _Graph:
    """The main graph of a model, with every index checked."""

    def __init__(self, model: tflite.Model, content: mmap.mmap) -> None:
        self.model, self.content = model, content
        self.graph = model.Subgraphs(0)
        self.opcodes = _length(model.OperatorCodesLength(), content, "operator codes")
        self.buffers = _length(model.BuffersLength(), content, "buffers")
        self.tensors = _length(self.graph.TensorsLength(), content, "tensors")
        self.operators = _length(self.graph.OperatorsLength(), content, "operators")
        self._codes: dict[int, int] = {}
        #: Output of a DEQUANTIZE -> its input.
        self.dequantized: dict[int, int] = {}
        for index in range(self.operators):
            operator = self.graph.Operators(index)
            if self.opcode(operator) == tflite.BuiltinOperator.DEQUANTIZE:
                source, target = self.input(operator, 0), self.output(operator)
                if source is not None and target is not None:
                    self.dequantized[target] = source

    def opcode(self, operator: tflite.Operator) -> int:
        """The builtin code of an operator."""
        index = operator.OpcodeIndex()
        if index >= self.opcodes:
            raise ValueError(f"an operator names operator code {index} of {self.opcodes}")
        if index not in self._codes:
            code = self.model.OperatorCodes(index)
            # Codes up to 126 are in the old field, which is one byte; later ones in the new.
            self._codes[index] = max(code.DeprecatedBuiltinCode(), code.BuiltinCode())
        return self._codes[index]

    def input(self, operator: tflite.Operator, position: int) -> int | None:
        """Tensor index of an input; ``None`` if there is no such input."""
        if position >= operator.InputsLength():
            return None
        return self._index(operator.Inputs(position))

    def output(self, operator: tflite.Operator) -> int | None:
        """Tensor index of the first output."""
        return self._index(operator.Outputs(0)) if operator.OutputsLength() else None

    def tensor(self, index: int) -> _Tensor:
        """The tensor at a valid index."""
        return _Tensor(self, index)

    def _index(self, index: int) -> int | None:
        if index >= self.tensors:
            raise ValueError(f"an operator names tensor {index} of {self.tensors}")
        return None if index < 0 else int(index)


@dataclass(frozen=True)
class _Window:
    """The options of a convolution."""

    padding: str
    stride: tuple[int, int]
    dilation: tuple[int, int]
    activation: str

    @classmethod
    def of(cls, op: str, operator: tflite.Operator) -> _Window | str:
        """The options of ``operator``, or why they make no sense."""
        table = operator.BuiltinOptions()
        if table is None or operator.BuiltinOptionsType() != _OPTIONS[op]:
            return "malformed node: no options"
        options = tflite.Conv2DOptions() if op == "CONV_2D" else tflite.DepthwiseConv2DOptions()
        options.Init(table.Bytes, table.Pos)
        stride = (options.StrideH(), options.StrideW())
        dilation = (options.DilationHFactor(), options.DilationWFactor())
        if min(*stride, *dilation) < 1:
            return f"malformed node: stride {stride}, dilation {dilation}"
        activation = _ACTIVATIONS.get(options.FusedActivationFunction())
        if activation is None:
            return "fused activation is not supported"
        padding = _PADDINGS.get(options.Padding())
        if padding is None:
            return "unknown padding"
        return cls(padding, stride, dilation, activation)


def _layer(graph: _Graph, index: int, op: str, operator: tflite.Operator) -> Layer:
    """One node as a :class:`Layer`."""
    inputs = [graph.input(operator, position) for position in range(2)]
    if None in inputs or graph.output(operator) is None:
        return Layer(index, op, "?", None, "malformed node: input, weights or output missing", 0, 0)
    x, stored = (graph.tensor(i) for i in inputs if i is not None)
    weights = _constant_behind(graph, inputs[1])
    expected_rank = 2 if op == "FULLY_CONNECTED" else 4
    if len(stored.shape) != expected_rank or min(stored.shape) < 1:
        reason = f"malformed node: weights of shape {list(stored.shape)}"
        return Layer(index, op, "?", None, reason, 0, 0)
    if op == "FULLY_CONNECTED":
        return _fully_connected(index, x, weights)
    window = _Window.of(op, operator)
    if isinstance(window, str):
        return Layer(index, op, "?", None, window, weights.bytes, 0)
    if op == "DEPTHWISE_CONV_2D":
        return _depthwise(index, x, weights, window)
    return _convolution(graph, index, operator, x, weights, window)


def _constant_behind(graph: _Graph, index: int | None) -> _Tensor:
    """The float16 constant behind a DEQUANTIZE, or the tensor itself."""
    assert index is not None
    tensor = graph.tensor(index)
    if index in graph.dequantized:
        source = graph.tensor(graph.dequantized[index])
        if source.type == "float16" and source.is_constant and source.shape == tensor.shape:
            return source
    return tensor


def _fully_connected(index: int, x: _Tensor, weights: _Tensor) -> Layer:
    units, depth = weights.shape
    rows = max(math.prod(x.shape) // depth, 1) if x.shape and min(x.shape) >= 1 else 1
    geometry = f"dense {depth}->{units}" if rows == 1 else f"dense {rows}x{depth}->{units}"
    reason = "fully connected: not supported yet"
    macs = rows * depth * units
    return Layer(index, "FULLY_CONNECTED", geometry, None, reason, weights.bytes, macs)


def _depthwise(index: int, x: _Tensor, weights: _Tensor, window: _Window) -> Layer:
    op, reason = "DEPTHWISE_CONV_2D", "depthwise: not supported yet"
    _, kernel_height, kernel_width, channels = weights.shape
    if len(x.shape) != 4 or not x.is_known:
        geometry = f"dwconv{kernel_height}x{kernel_width} {channels}"
        return Layer(index, op, geometry, None, reason, weights.bytes, 0)
    _, height, width, in_channels = x.shape
    out = [
        _positions(window, axis, size, kernel)
        for axis, size, kernel in ((0, height, kernel_height), (1, width, kernel_width))
    ]
    geometry = _describe_depthwise(x.shape, weights.shape, window, in_channels)
    macs = x.shape[0] * math.prod(out) * kernel_height * kernel_width * channels
    return Layer(index, op, geometry, None, reason, weights.bytes, macs)


def _positions(window: _Window, axis: int, size: int, kernel: int) -> int:
    """Output positions along one axis; 0 if the kernel does not fit."""
    stride, dilation = window.stride[axis], window.dilation[axis]
    pad = sum(same_padding(size, kernel, stride, dilation)) if window.padding == "SAME" else 0
    return max((size + pad - (kernel - 1) * dilation - 1) // stride + 1, 0)


def _describe_depthwise(
    image: tuple[int, ...], weights: tuple[int, ...], window: _Window, in_channels: int
) -> str:
    parts = [f"dwconv{weights[1]}x{weights[2]}"]
    for letter, (height, width) in (("s", window.stride), ("d", window.dilation)):
        if (height, width) != (1, 1):
            parts.append(f"{letter}{height}" if height == width else f"{letter}{height}x{width}")
    text = "x".join(str(size) for size in (image if image[0] != 1 else image[1:]))
    parts.append(text if weights[3] == in_channels else f"{text}->{weights[3]}")
    if window.activation != "none":
        parts.append(window.activation)
    return " ".join(parts)


def _convolution(
    graph: _Graph,
    index: int,
    operator: tflite.Operator,
    x: _Tensor,
    weights: _Tensor,
    window: _Window,
) -> Layer:
    out_channels, kernel_height, kernel_width, weight_channels = weights.shape
    geometry = f"conv{kernel_height}x{kernel_width} ?x?x{weight_channels}->{out_channels}"

    def unclaimed(reason: str, text: str = geometry, macs: int = 0) -> Layer:
        return Layer(index, "CONV_2D", text, None, reason, weights.bytes, macs)

    if len(x.shape) != 4 or not x.is_known:
        return unclaimed("input shape is not known before the model runs")
    batch, height, width, channels = x.shape
    if channels % weight_channels:
        return unclaimed(f"malformed node: {channels} channels, weights for {weight_channels}")
    try:
        workload = Conv2dWorkload.with_padding(
            window.padding,
            batch=batch,
            in_height=height,
            in_width=width,
            in_channels=channels,
            out_channels=out_channels,
            kernel_height=kernel_height,
            kernel_width=kernel_width,
            stride_height=window.stride[0],
            stride_width=window.stride[1],
            dilation_height=window.dilation[0],
            dilation_width=window.dilation[1],
            groups=channels // weight_channels,
            activation=window.activation,
        )
    except LeanconvError as error:
        return unclaimed(str(error))
    reason = _why_not(graph, operator, x, weights, workload)
    if reason is not None:
        return unclaimed(reason, workload.describe(), workload.macs)
    text = workload.describe()
    return Layer(index, "CONV_2D", text, workload, None, weights.bytes, workload.macs)


def _why_not(
    graph: _Graph,
    operator: tflite.Operator,
    x: _Tensor,
    weights: _Tensor,
    workload: Conv2dWorkload,
) -> str | None:
    """Why leanconv does not take a convolution of good shape, or ``None``."""
    output = graph.output(operator)
    assert output is not None
    output_type = graph.tensor(output).type
    foreign = sorted({x.type, output_type} - {"float32"})
    if foreign:
        return f"{' and '.join(foreign)} tensors: not supported yet"
    if weights.type not in ("float32", "float16"):
        return f"{weights.type} weights: not supported yet"
    if not weights.is_constant:
        return "weights are computed at run time"
    if weights.sparse or not weights.is_whole_constant:
        return "weights are sparse or incomplete"
    bias_index = graph.input(operator, 2)
    if bias_index is None:
        return None
    bias = _constant_behind(graph, bias_index)
    if bias.type not in ("float32", "float16"):
        return f"{bias.type} bias: not supported yet"
    if not bias.is_constant:
        return "bias is computed at run time"
    if bias.sparse or not bias.is_whole_constant or math.prod(bias.shape) != workload.out_channels:
        return "malformed node: bias does not fit the weights"
    return None
