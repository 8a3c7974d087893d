"""Layers of volumes, and .tflite models of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from schedules.layer.volume import Conv3dWorkload
from tests.support.tflite_schema import PADDINGS
from tests.support.tflite_writer import ModelWriter

Triple = tuple[int, int, int]


@dataclass(frozen=True)
class Volume:
    """One CONV_3D over an NDHWC input; sizes are along depth, height and width."""

    out_channels: int
    kernel: Triple = (3, 3, 3)
    stride: Triple = (1, 1, 1)
    dilation: Triple = (1, 1, 1)
    padding: str = "SAME"
    activation: str = "none"
    bias: bool = True
    weight_type: str = "float32"
    seed: int = 0

    def workload(self, input_shape: Sequence[int]) -> Conv3dWorkload:
        """Its geometry."""
        batch, *image, channels = input_shape
        along = {
            f"{name}_{axis}": size
            for name, sizes in (
                ("in", image),
                ("kernel", self.kernel),
                ("stride", self.stride),
                ("dilation", self.dilation),
            )
            for axis, size in zip(("depth", "height", "width"), sizes, strict=True)
        }
        return Conv3dWorkload.with_padding(
            self.padding,
            batch=batch,
            in_channels=channels,
            out_channels=self.out_channels,
            activation=self.activation,
            weight_dtype=self.weight_type,
            **along,
        )

    def constants(self, in_channels: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Weights (M, K_d, K_h, K_w, C) and bias."""
        random = np.random.default_rng(self.seed)
        shape = (self.out_channels, *self.kernel, in_channels)
        scale = 1.0 / np.sqrt(np.prod(shape[1:]))
        weights = random.uniform(-scale, scale, shape).astype(self.weight_type)
        bias = random.uniform(-1.0, 1.0, self.out_channels).astype(self.weight_type)
        return weights, bias if self.bias else None

    def add(self, writer: ModelWriter, x: int, input_shape: Sequence[int]) -> int:
        """Add the node to a model and return its output."""
        weights, bias = self.constants(input_shape[4])
        inputs = [x, writer.constant(np.ascontiguousarray(weights.transpose(1, 2, 3, 4, 0)))]
        inputs += [] if bias is None else [writer.constant(bias)]
        names = ("D", "H", "W")
        fields: dict[str, Any] = {f"stride{a}": s for a, s in zip(names, self.stride, strict=True)}
        fields |= {f"dilation{a}Factor": d for a, d in zip(names, self.dilation, strict=True)}
        return writer.node(
            "CONV_3D",
            inputs,
            self.workload(input_shape).output_shape,
            padding=PADDINGS[self.padding],
            fusedActivationFunction=self.activation,
            **fields,
        )


def volume_model(layers: Sequence[tuple[Sequence[int], Volume]]) -> bytes:
    """Layers side by side, each with an input of its own."""
    writer = ModelWriter()
    inputs, outputs = [], []
    for shape, layer in layers:
        inputs.append(writer.tensor(shape))
        outputs.append(layer.add(writer, inputs[-1], shape))
    return writer.finish(inputs, outputs)


#: Input shape and layer: each has a border, a tail or an option that the others have not.
VOLUMES = {
    "odd": ((1, 5, 9, 11, 5), Volume(7, activation="relu")),
    "strides": ((1, 6, 9, 17, 20), Volume(33, (2, 3, 5), (2, 1, 2), activation="relu6")),
    "dilations": ((1, 9, 9, 12, 16), Volume(32, (3, 2, 3), dilation=(2, 3, 2), padding="VALID")),
    "dilated and padded": ((1, 7, 8, 9, 6), Volume(12, dilation=(2, 2, 1), bias=False)),
    "first": ((1, 4, 10, 12, 3), Volume(16, stride=(1, 2, 2), activation="relu_n1_to_1")),
    "one channel": ((1, 6, 7, 8, 1), Volume(1, (5, 3, 1), padding="VALID")),
    "larger than the volume": ((1, 2, 3, 2, 4), Volume(9, (5, 5, 3))),
    "images": ((1, 4, 10, 12, 8), Volume(16, (1, 3, 3), activation="relu")),
    "stack": ((1, 8, 10, 12, 8), Volume(16, (3, 1, 1), (2, 1, 1))),
    "pixels": ((1, 4, 5, 6, 8), Volume(16, (1, 1, 1))),
    "float16": ((1, 4, 7, 5, 12), Volume(20, (3, 3, 2), weight_type="float16")),
}
