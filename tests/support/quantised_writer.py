"""Models of int8 and uint8 layers one behind the other, with random numbers."""

from __future__ import annotations

import numpy as np

from tests.support.operator_cases import fused
from tests.support.tflite_schema import Quantization
from tests.support.tflite_writer import ModelWriter


class QuantisedWriter(ModelWriter):
    """Chains of layers, of scales with which every output fills its range."""

    def __init__(self, dtype: str, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.dtype, self.offset = dtype, 128 * (dtype == "uint8")
        self.rng = np.random.default_rng(5)
        self.begin(shape)

    def begin(self, shape: tuple[int, ...]) -> int:
        """Another chain, and its image."""
        self.shape, self.scale = shape, 0.05
        self.image = self.last = self.image_of(-11)
        return self.image

    def image_of(self, zero: int) -> int:
        """A tensor of the shape and scale that are in hand."""
        self.zero = zero
        quantization = Quantization(self.scale, zero + self.offset)
        return self.tensor(self.shape, self.dtype, quantization=quantization)

    def layer(self, channels: int, size: int = 1, stride: int = 1, depthwise: bool = False) -> None:
        """A convolution; pointwise ones that make fewer channels have no activation."""
        before = self.shape[3]
        shape = (1, size, size, before) if depthwise else (channels, size, size, before)
        terms = size * size * (1 if depthwise else before)
        weights = self.rng.integers(-127, 128, shape) + self.offset
        bias = self.rng.integers(-3000, 3000, channels).astype(np.int32)
        scale = 50 / (35 * 73 * terms**0.5)  # of codes that spread so far
        constants = [
            self.constant(weights.astype(self.dtype), Quantization(scale, self.offset)),
            self.constant(bias, Quantization(scale * self.scale, 0)),
        ]
        self.shape = (1, *(-(-size // stride) for size in self.shape[1:3]), channels)
        y = self.image_of(-20 if channels < before else -128)
        self.add(
            "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D",
            [self.last, *constants],
            [y],
            padding=0,
            strideH=stride,
            strideW=stride,
            **({"depthMultiplier": 1} if depthwise else {}),
            **fused("none" if channels < before else "relu"),
        )
        self.last = y

    def inverted(self, channels: int, wide: int, size: int = 3, stride: int = 1) -> None:
        """An inverted residual block."""
        source, shape = self.last, self.shape
        self.layer(wide)
        self.layer(wide, size, stride, depthwise=True)
        self.layer(channels)
        if shape == self.shape:
            self.plus(source)

    def plus(self, source: int) -> None:
        """The sum of the last layer's output and another tensor."""
        self.scale *= 1.2
        total = self.image_of(7)
        self.add("ADD", [source, self.last], [total], **fused("none"))
        self.last = total

    def pool(
        self, name: str, window: tuple[int, int], strides: tuple[int, int], same: bool
    ) -> None:
        """A pool of codes, with no activation."""
        sizes = [
            -(-(size if same else size - extent + 1) // stride)
            for size, extent, stride in zip(self.shape[1:3], window, strides, strict=True)
        ]
        self.shape = (1, *sizes, self.shape[3])
        y = self.image_of(self.zero)
        self.add(
            name,
            [self.last],
            [y],
            padding=0 if same else 1,
            filterHeight=window[0],
            filterWidth=window[1],
            strideH=strides[0],
            strideW=strides[1],
            **fused("none"),
        )
        self.last = y
