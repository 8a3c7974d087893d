"""The trained layer: a convolution whose parameters are its weights in the Winograd domain."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from schedules.transforms.cook_toom import as_floats, filtering
from scripts.prune.convolution import Convolution


@keras.saving.register_keras_serializable("leanconv")
class WinogradConv2D(keras.layers.Layer):  # type: ignore[misc]
    """``U`` held as ``w = U / s``, ``s[a n + b] = |G_a| |G_b|``, under a mask that is not trained.

    ``|G_a|`` is the norm of a row of ``G``: the points of ``U = G g G^T`` differ by three orders of
    magnitude, and those of ``w`` do not. So one learning rate serves all, where Adam on ``U``
    itself diverges, and one threshold compares them.

    Parameters
    ----------
    filters : int
        O.
    m, r, winograd_relu, padding, activation
        See :class:`Convolution`.
    """

    def __init__(
        self,
        filters: int,
        m: int = 4,
        r: int = 3,
        winograd_relu: bool = False,
        padding: str = "SAME",
        activation: str = "NONE",
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.filters = filters
        self.convolution = Convolution(m, r, winograd_relu, padding, activation)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the weights: He-normal kernels, transformed."""
        shape = (self.convolution.n**2, input_shape[-1], self.filters)
        rows = np.linalg.norm(
            as_floats(filtering(self.convolution.m, self.convolution.r).kernel), axis=1
        )
        self.scale = np.outer(rows, rows).reshape(-1, 1, 1).astype(np.float32)
        self.w = self.add_weight(name="w", shape=shape, initializer="zeros")
        self.bias = self.add_weight(name="bias", shape=(self.filters,), initializer="zeros")
        self.mask = self.add_weight(name="mask", shape=shape, initializer="ones", trainable=False)
        r = self.convolution.r
        initial = keras.initializers.HeNormal()((r, r, *shape[1:]))
        self.set_kernel(initial.numpy(), np.zeros(self.filters))

    def set_kernel(self, kernel: np.ndarray, bias: np.ndarray) -> None:
        """Take the weights of a spatial layer: ``kernel`` (r, r, C, O) and ``bias`` (O,)."""
        self.w.assign(self.convolution.transformed(kernel) / self.scale)
        self.bias.assign(bias)

    def call(self, x: Any) -> Any:
        """(N, H, W, C) to (N, OH, OW, O); H and W are known."""
        layer, channels = self.convolution, x.shape[-1]
        rows, columns = layer.tiling(x.shape[1]), layer.tiling(x.shape[2])
        m, n, points = layer.m, layer.n, layer.n**2
        x = tf.pad(x, [[0, 0], [rows.before, rows.after], [columns.before, columns.after], [0, 0]])
        x = tf.image.extract_patches(x, [1, n, n, 1], [1, m, m, 1], [1, 1, 1, 1], "VALID")
        transform = layer.image_transform.reshape(points, points).T
        x = tf.matmul(tf.constant(transform), tf.reshape(x, [-1, points, channels]))
        x = tf.nn.relu(x) if layer.winograd_relu else x
        x = tf.matmul(tf.transpose(x, [1, 0, 2]), self.w * self.mask * self.scale)
        x = tf.matmul(tf.constant(layer.output_transform), tf.transpose(x, [1, 0, 2]))
        x = tf.reshape(x, [-1, rows.tiles, columns.tiles, m * m * self.filters])
        x = tf.nn.depth_to_space(x, m)[:, : rows.outputs, : columns.outputs] + self.bias
        return {"NONE": tf.identity, "RELU": tf.nn.relu, "RELU6": tf.nn.relu6}[layer.activation](x)

    @property
    def winograd_weights(self) -> np.ndarray:
        """``U``, (n², C, O) float32: what is exported."""
        return self.w.numpy() * self.mask.numpy() * self.scale

    def get_config(self) -> dict[str, Any]:
        """What Keras saves."""
        layer = self.convolution
        return {
            **super().get_config(),
            "filters": self.filters,
            "m": layer.m,
            "r": layer.r,
            "winograd_relu": layer.winograd_relu,
            "padding": layer.padding,
            "activation": layer.activation,
        }


@keras.saving.register_keras_serializable("leanconv")
class Unchanged(keras.layers.Layer):  # type: ignore[misc]
    """Stands where a layer was, and takes what that was called with."""

    def call(self, x: Any, **_: Any) -> Any:
        """``x``."""
        return x


def winograd_layers(model: Any) -> list[WinogradConv2D]:
    """Those of a Keras model, in its order."""
    return [layer for layer in model.layers if isinstance(layer, WinogradConv2D)]


def zeros(model: Any) -> float:
    """The part of all weights in the Winograd domain that is zero."""
    weights = [layer.winograd_weights for layer in winograd_layers(model)]
    return 1 - sum(int(np.count_nonzero(w)) for w in weights) / sum(w.size for w in weights)
