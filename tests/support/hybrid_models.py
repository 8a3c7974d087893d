"""Models of hybrid layers, each with an input of its own: float32 elements, int8 weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tests.support.tflite_schema import PADDINGS, Quantization
from tests.support.tflite_writer import Conv, ModelWriter

#: How inputs are drawn: of both signs, of one, and all zeros.
SIGNS = ("both", "positive", "negative", "none")


@dataclass(frozen=True)
class HybridLayer:
    """One layer.

    Parameters
    ----------
    input_shape : sequence of int
        NHWC; of a dense layer, of any rank.
    conv : Conv
        Its geometry; of a dense layer, its output channels and activation.
    kind : {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"}
        The operator.
    per_channel : bool
        Whether each output channel has a scale of its own.
    dequantized : bool
        Whether a DEQUANTIZE makes floats of the weights first.
    asymmetric : bool
        ``asymmetricQuantizeInputs`` of a dense layer.
    sign : str
        One of :data:`SIGNS`, or ``halves``: multiples of one half of about a step.
    seed : int
        Of weights, bias and input.
    spread : float
        Of the elements of the input.
    """

    input_shape: Sequence[int]
    conv: Conv
    kind: str = "CONV_2D"
    per_channel: bool = True
    dequantized: bool = False
    asymmetric: bool = False
    sign: str = "both"
    seed: int = 0
    spread: float = 3.0

    @property
    def channels(self) -> int:
        return self.input_shape[-1]

    @property
    def is_depthwise(self) -> bool:
        return self.kind == "DEPTHWISE_CONV_2D"

    @property
    def output_shape(self) -> tuple[int, ...]:
        if self.kind == "FULLY_CONNECTED":
            return (int(np.prod(self.input_shape[:-1])), self.conv.out_channels)
        return replace(self.conv, weight_type="float32").workload(self.input_shape).output_shape

    def image(self) -> np.ndarray:
        """An input."""
        rng = np.random.default_rng(self.seed)
        if self.sign == "halves":
            return self._halves(rng)
        x = rng.standard_normal(self.input_shape, np.float32) * np.float32(self.spread)
        if self.sign == "none":
            return np.zeros_like(x)
        return {"both": x, "positive": np.abs(x), "negative": -np.abs(x)}[self.sign]

    def _halves(self, rng: np.random.Generator) -> np.ndarray:
        """Elements halfway between two codes, if their range is found as -128 (or -127) to 127."""
        x = rng.integers(-254, 255, self.input_shape).astype(np.float32) / 2
        rows = x.reshape(-1, self.channels)
        rows[:, 0] = 127
        rows[:, -1] = -128 if self.seed // 2 % 2 else -127
        return np.ldexp(x, int(np.log2(self.spread)))

    def constants(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Weights as the node has them, their scales, and the bias."""
        rng = np.random.default_rng(self.seed + 1)
        conv, depth = self.conv, self.channels // self.conv.groups
        shape: tuple[int, ...] = (conv.out_channels, *conv.kernel, depth)
        if self.is_depthwise:
            shape = (1, *conv.kernel, conv.out_channels)
        if self.kind == "FULLY_CONNECTED":
            shape = (conv.out_channels, self.channels)
        scales = rng.uniform(0.002, 0.02, conv.out_channels).astype(np.float32)
        if not self.per_channel:  # of a depthwise layer, TFLite wants as many, all equal
            scales = scales[:1].repeat(conv.out_channels if self.is_depthwise else 1)
        weights = rng.integers(-127, 128, shape).astype(np.int8)
        return weights, scales, rng.standard_normal(conv.out_channels).astype(np.float32)

    def bound(self, image: np.ndarray) -> float:
        """How far two orders of summation in float32 may be apart, of products of floats."""
        weights, scales, bias = self.constants()
        largest = np.abs(image).max() * np.abs(weights).max() * scales.max()
        products = weights.size // self.conv.out_channels
        return float(2 * products * 2.0**-24 * (products * largest + np.abs(bias).max()))

    def add(self, writer: ModelWriter) -> tuple[int, int]:
        """Write the node; its input and its output."""
        x = writer.tensor(self.input_shape)
        return x, self.add_behind(writer, x)

    def add_behind(self, writer: ModelWriter, x: int) -> int:
        """Write the node that reads ``x``; its output."""
        weights, scales, bias = self.constants()
        own = Quantization(scales.tolist(), 0, 3 if self.is_depthwise else 0)
        constant = writer.constant(weights, own)
        if self.dequantized:
            constant = writer.node("DEQUANTIZE", [constant], weights.shape)
        y = writer.tensor(self.output_shape)
        writer.add(self.kind, [x, constant, writer.constant(bias)], [y], **self._options())
        return y

    def _options(self) -> dict[str, object]:
        fused = {"fusedActivationFunction": self.conv.activation}
        if self.kind == "FULLY_CONNECTED":
            return {**fused, "asymmetricQuantizeInputs": self.asymmetric}
        conv = self.conv
        options = {
            **fused,
            "padding": PADDINGS[conv.padding],
            "strideH": conv.stride[0],
            "strideW": conv.stride[1],
            "dilationHFactor": conv.dilation[0],
            "dilationWFactor": conv.dilation[1],
        }
        if self.is_depthwise:
            options["depthMultiplier"] = conv.out_channels // self.channels
        return options


def model(layers: Sequence[HybridLayer]) -> bytes:
    """All of ``layers``: inputs and outputs in their order."""
    writer = ModelWriter()
    ends = [layer.add(writer) for layer in layers]
    return writer.finish([x for x, _ in ends], [y for _, y in ends])


def random_layers(count: int, seed: int, dequantized: bool = False) -> list[HybridLayer]:
    """Convolutions, depthwise and dense layers of all kinds."""
    rng = np.random.default_rng(seed)
    return [_random(rng, seed * 1000 + number, dequantized) for number in range(count)]


def _random(rng: np.random.Generator, seed: int, dequantized: bool) -> HybridLayer:
    def one(*values: Any) -> Any:
        return values[int(rng.integers(len(values)))]

    kind = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")[seed % 3]
    channels, outputs = int(rng.integers(1, 70)), int(rng.integers(1, 70))
    common: dict[str, Any] = {
        "kind": kind,
        "per_channel": bool(rng.integers(2)),
        "dequantized": dequantized,
        "asymmetric": bool(rng.integers(2)),
        "sign": one("both", "both", *SIGNS),
        "seed": seed,
    }
    activation = one("none", "relu", "relu6", "relu_n1_to_1")
    if kind == "FULLY_CONNECTED":
        rows = int(one(1, 1, 2, 3, 4, 8))
        conv = Conv(outputs, (1, 1), activation=activation)
        return HybridLayer((rows, channels), conv, **common)
    kernel = one((1, 1), (1, 1), (3, 3), (3, 3), (5, 5), (2, 3))
    stride = one((1, 1), (1, 1), (2, 2), (1, 2))
    if kind == "DEPTHWISE_CONV_2D":
        channels = int(one(2, 4, 8, 16, 22, 24, 33))
        outputs = channels * int(one(1, 1, 1, 2))
    height, width = (int(size) for size in rng.integers(5, 14, 2))
    conv = Conv(
        outputs,
        kernel,
        stride,
        one((1, 1), (1, 1), (1, 1), (2, 2)) if stride == (1, 1) else (1, 1),
        one("SAME", "SAME", "VALID") if kernel[0] < 5 else "SAME",
        activation,
        depthwise=kind == "DEPTHWISE_CONV_2D",
    )
    return HybridLayer((int(one(1, 1, 2)), height, width, channels), conv, **common)
