"""A pruned Keras network as a .tflite file: see :mod:`scripts.prune.export` for its layers."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import keras
import tensorflow as tf

from scripts.models.make import quiet_tensorflow
from scripts.prune.convolution import Convolution
from scripts.prune.export import WAYS
from scripts.prune.layer import WinogradConv2D


class _Exported(keras.layers.Layer):  # type: ignore[misc]
    """A trained layer's weights as constants, in the operators that the converter shall see."""

    def __init__(self, trained: WinogradConv2D, way: str) -> None:
        super().__init__(name=trained.name)
        self.trained_weights = trained.winograd_weights, trained.bias.numpy()
        self.layer: Convolution = trained.convolution
        self.way = way

    def call(self, x: Any) -> Any:
        weights, bias = map(tf.constant, self.trained_weights)
        return WAYS[self.way](x, weights, bias, self.layer)


def to_tflite(model: Any, batch: int = 1, way: str = "composite") -> bytes:
    """Convert a Keras model of one input; its layers in the Winograd domain are written in one way.

    Parameters
    ----------
    batch : int
        Of the file's input.
    way : {"composite", "custom"}
        See :mod:`scripts.prune.export`.
    """

    def copy(layer: Any) -> Any:
        if isinstance(layer, WinogradConv2D):
            return _Exported(layer, way)
        return layer.__class__.from_config(layer.get_config())

    (old,) = model.inputs
    image = keras.Input(batch_shape=(batch, *old.shape[1:]))
    # Keras tells standard output where it saved what is converted.
    with quiet_tensorflow(), contextlib.redirect_stdout(io.StringIO()):
        fixed = keras.models.clone_model(model, image, clone_function=copy)
        for layer in model.layers:
            if layer.weights and not isinstance(layer, WinogradConv2D):
                fixed.get_layer(layer.name).set_weights(layer.get_weights())
        converter = tf.lite.TFLiteConverter.from_keras_model(fixed)
        converter.allow_custom_ops = way == "custom"
        return bytes(converter.convert())
