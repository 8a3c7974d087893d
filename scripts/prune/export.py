"""Layers with weights ``U`` in the Winograd domain, written into .tflite files.

CONV_2D cannot say them: ``U`` has ``n²`` values where a kernel has ``r²`` (36 to 9). There are two
ways, :func:`composite` and :func:`custom`. What follows is what readers may rely on, and no more.
``x`` is (N, H, W, C), ``U`` (n², C, O) with point ``a n + b`` first, ``bias`` (O,), all float32;
TH x TW tiles (:meth:`Convolution.tiling`) cover an image of OH x OW outputs, and T = N TH TW.

**A composite of built-in operators**, which every TFLite runs; one after another::

    PAD                 x                  -> [N, TH m + r - 1, TW m + r - 1, C]     zeros
    DEPTHWISE_CONV_2D   K [1, n, n, C n²]  -> [N, TH, TW, C n²]     stride m, VALID, multiplier n²
    RESHAPE                                -> [T, C, n²]
    TRANSPOSE           (2, 0, 1)          -> [n², T, C]
    BATCH_MATMUL        U [n², C, O]       -> [n², T, O]                  adj_x = adj_y = false
    TRANSPOSE           (1, 2, 0)          -> [T, O, n²]
    FULLY_CONNECTED     A [m², n²]         -> [T, O, m²]      no bias, no activation, keep_num_dims
    TRANSPOSE           (0, 2, 1)          -> [T, m², O]
    RESHAPE                                -> [N, TH, TW, m² O]
    DEPTH_TO_SPACE      block m            -> [N, TH m, TW m, O]
    SLICE               from 0, 0, 0, 0    -> [N, OH, OW, O]
    ADD                 bias [O]           -> [N, OH, OW, O]                         activation

- ``K[0, i, j, c n² + p]`` is ``Convolution.image_transform[i, j, p]`` for every ``c`` and ``A`` is
  ``Convolution.output_transform``, to the bit: products in float64, rounded once. The bias of
  DEPTHWISE_CONV_2D is zeros; its activation is RELU for a Winograd-ReLU layer, NONE otherwise.
- PAD puts ``(r - 1) // 2`` zeros (SAME) or none (VALID) before the first row and column, and what
  the last tiles lack behind the others. The converter leaves it out where there is nothing to put,
  and where padding SAME of DEPTHWISE_CONV_2D puts the same, which it then has (H = W = 56, m = 4).
- SLICE is there only if the tiles reach beyond the output.
- Where O is 1, the last TRANSPOSE, which moves nothing, is missing. The delegate has one kernel do
  the work of all nodes, but where T is 1 and C or O as well (other TRANSPOSEs are missing then, or
  are RESHAPEs), and where constants are float16: ``K`` and ``A`` are rounded then, and the nodes
  compute something else. Either is computed node by node.

**A custom operator** ``leanconv.winograd_conv2d`` of version 1: inputs ``x``, ``U``, ``bias``, one
output (N, OH, OW, O), custom options a FlexBuffer map of ``m``, ``r`` and ``winograd_relu`` (0 or
1), all integers, and ``padding`` and ``activation``, strings as in :class:`Convolution`. It needs
no ``K``, which has ``n² / O`` times the values of ``U``; nothing but the delegate and
modules runs it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from schedules.errors import LeanconvError
from scripts.models.make import quiet_tensorflow
from scripts.prune.convolution import Convolution

CUSTOM_NAME = "leanconv.winograd_conv2d"


def composite(x: Any, weights: Any, bias: Any, layer: Convolution) -> Any:
    """The layer in TensorFlow's operators, which the converter translates one by one.

    Parameters
    ----------
    x : tf.Tensor
        (N, H, W, C), all known.
    weights, bias : tf.Tensor
        (n², C, O) and (O,).

    Returns
    -------
    tf.Tensor
        (N, OH, OW, O).
    """
    import tensorflow as tf

    batch, height, width, channels = x.shape
    filters = weights.shape[-1]
    rows, columns = layer.tiling(height), layer.tiling(width)
    m, points = layer.m, layer.n**2
    count = batch * rows.tiles * columns.tiles
    x = tf.pad(x, [[0, 0], [rows.before, rows.after], [columns.before, columns.after], [0, 0]])
    transform = np.repeat(layer.image_transform[:, :, None], channels, axis=2)
    x = tf.nn.depthwise_conv2d(x, transform, [1, m, m, 1], "VALID")
    if layer.winograd_relu:
        x = tf.nn.relu(x)
    x = tf.transpose(tf.reshape(x, [count, channels, points]), [2, 0, 1])
    x = tf.transpose(tf.matmul(x, weights), [1, 2, 0])
    x = tf.matmul(tf.reshape(x, [count * filters, points]), layer.output_transform.T)
    x = tf.transpose(tf.reshape(x, [count, filters, m * m]), [0, 2, 1])
    x = tf.reshape(x, [batch, rows.tiles, columns.tiles, m * m * filters])
    x = tf.nn.depth_to_space(x, m)
    if x.shape[1:3] != (rows.outputs, columns.outputs):
        x = tf.slice(x, [0, 0, 0, 0], [batch, rows.outputs, columns.outputs, filters])
    return _activated(tf.nn.bias_add(x, bias), layer.activation)


def _activated(x: Any, activation: str) -> Any:
    import tensorflow as tf

    functions = {"NONE": tf.identity, "RELU": tf.nn.relu, "RELU6": tf.nn.relu6}
    return functions[activation](x)


def custom(x: Any, weights: Any, bias: Any, layer: Convolution) -> Any:
    """The same as one function, which the converter translates to the custom operator."""
    import tensorflow as tf

    attributes = {
        "tfl_fusable_op": "b: true",
        "m": f"i: {layer.m}",
        "r": f"i: {layer.r}",
        "winograd_relu": f"i: {int(layer.winograd_relu)}",
        "padding": f's: "{layer.padding}"',
        "activation": f's: "{layer.activation}"',
    }
    fields = [f'attr {{ key: "{key}" value {{ {value} }} }}' for key, value in attributes.items()]

    @tf.function(experimental_implements=" ".join([f'name: "{CUSTOM_NAME}"', *fields]))
    def winograd_conv2d(x: Any, weights: Any, bias: Any) -> Any:
        return composite(x, weights, bias, layer)

    return winograd_conv2d(x, weights, bias)


#: How a layer is written, by the name of the way.
WAYS: dict[str, Callable[[Any, Any, Any, Convolution], Any]] = {
    "composite": composite,
    "custom": custom,
}


def one_layer(
    shape: tuple[int, int, int, int],
    weights: np.ndarray,
    bias: np.ndarray,
    layer: Convolution,
    way: str = "composite",
) -> bytes:
    """A .tflite file of one layer.

    Parameters
    ----------
    shape : tuple of int
        (N, H, W, C) of its input.
    weights, bias : np.ndarray
        (n², C, O) and (O,), float32.
    way : {"composite", "custom"}
        See the top of this file.

    Raises
    ------
    LeanconvError
        If the shapes do not fit.
    """
    if weights.shape[:-1] != (layer.n**2, shape[-1]) or bias.shape != weights.shape[-1:]:
        raise LeanconvError(
            f"weights {weights.shape} and bias {bias.shape} do not fit an input {shape} "
            f"under F({layer.m}, {layer.r})"
        )
    with quiet_tensorflow():
        import tensorflow as tf

        @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32)])
        def network(x: Any) -> Any:
            return WAYS[way](x, tf.constant(weights), tf.constant(bias), layer)

        # Of a module, a function that stands for an operator stays one.
        module = tf.Module()
        module.network = network
        functions = [network.get_concrete_function()]
        converter = tf.lite.TFLiteConverter.from_concrete_functions(functions, module)
        converter.allow_custom_ops = way == "custom"
        return bytes(converter.convert())
