"""The custom operator ``leanconv.winograd_conv2d``: weights in Winograd's domain.

Its inputs are an image (N, H, W, C), weights (n^2, C, O) and a bias (O,); its options are a
FlexBuffer map of ``m``, ``r``, ``winograd_relu``, ``padding`` and ``activation``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tflite
from flatbuffers import flexbuffers  # type: ignore[import-untyped]

from schedules.errors import LeanconvError
from schedules.layer.winograd_weights import WinogradWeights
from schedules.layer.workload import Conv2dWorkload
from tflite_delegate.read.graph import DAMAGE, Graph, Node, Tensor

#: Its name.
NAME = "leanconv.winograd_conv2d"
#: Its activations, by TFLite's names.
ACTIVATIONS = {"NONE": "none", "RELU": "relu", "RELU6": "relu6"}
#: The m that kernels are made for.
OUTPUTS = (2, 4)


def options_of(operator: tflite.Operator) -> dict[str, Any]:
    """The options of a node; raises LeanconvError."""
    data = operator.CustomOptionsAsNumpy()
    if not isinstance(data, np.ndarray):
        raise LeanconvError("malformed node: no options")
    options: dict[str, Any] = {}
    try:
        # Value by value: what is damaged may contain itself.
        stored = flexbuffers.GetRoot(data.tobytes()).AsMap
        for name in ("m", "r", "winograd_relu"):
            if stored[name].IsInt or stored[name].IsBool:
                options[name] = stored[name].AsInt
        for name in ("padding", "activation"):
            if stored[name].IsString:
                options[name] = stored[name].AsString
    except DAMAGE as error:
        raise LeanconvError("malformed node: no options") from error
    if len(options) < 5:
        raise LeanconvError("malformed node: options are missing")
    if options["padding"] not in ("SAME", "VALID"):
        raise LeanconvError("unknown padding")
    if options["activation"] not in ACTIVATIONS:
        raise LeanconvError("fused activation is not supported")
    if options["m"] not in OUTPUTS or options["winograd_relu"] not in (0, 1) or options["r"] < 2:
        raise LeanconvError("options of no known form of Winograd's algorithm")
    return options


def read_workload(graph: Graph, node: Node, image: Tensor, weights: Tensor) -> Conv2dWorkload:
    """What ``node`` computes; raises LeanconvError."""
    data = graph.floats(node.inputs[1])
    if data is None:
        raise LeanconvError("weights are not float constants")
    return workload_of(options_of(node.operator), image.shape, data.reshape(weights.shape))


def workload_of(
    options: Mapping[str, Any], image: Sequence[int], weights: np.ndarray
) -> Conv2dWorkload:
    """What a node of these options computes of ``weights`` (n^2, C, O); raises LeanconvError."""
    points, channels, out_channels = weights.shape
    inputs = math.isqrt(points)
    if inputs**2 != points or inputs != options["m"] + options["r"] - 1:
        raise LeanconvError(f"malformed node: weights of {points} points")
    batch, height, width, in_channels = image
    if in_channels != channels:
        raise LeanconvError(f"malformed node: {in_channels} channels, weights for {channels}")
    return Conv2dWorkload.with_padding(
        options["padding"],
        batch=batch,
        in_height=height,
        in_width=width,
        in_channels=channels,
        out_channels=out_channels,
        kernel_height=options["r"],
        kernel_width=options["r"],
        activation=ACTIVATIONS[options["activation"]],
        domain=WinogradWeights.of(
            matrices_of(weights), options["m"], bool(options["winograd_relu"])
        ),
    )


def matrices_of(weights: np.ndarray) -> np.ndarray:
    """Weights (n^2, C, O) as kernels have them: (O, n, n, C)."""
    points, channels, filters = weights.shape
    n = math.isqrt(points)
    return weights.reshape(n, n, channels, filters).transpose(3, 0, 1, 2)
