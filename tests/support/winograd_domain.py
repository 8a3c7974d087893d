"""A convolution with weights in the Winograd domain in float64, tile by tile, and its error."""

from __future__ import annotations

import numpy as np

from schedules.transforms.cook_toom import as_floats, filtering
from scripts.prune.convolution import Convolution
from tests.support.reference import gamma


def winograd_conv2d(
    x: np.ndarray, weights: np.ndarray, bias: np.ndarray, layer: Convolution
) -> tuple[np.ndarray, np.ndarray]:
    """The exact result, and a bound on the error of one in float32.

    An image element goes through ``n²`` products of one transform, C of a channel sum and ``n²``
    of the other transform; each constant is rounded once, the bias is one more term. So the error
    is at most gamma of their number times what the same sums make of magnitudes. ReLU, in the
    middle or at the end, enlarges no difference.

    Parameters
    ----------
    x : (N, H, W, C)
    weights : (n², C, O)
    bias : (O,)

    Returns
    -------
    result, bound : (N, OH, OW, O), float64
    """
    matrices = filtering(layer.m, layer.r)
    image, output = as_floats(matrices.image), as_floats(matrices.output)
    x, weights, bias = (array.astype(np.float64) for array in (x, weights, bias))
    relu = (lambda v: np.maximum(v, 0)) if layer.winograd_relu else (lambda v: v)
    exact = _tiles(x, weights, image, output, relu, layer) + bias
    magnitude = _tiles(abs(x), abs(weights), abs(image), abs(output), lambda v: v, layer)
    roundings = 2 * layer.n**2 + weights.shape[1] + 4
    limits = {"NONE": (-np.inf, np.inf), "RELU": (0, np.inf), "RELU6": (0, 6)}[layer.activation]
    return exact.clip(*limits), gamma(roundings) * (magnitude + abs(bias))


def _tiles(x, weights, image, output, relu, layer):  # type: ignore[no-untyped-def]
    m, n = layer.m, layer.n
    rows, columns = (layer.tiling(size) for size in x.shape[1:3])
    x = np.pad(x, [(0, 0), (rows.before, rows.after), (columns.before, columns.after), (0, 0)])
    weights = weights.reshape(n, n, *weights.shape[1:])
    y = np.zeros((len(x), rows.tiles * m, columns.tiles * m, weights.shape[-1]))
    for i in range(0, rows.tiles * m, m):
        for j in range(0, columns.tiles * m, m):
            transformed = relu(
                np.einsum("ai,zijc,bj->zabc", image, x[:, i : i + n, j : j + n], image)
            )
            product = np.einsum("zabc,abco->zabo", transformed, weights)
            y[:, i : i + m, j : j + m] = np.einsum("ya,zabo,xb->zyxo", output, product, output)
    return y[:, : rows.outputs, : columns.outputs]
