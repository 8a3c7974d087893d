"""Write small float .tflite models without TensorFlow.

:func:`single_conv` makes a model of one convolution, :func:`chain` one of several in a row, and
:class:`ModelWriter` anything else, also models that no converter would write. Weights come from a
seed, so that the same call gives the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flatbuffers  # type: ignore[import-untyped]
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from schedules.layer.workload import Conv2dWorkload
from tests.support.tflite_schema import (
    ACTIVATIONS,
    OPTIONS,
    PADDINGS,
    TYPES,
    VERSIONS,
    Quantization,
)


@dataclass(frozen=True)
class Conv:
    """One convolution layer of a test model.

    Parameters
    ----------
    out_channels, kernel, stride, dilation
        Weights are ``(out_channels, *kernel, in_channels // groups)``.
    padding : {"SAME", "VALID"}
        As in TFLite.
    activation : str
        A key of :data:`ACTIVATIONS`.
    bias : bool
        Whether the layer has one.
    weight_type : {"float32", "float16"}
        With float16, weights and bias are constants behind a DEQUANTIZE, as converters write them.
    groups : int
        TFLite tells it from the weights' input channels.
    depthwise : bool
        A DEPTHWISE_CONV_2D: as many groups as input channels, and weights in another order.
    seed : int
        Of weights and bias.
    """

    out_channels: int
    kernel: tuple[int, int] = (3, 3)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: str = "SAME"
    activation: str = "none"
    bias: bool = True
    weight_type: str = "float32"
    groups: int = 1
    depthwise: bool = False
    seed: int = 0

    def workload(self, input_shape: Sequence[int]) -> Conv2dWorkload:
        """The geometry over an NHWC input."""
        batch, height, width, channels = input_shape
        return Conv2dWorkload.with_padding(
            self.padding,
            batch=batch,
            in_height=height,
            in_width=width,
            in_channels=channels,
            out_channels=self.out_channels,
            kernel_height=self.kernel[0],
            kernel_width=self.kernel[1],
            stride_height=self.stride[0],
            stride_width=self.stride[1],
            dilation_height=self.dilation[0],
            dilation_width=self.dilation[1],
            groups=channels if self.depthwise else self.groups,
            activation=self.activation,
            weight_dtype=self.weight_type,
        )

    def constants(self, in_channels: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Weights (OHWI) and bias as the layer's element type stores them."""
        rng = np.random.default_rng(self.seed)
        group_channels = 1 if self.depthwise else in_channels // self.groups
        shape = (self.out_channels, *self.kernel, group_channels)
        scale = 1.0 / np.sqrt(np.prod(shape[1:]))
        weights = rng.uniform(-scale, scale, shape).astype(self.weight_type)
        bias = rng.uniform(-1.0, 1.0, self.out_channels).astype(self.weight_type)
        return weights, bias if self.bias else None


@dataclass(frozen=True)
class Dense:
    """One FULLY_CONNECTED layer of a test model.

    Parameters
    ----------
    units : int
        Weights are ``(units, depth)``.
    activation, bias, weight_type, seed
        As of :class:`Conv`.
    keep_num_dims : bool
        Whether the output has the input's rank; else it is ``(rows, units)``.
    depth : int, optional
        By default the last dimension of the input.
    """

    units: int
    activation: str = "none"
    bias: bool = True
    weight_type: str = "float32"
    keep_num_dims: bool = False
    depth: int | None = None
    seed: int = 0

    def workload(self, input_shape: Sequence[int]) -> Conv2dWorkload:
        """The 1x1 convolution of an image of one row."""
        depth = self.depth or input_shape[-1]
        rows = math.prod(input_shape) // depth
        return self._conv().workload((1, 1, rows, depth))

    def output_shape(self, input_shape: Sequence[int]) -> tuple[int, ...]:
        """As TFLite infers it."""
        if self.keep_num_dims:
            return (*input_shape[:-1], self.units)
        return (math.prod(input_shape) // (self.depth or input_shape[-1]), self.units)

    def constants(self, in_channels: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Weights (OHWI) and bias."""
        return self._conv().constants(self.depth or in_channels)

    def _conv(self) -> Conv:
        return Conv(
            self.units,
            (1, 1),
            activation=self.activation,
            bias=self.bias,
            weight_type=self.weight_type,
            seed=self.seed,
        )


def single_conv(input_shape: Sequence[int], conv: Conv, dynamic_batch: bool = False) -> bytes:
    """A model of one convolution over an input of shape ``(N, H, W, C)``."""
    return chain(input_shape, [conv], dynamic_batch=dynamic_batch)


def chain(
    input_shape: Sequence[int],
    convs: Sequence[Conv],
    dynamic_batch: bool = False,
    all_outputs: bool = False,
) -> bytes:
    """A model of convolutions in a row; with ``all_outputs``, every one is an output of it."""
    writer = ModelWriter()
    shape = tuple(input_shape)
    tensor = first = writer.tensor(shape, dynamic_batch=dynamic_batch)
    outputs = []
    for conv in convs:
        tensor, shape = writer.conv(tensor, shape, conv, dynamic_batch=dynamic_batch)
        outputs.append(tensor)
    return writer.finish([first], outputs if all_outputs else outputs[-1:])


class ModelWriter:
    """Puts a model together tensor by tensor and node by node."""

    def __init__(self) -> None:
        self.buffers = [_buffer(None)]  # the first is the empty one
        self.tensors: list[Any] = []
        self.operators: list[Any] = []
        self.codes: list[int] = []

    def tensor(
        self,
        shape: Sequence[int],
        element_type: str = "float32",
        data: np.ndarray | None = None,
        dynamic_batch: bool = False,
        signature: Sequence[int] | None = None,
        quantization: Quantization | None = None,
    ) -> int:
        """Add a tensor, a constant if there is ``data``, and return its index."""
        tensor = schema.TensorT()
        tensor.shape = list(shape)
        if dynamic_batch:
            signature = [-1, *shape[1:]]
        if signature is not None:
            tensor.shapeSignature = list(signature)
        tensor.type = TYPES[element_type]
        tensor.name = f"tensor_{len(self.tensors)}".encode()
        tensor.buffer = 0
        if quantization is not None:
            tensor.quantization = quantization.table()
        if data is not None:
            tensor.buffer = len(self.buffers)
            self.buffers.append(_buffer(data))
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def constant(self, data: np.ndarray, quantization: Quantization | None = None) -> int:
        """Add a constant; float16 ones get a DEQUANTIZE, whose output is returned."""
        index = self.tensor(data.shape, str(data.dtype), data, quantization=quantization)
        if data.dtype != np.float16:
            return index
        output = self.tensor(data.shape)
        self.operator(schema.BuiltinOperator.DEQUANTIZE, [index], [output])
        return output

    def sparse_constant(self, shape: Sequence[int], values: np.ndarray, sparsity: Any) -> int:
        """Add a sparse constant with a DENSIFY, and a DEQUANTIZE of float16; return the output."""
        element_type = str(values.dtype)
        index, dense = self.tensor(shape, element_type, values), self.tensor(shape, element_type)
        self.tensors[index].sparsity = sparsity
        self.operator(
            schema.BuiltinOperator.DENSIFY,
            [index],
            [dense],
            schema.DensifyOptionsT(),
            schema.BuiltinOptions.DensifyOptions,
        )
        if element_type != "float16":
            return dense
        output = self.tensor(shape)
        self.operator(schema.BuiltinOperator.DEQUANTIZE, [dense], [output])
        return output

    def operator(
        self,
        code: int,
        inputs: Sequence[int],
        outputs: Sequence[int],
        options: Any = None,
        options_type: int = 0,
    ) -> None:
        """Add a node."""
        if code not in self.codes:
            self.codes.append(code)
        operator = schema.OperatorT()
        operator.opcodeIndex = self.codes.index(code)
        operator.inputs, operator.outputs = list(inputs), list(outputs)
        operator.builtinOptions, operator.builtinOptionsType = options, options_type
        self.operators.append(operator)

    def node(
        self,
        name: str,
        inputs: Sequence[int],
        shape: Sequence[int],
        element_type: str = "float32",
        **fields: Any,
    ) -> int:
        """Add a node of one output, of ``shape`` and ``element_type``, which is returned.

        The rest is as of :meth:`add`.
        """
        output = self.tensor(shape, element_type)
        self.add(name, inputs, [output], **fields)
        return output

    def splitting_node(
        self,
        name: str,
        inputs: Sequence[int],
        shapes: Sequence[Sequence[int]],
        element_type: str = "float32",
        **fields: Any,
    ) -> list[int]:
        """Like :meth:`node`, with any number of outputs."""
        outputs = [self.tensor(shape, element_type) for shape in shapes]
        self.add(name, inputs, outputs, **fields)
        return outputs

    def add(self, name: str, inputs: Sequence[int], outputs: Sequence[int], **fields: Any) -> None:
        """Add a node by its operator's name and the fields of its options.

        ``fusedActivationFunction`` is a key of :data:`ACTIVATIONS`.
        """
        options, options_type = None, 0
        if name in OPTIONS:
            options = getattr(schema, f"{OPTIONS[name]}T")()
            options_type = getattr(schema.BuiltinOptions, OPTIONS[name])
            for field, value in fields.items():
                assert hasattr(options, field), f"{OPTIONS[name]} has no {field}"
                is_activation = field == "fusedActivationFunction"
                setattr(options, field, ACTIVATIONS[value] if is_activation else value)
        code = getattr(schema.BuiltinOperator, name)
        self.operator(code, inputs, outputs, options, options_type)

    def conv(
        self,
        x: int,
        input_shape: Sequence[int],
        conv: Conv,
        dynamic_batch: bool = False,
        constants: Sequence[int] | None = None,
    ) -> tuple[int, tuple[int, ...]]:
        """Add a CONV_2D or DEPTHWISE_CONV_2D and return its output tensor and shape.

        ``constants`` are the tensors of weights and bias; by default they are made.
        """
        if constants is None:
            weights, bias = conv.constants(input_shape[3])
            if conv.depthwise:
                weights = weights.transpose(3, 1, 2, 0)
            constants = [self.constant(weights)]
            constants += [-1 if bias is None else self.constant(bias)]
        kind = "DepthwiseConv2DOptions" if conv.depthwise else "Conv2DOptions"
        options = getattr(schema, f"{kind}T")()
        if conv.depthwise:
            options.depthMultiplier = conv.out_channels // input_shape[3]
        options.padding = PADDINGS[conv.padding]
        options.strideH, options.strideW = conv.stride
        options.dilationHFactor, options.dilationWFactor = conv.dilation
        options.fusedActivationFunction = ACTIVATIONS[conv.activation]
        known = "none" if conv.activation == "tanh" else conv.activation
        shape = Conv(**{**vars(conv), "activation": known}).workload(input_shape).output_shape
        output = self.tensor(shape, dynamic_batch=dynamic_batch)
        code = "DEPTHWISE_CONV_2D" if conv.depthwise else "CONV_2D"
        self.operator(
            getattr(schema.BuiltinOperator, code),
            [x, *constants],
            [output],
            options,
            getattr(schema.BuiltinOptions, kind),
        )
        return output, shape

    def dense(
        self, x: int, input_shape: Sequence[int], dense: Dense
    ) -> tuple[int, tuple[int, ...]]:
        """Add a FULLY_CONNECTED and return its output tensor and shape."""
        weights, bias = dense.constants(input_shape[-1])
        constants = [self.constant(weights.reshape(dense.units, -1))]
        constants += [-1 if bias is None else self.constant(bias)]
        options = schema.FullyConnectedOptionsT()
        options.fusedActivationFunction = ACTIVATIONS[dense.activation]
        options.keepNumDims = dense.keep_num_dims
        shape = dense.output_shape(input_shape)
        output = self.tensor(shape)
        self.operator(
            schema.BuiltinOperator.FULLY_CONNECTED,
            [x, *constants],
            [output],
            options,
            schema.BuiltinOptions.FullyConnectedOptions,
        )
        return output, shape

    def pad(self, x: int, input_shape: Sequence[int], pads: Sequence[int]) -> tuple[int, Any]:
        """Add a PAD of zeros: top, bottom, left, right. Returns output and shape."""
        top, bottom, left, right = pads
        batch, height, width, channels = input_shape
        shape = (batch, height + top + bottom, width + left + right, channels)
        amounts = np.array([(0, 0), (top, bottom), (left, right), (0, 0)], np.int32)
        return self.node("PAD", [x, self.constant(amounts)], shape), shape

    def finish(
        self,
        inputs: Sequence[int],
        outputs: Sequence[int],
        custom_code: str | None = None,
        metadata: Mapping[str, bytes] | None = None,
    ) -> bytes:
        """The model as the bytes of a .tflite file; ``custom_code`` names its custom operator."""
        graph = schema.SubGraphT()
        graph.tensors, graph.operators = self.tensors, self.operators
        graph.inputs, graph.outputs = list(inputs), list(outputs)
        graph.name = b"main"
        model = schema.ModelT()
        model.version = 3
        model.description = b"test"
        model.subgraphs, model.buffers = [graph], self.buffers
        model.metadata = [self._metadata(*entry) for entry in (metadata or {}).items()]
        model.operatorCodes = []
        for code in self.codes:
            entry = schema.OperatorCodeT()
            entry.builtinCode = code
            entry.deprecatedBuiltinCode = min(code, 127)
            if code == schema.BuiltinOperator.CUSTOM:
                entry.customCode = custom_code
            entry.version = VERSIONS.get(code, 1)
            model.operatorCodes.append(entry)
        return packed(model)

    def _metadata(self, name: str, data: bytes) -> Any:
        entry, buffer = schema.MetadataT(), schema.BufferT()
        entry.name, entry.buffer = name, len(self.buffers)
        buffer.data = np.frombuffer(data, np.uint8)
        self.buffers.append(buffer)
        return entry


def with_outputs(path: Path, tensors: Iterable[int]) -> bytes:
    """A model that also gives what is in these tensors."""
    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    graph = model.subgraphs[0]
    computed = {tensor for node in graph.operators for tensor in node.outputs}
    graph.outputs = sorted({*graph.outputs, *(computed & set(tensors))})
    return packed(model)


def packed(model: Any) -> bytes:
    """The bytes of a file, from flatbuffers' object of a model."""
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def merged(contents: Sequence[bytes], signatures: Mapping[str, int] | None = None) -> bytes:
    """A model of several graphs: the main graphs of models, in this order.

    ``signatures`` are names of graphs, by which a caller can run each; their inputs are ``in_0``
    and so on, their outputs ``out_0``.
    """
    models = [schema.ModelT.InitFromPackedBuf(content, 0) for content in contents]
    model = models[0]
    for other in models[1:]:
        (graph,) = other.subgraphs
        for tensor in graph.tensors:
            tensor.buffer += len(model.buffers)
        for operator in graph.operators:
            operator.opcodeIndex += len(model.operatorCodes)
        model.subgraphs.append(graph)
        model.buffers += other.buffers
        model.operatorCodes += other.operatorCodes or []
    model.signatureDefs = []
    for key, place in (signatures or {}).items():
        signature = schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = key.encode(), place
        graph = model.subgraphs[place]
        signature.inputs = _named("in", graph.inputs)
        signature.outputs = _named("out", graph.outputs)
        model.signatureDefs.append(signature)
    return packed(model)


def _named(kind: str, tensors: Sequence[int]) -> list[Any]:
    maps = []
    for place, tensor in enumerate(tensors):
        entry = schema.TensorMapT()
        entry.name, entry.tensorIndex = f"{kind}_{place}".encode(), int(tensor)
        maps.append(entry)
    return maps


def _buffer(data: np.ndarray | None) -> Any:
    buffer = schema.BufferT()
    if data is not None:
        buffer.data = np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)
    return buffer
