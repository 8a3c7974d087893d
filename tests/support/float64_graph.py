"""A .tflite network in float64, in which nothing is rounded but what a caller rounds.

Quantised tensors hold the numbers that their codes stand for. Only the operators of the trained
models and of the small ones of scripts/models/make.py are known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import flatbuffers  # type: ignore[import-untyped]
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from schedules.layer.workload import Conv2dWorkload
from schedules.transforms.cook_toom import Filtering
from tests.support.reference import activate, conv2d, gamma, winograd_bound
from tests.support.tflite_schema import ACTIVATIONS, PADDINGS
from tests.support.tflite_writer import Conv

CODES = {value: name for name, value in vars(schema.BuiltinOperator).items() if name.isupper()}
TYPES = {
    schema.TensorType.FLOAT32: np.float32,
    schema.TensorType.FLOAT16: np.float16,
    schema.TensorType.INT32: np.int32,
    schema.TensorType.INT8: np.int8,
}
WITH_WEIGHTS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")

Values = NDArray[np.float64]


class Float64Graph:
    """The main graph of a .tflite file of batch 1; ``nodes`` are in the order of execution."""

    def __init__(self, path: Path) -> None:
        self.model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
        graph = self.model.subgraphs[0]
        self.nodes: Sequence[Any] = graph.operators
        self.tensors: Sequence[Any] = graph.tensors
        self.inputs, self.outputs = list(graph.inputs), list(graph.outputs)

    def operator(self, node: Any) -> str:
        """Its name."""
        code = self.model.operatorCodes[node.opcodeIndex]
        return CODES[max(code.builtinCode, code.deprecatedBuiltinCode)]

    def is_hybrid(self, node: Any) -> bool:
        """Whether it multiplies float32 with int8: TFLite then quantises the former first."""
        types = [self.tensors[index].type for index in node.inputs[:2]]
        return types == [schema.TensorType.FLOAT32, schema.TensorType.INT8]

    def step(self, tensor: int) -> float:
        """Between two neighbouring codes of a computed tensor; 0 if it is of floating point."""
        quantised = self.tensors[tensor].type != schema.TensorType.FLOAT32
        return float(self.tensors[tensor].quantization.scale[0]) if quantised else 0.0

    def real(self, tensor: int, codes: NDArray[Any]) -> Values:
        """What ``codes`` stand for."""
        quantization = self.tensors[tensor].quantization
        if quantization is None or quantization.scale is None or codes.dtype.kind == "f":
            return codes.astype(np.float64)
        along = [1] * codes.ndim
        along[quantization.quantizedDimension] = -1
        scale, zero = (
            np.asarray(values, np.float64).reshape(along if len(values) > 1 else ())
            for values in (quantization.scale, quantization.zeroPoint)
        )
        return (codes - zero) * scale

    def constant(self, tensor: int) -> Values | None:
        """What is in a tensor of the file; ``None`` if it is computed, or left out."""
        stored = self.model.buffers[self.tensors[tensor].buffer].data if tensor >= 0 else None
        if stored is None:
            return None
        found = self.tensors[tensor]
        codes = np.frombuffer(stored.tobytes(), TYPES[found.type]).reshape(found.shape)
        return self.real(tensor, codes)

    def run(
        self,
        inputs: Mapping[int, Values],
        moved: Callable[[int, Values], Values] = lambda _tensor, value: value,
    ) -> dict[int, Values]:
        """All tensors by number, for as many images at once as the ``inputs`` have.

        ``moved(tensor, value)`` takes the place of each ``value`` that is computed.
        """
        values = dict(inputs)
        for node in self.nodes:
            result, _ = self.apply(node, [values.get(index) for index in node.inputs])
            values[node.outputs[0]] = moved(node.outputs[0], result)
        return values

    def apply(
        self,
        node: Any,
        values: Sequence[Values | None],
        transforms: tuple[Filtering, Filtering] | None = None,
    ) -> tuple[Values, Values]:
        """What a node makes of its inputs, and how far a float32 result may be from it.

        Parameters
        ----------
        values : sequence of arrays
            ``None`` for constants.
        transforms : (Filtering, Filtering), optional
            Down and across, if it is computed with Winograd's algorithm.
        """
        operator, options, x = self.operator(node), node.builtinOptions, values[0]
        assert x is not None
        output = self.tensors[node.outputs[0]]
        if operator in WITH_WEIGHTS:
            workload, weights = self.convolution(node, x.shape)
            bias = self.constant(node.inputs[2])
            image = x.reshape(workload.input_shape)
            result, bound = conv2d(workload, image, weights, bias)
            if transforms is not None:
                bound = winograd_bound(workload, transforms, image, weights, bias)
            result, bound = (part.reshape(len(x), *output.shape[1:]) for part in (result, bound))
        elif operator == "ADD":
            y = values[1]
            assert y is not None
            result, bound = x + y, gamma(1) * (abs(x) + abs(y))
        elif operator in ("MEAN", "AVERAGE_POOL_2D"):  # of whole images, or of parts side by side
            rows, columns = output.shape[1:3] if len(output.shape) == 4 else (1, 1)
            height, width = x.shape[1] // rows, x.shape[2] // columns
            parts = x[:, : rows * height, : columns * width]
            parts = parts.reshape(len(x), rows, height, columns, width, -1)
            shape = (len(x), *output.shape[1:])
            result = parts.mean((2, 4)).reshape(shape)
            bound = gamma(height * width + 1) * abs(parts).mean((2, 4)).reshape(shape)
        elif operator == "RESHAPE":
            result = x.reshape(len(x), *output.shape[1:])
            bound = np.zeros_like(result)
        else:
            assert operator == "SOFTMAX"
            powers = np.exp(x - x.max(-1, keepdims=True))
            result = powers / powers.sum(-1, keepdims=True)
            # The exponent is off by its own rounding, and the power by the few of its polynomial.
            bound = gamma(x.shape[-1] + 16 + int(2 * abs(x).max())) * result
        result, bound = activate(_activation(options), result, bound)
        if self.step(node.outputs[0]):
            # Roundings of inputs and constants that are made float32, and of the quotient.
            bound = 2 * bound + gamma(3) * abs(result)
            limits = self.real(node.outputs[0], np.array([-128, 127], np.int8).reshape(1, 2))
            result = np.clip(result, limits.min(), limits.max())
        return result, bound

    def convolution(self, node: Any, shape: Sequence[int]) -> tuple[Conv2dWorkload, Values]:
        """A node with weights as a convolution of images of ``shape``; the weights are OHWI."""
        operator, options = self.operator(node), node.builtinOptions
        weights = self.constant(node.inputs[1])
        assert weights is not None
        if operator == "FULLY_CONNECTED":
            units, depth = weights.shape
            dense = Conv2dWorkload(1, 1, depth, units, 1, 1, batch=shape[0])
            return dense, weights[:, None, None]
        depthwise = operator == "DEPTHWISE_CONV_2D"
        if depthwise:  # (1, K_h, K_w, M)
            weights = weights.transpose(3, 1, 2, 0)
        (padding,) = (name for name, value in PADDINGS.items() if value == options.padding)
        conv = Conv(
            len(weights),
            weights.shape[1:3],
            (options.strideH, options.strideW),
            padding=padding,
            depthwise=depthwise,
        )
        return conv.workload(shape), weights


def rounding_deviations(
    path: Path, inputs: Sequence[Values], samples: int = 64
) -> dict[int, Values]:
    """How far roundings take each tensor from what it is without any: a standard deviation.

    Quantised results are moved by half a step, up or down, on their way to the next node: no errors
    up to half a step that are zero on average have a wider distribution (Hoeffding 1963). So are
    the inputs of hybrid operators, whose step is at most 1/127 of the largest.
    """
    graph, rng = Float64Graph(path), np.random.default_rng(0)
    hybrid = {node.inputs[0] for node in graph.nodes if graph.is_hybrid(node)}
    copied = {node.outputs[0] for node in graph.nodes if graph.operator(node) == "RESHAPE"}
    results: dict[int, Values] = {}

    def moved(tensor: int, value: Values) -> Values:
        results[tensor] = value
        step: Any = 0.0 if tensor in copied else graph.step(tensor)
        if tensor in hybrid:
            step = abs(value).max(axis=tuple(range(1, value.ndim)), keepdims=True) / 127
        return value + step * rng.choice((-0.5, 0.5), value.shape)

    exact = graph.run(dict(zip(graph.inputs, inputs, strict=True)))
    many = {tensor: np.repeat(exact[tensor], samples, axis=0) for tensor in graph.inputs}
    graph.run({t: moved(t, value) if t in hybrid else value for t, value in many.items()}, moved)
    return {t: np.sqrt(((results[t] - exact[t]) ** 2).mean(0, keepdims=True)) for t in results}


def with_float_weights(path: Path) -> bytes:
    """A hybrid model with the weights that its int8 ones stand for."""
    graph = Float64Graph(path)
    for node in graph.nodes:
        if graph.operator(node) in WITH_WEIGHTS and graph.is_hybrid(node):
            values = graph.constant(node.inputs[1])
            assert values is not None
            tensor = graph.tensors[node.inputs[1]]
            data = np.frombuffer(values.astype(np.float32).tobytes(), np.uint8)
            graph.model.buffers[tensor.buffer].data = data
            tensor.type, tensor.quantization = schema.TensorType.FLOAT32, None
    return _packed(graph)


def with_negated_filter(path: Path, channel: int) -> bytes:
    """A model whose last layer with weights has those of one output channel negated."""
    graph = Float64Graph(path)
    node = [node for node in graph.nodes if graph.operator(node) in WITH_WEIGHTS][-1]
    # float16 weights are behind a DEQUANTIZE.
    sources = {other.outputs[0]: other.inputs[0] for other in graph.nodes}
    tensor = graph.tensors[sources.get(node.inputs[1], node.inputs[1])]
    buffer = graph.model.buffers[tensor.buffer]
    codes = np.frombuffer(buffer.data.tobytes(), TYPES[tensor.type]).reshape(tensor.shape).copy()
    least = -127 if codes.dtype.kind == "i" else -np.inf
    codes[channel] = -np.maximum(codes[channel], least)
    buffer.data = np.frombuffer(codes.tobytes(), np.uint8)
    return _packed(graph)


def _activation(options: Any) -> str:
    value = getattr(options, "fusedActivationFunction", schema.ActivationFunctionType.NONE)
    return next(name for name, known in ACTIVATIONS.items() if known == value)


def _packed(graph: Float64Graph) -> bytes:
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(graph.model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())
