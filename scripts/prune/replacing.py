"""A Keras network with its 3x3 convolutions of stride 1 in the Winograd domain."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from schedules.errors import LeanconvError
from scripts.prune.layer import Unchanged, WinogradConv2D

#: Of layers with fewer, as a network's first, the transforms cost more than the products.
LEAST_CHANNELS = 8
_ACTIVATIONS = {"linear": "NONE", "relu": "RELU", "relu6": "RELU6"}


def replaced(model: Any, m: int = 4, winograd_relu: bool = False) -> Any:
    """A copy of ``model`` whose suitable convolutions are :class:`WinogradConv2D`.

    Suitable are those of 3x3 and stride 1, without groups or dilation, of :data:`LEAST_CHANNELS`
    input channels or more. Without ``winograd_relu`` the copy computes the same; a batch
    normalisation behind a replaced convolution becomes part of it. With it, the ReLU before a
    replaced convolution moves into the Winograd domain, if nothing else needs it: another function,
    for training to go on from.

    Raises
    ------
    LeanconvError
        If there is nothing to replace.
    """
    convolutions = {layer.name: layer for layer in model.layers if _is_suitable(layer)}
    if not convolutions:
        raise LeanconvError(f"{model.name}: no 3x3 convolution of stride 1 in it")
    norms = {name: _normalisation(layer, model) for name, layer in convolutions.items()}
    folded = {norm.name for norm in norms.values() if norm is not None}
    moved = set()
    if winograd_relu:
        moved = {layer.name for layer in model.layers if _moves(layer, model, convolutions)}

    def copy(layer: Any) -> Any:
        if layer.name in convolutions:
            return _winograd(layer, m, winograd_relu, layer.name in moved)
        if layer.name in folded or (layer.name in moved and _is_bare_relu(layer)):
            return Unchanged(name=layer.name)
        config = layer.get_config()
        if layer.name in moved:
            config["activation"] = "linear"
        return layer.__class__.from_config(config)

    result = keras.models.clone_model(model, clone_function=copy)
    for layer in model.layers:
        if layer.name in convolutions:
            kernel, bias = _kernel(layer, norms[layer.name])
            result.get_layer(layer.name).set_kernel(kernel, bias)
        elif layer.weights and layer.name not in folded:
            result.get_layer(layer.name).set_weights(layer.get_weights())
    return result


def _is_suitable(layer: Any) -> bool:
    return (
        type(layer) is keras.layers.Conv2D
        and layer.kernel_size == (3, 3)
        and layer.strides == (1, 1)
        and layer.dilation_rate == (1, 1)
        and layer.groups == 1
        and layer.input.shape[-1] >= LEAST_CHANNELS
        and layer.data_format == "channels_last"
        and keras.activations.serialize(layer.activation) in _ACTIVATIONS
    )


def _readers(layer: Any, model: Any) -> list[Any]:
    """The layers of ``model`` that read the layer's one output; the model too if it is its own."""
    if len(layer._inbound_nodes) != 1:
        return [model]
    outside = [model for output in model.outputs if output is layer.output]
    operations = [node.operation for node in layer._outbound_nodes]
    return [operation for operation in operations if operation in model.layers] + outside


def _normalisation(layer: Any, model: Any) -> Any:
    """The batch normalisation of channels that alone reads the layer's output, or None."""
    readers = _readers(layer, model)
    if layer.activation is not keras.activations.linear or len(readers) != 1:
        return None
    (norm,) = readers
    is_of_channels = isinstance(norm, keras.layers.BatchNormalization) and norm.axis in (-1, 3)
    return norm if is_of_channels else None


def _is_bare_relu(layer: Any) -> bool:
    is_relu = isinstance(layer, keras.layers.ReLU) and layer.max_value is None
    return is_relu or (
        isinstance(layer, keras.layers.Activation) and layer.activation is keras.activations.relu
    )


def _moves(layer: Any, model: Any, convolutions: dict[str, Any]) -> bool:
    """Whether the layer ends in a ReLU that only replaced convolutions read."""
    ends = _is_bare_relu(layer) or getattr(layer, "activation", None) is keras.activations.relu
    if not ends:
        return False
    readers = _readers(layer, model)
    return bool(readers) and all(reader.name in convolutions for reader in readers)


def _winograd(layer: Any, m: int, winograd_relu: bool, bare: bool) -> WinogradConv2D:
    activation = _ACTIVATIONS[keras.activations.serialize(layer.activation)]
    return WinogradConv2D(
        layer.filters,
        m,
        winograd_relu=winograd_relu,
        padding=layer.padding.upper(),
        activation="NONE" if bare else activation,
        name=layer.name,
    )


def _kernel(layer: Any, norm: Any) -> tuple[np.ndarray, np.ndarray]:
    """Kernel and bias, with the normalisation behind the layer, if there is one."""
    kernel = layer.kernel.numpy().astype(np.float64)
    bias = layer.bias.numpy().astype(np.float64) if layer.use_bias else np.zeros(layer.filters)
    if norm is None:
        return kernel, bias
    gain = 1 / np.sqrt(norm.moving_variance.numpy().astype(np.float64) + norm.epsilon)
    gain *= norm.gamma.numpy() if norm.scale else 1
    offset = norm.beta.numpy() if norm.center else 0
    return kernel * gain, (bias - norm.moving_mean.numpy()) * gain + offset
