"""What a convolution is, in float64, and how far a float32 or float16 result may be from it."""

from __future__ import annotations

from functools import partial

import numpy as np

from schedules.layer.volume import Conv3dWorkload
from schedules.layer.workload import ACTIVATIONS, HARD_SWISH, SWISH, Conv2dWorkload
from schedules.transforms.cook_toom import Filtering, as_floats

#: Unit roundoff of each type.
EPSILONS = {"float32": 2.0**-24, "float16": 2.0**-11}
EPSILON = EPSILONS["float32"]
#: Half of the least number above zero: rounding something tiny is off by at most that.
TINY = {"float32": 0.0, "float16": 2.0**-25}


def conv2d(
    workload: Conv2dWorkload,
    x: np.ndarray,
    weights: np.ndarray,
    bias: np.ndarray | None,
    residual: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The exact result (to float64), and a bound on the error of any result in the layer's type.

    A sum of n products in floats, in any order and with or without fused multiply-add, is off by
    at most gamma(n) * sum |x w| with gamma(n) = n u / (1 - n u) (Higham, "Accuracy and Stability of
    Numerical Algorithms", section 3.1). The bias is one more term. In float16, bias and weights may
    be rounded first, and what is below its normal numbers is off by :data:`TINY` each time.

    Parameters
    ----------
    x : (N, H, W, C)
    weights : (M, K_h, K_w, C / groups)
    bias : (M,) or None
    residual : (N, H', W', M) or None

    Returns
    -------
    result, bound : (N, H', W', M), float64
    """
    x, weights = x.astype(np.float64), weights.astype(np.float64)
    bias = np.zeros(len(weights)) if bias is None else bias.astype(np.float64)
    result = _correlate(workload, x, weights) + bias
    magnitude = _correlate(workload, abs(x), abs(weights)) + abs(bias)
    roundings, dtype = workload.reduction + 2, _float_type(workload)
    if dtype == "float16":
        roundings += 1
    tiny = 2 * roundings * TINY[dtype] * (1 + abs(x).max(initial=0))
    return finish(workload, result, gamma(roundings, dtype) * magnitude + tiny, residual)


def _float_type(workload: Conv2dWorkload) -> str:
    return workload.dtype if workload.dtype in EPSILONS else "float32"


def finish(
    workload: Conv2dWorkload, result: np.ndarray, bound: np.ndarray, residual: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Value and bound after the activation, the residual and the output activation."""
    dtype = _float_type(workload)
    result, bound = activate(workload.activation, result, bound, dtype)
    if residual is None:
        return result, bound
    result = result + residual.astype(np.float64)
    bound = bound + gamma(1, dtype) * (abs(result) + bound)
    return activate(workload.output_activation, result, bound, dtype)


def activate(
    activation: str, value: np.ndarray, bound: np.ndarray, dtype: str = "float32"
) -> tuple[np.ndarray, np.ndarray]:
    """Value and bound after an activation.

    Clamping does not magnify an error. The slope of hard_swish is at most 3/2, and it rounds four
    times: a sum of at most 6, which is then multiplied by x / 6, the constant and two products.
    That of swish is at most 1.1, and its roundings are less than 10 of x
    (schedules/kernel/sigmoid.py).
    """
    if activation == SWISH:
        return value / (1 + np.exp(-value)), 1.1 * bound + gamma(10, dtype) * (abs(value) + bound)
    if activation == HARD_SWISH:
        result = value * np.clip(value + 3, 0, 6) / 6
        return result, 1.5 * bound + gamma(4, dtype) * (abs(value) + bound)
    least, most = ACTIVATIONS[activation]
    return np.clip(
        value, -np.inf if least is None else least, np.inf if most is None else most
    ), bound


def gamma(roundings: int, dtype: str = "float32") -> float:
    """The largest relative error that this many roundings one after another can make."""
    error = roundings * EPSILONS[dtype]
    assert error < 1, "the bound says nothing about so many roundings"
    return error / (1 - error)


def strassen_bound(
    workload: Conv2dWorkload, x: np.ndarray, weights: np.ndarray, bias: np.ndarray | None
) -> np.ndarray:
    """A bound on the error of Winograd's form of Strassen's algorithm, of a 1x1 layer.

    By the same argument as in :func:`conv2d`: an element of either factor takes part in the output
    with at most 3 roundings in the sums of quadrants, 2 C in running sums that go on from each
    other, one more addition and the bias; and with no more than if all were added up in magnitudes.

    Returns
    -------
    bound : (N, H', W', M), float64
    """
    pixels, channels = workload.pixels, workload.in_channels
    read = x[:, :: workload.stride_height, :: workload.stride_width]
    image = abs(read.astype(np.float64)).reshape(2, pixels // 2, 2, channels // 2)
    kernel = abs(weights.astype(np.float64)).reshape(2, -1, 2, channels // 2)
    (a11, a12), (a21, a22) = ((image[i, :, j] for j in (0, 1)) for i in (0, 1))
    (b11, b12), (b21, b22) = ((kernel[j, :, i].T for j in (0, 1)) for i in (0, 1))

    s0, s1, s2 = a21 + a22, a21 + a22 + a11, a11 + a21
    t0, t1, t2 = b12 + b11, b22 + b12 + b11, b22 + b12
    both = a11 @ b11 + s1 @ t1
    most = np.block(
        [
            [a11 @ b11 + a12 @ b21, both + s0 @ t0 + (a12 + s1) @ b22],
            [both + s2 @ t2 + a22 @ (b21 + t1), both + s2 @ t2 + s0 @ t0],
        ]
    )
    added = 0 if bias is None else abs(bias.astype(np.float64))
    bound = gamma(2 * channels + 8) * (most + added)
    return bound.reshape(workload.output_shape)


def winograd_bound(
    workload: Conv2dWorkload,
    transforms: tuple[Filtering, Filtering],
    x: np.ndarray,
    weights: np.ndarray,
    bias: np.ndarray | None,
) -> np.ndarray:
    """A bound on the error of any Winograd convolution with these F(m, r), down and across.

    By the same argument as in :func:`conv2d`: whatever the order, each product of an image element,
    a weight and one coefficient of every transform takes part in the output with a relative error
    of gamma(n) for the n roundings on its way. These are at most C in the sum over channels and,
    for every transform of the image, the weights (in the kernel; packed, it is but one) and the
    products, its length for the sum and 3 for its constants and the sharing of terms between
    opposite points; 1 more is the bias. So the bound, before the activation, is gamma(n) times the
    convolution of the absolute values with the absolute values of all matrices, which exceeds the
    direct algorithm's by far: cancellation between the coefficients is what Winograd's algorithm
    pays with.

    Returns
    -------
    bound : (N, H', W', M), float64
    """
    w, (rows, columns) = workload, transforms
    bias = np.zeros(len(weights)) if bias is None else bias
    if w.groups > 1:
        parts = (np.split(x, w.groups, -1), np.split(weights, w.groups), np.split(bias, w.groups))
        group = partial(winograd_bound, w.one_group(), transforms)
        return np.concatenate(list(map(group, *parts)), axis=-1)
    outputs = [t.outputs for t in transforms]
    tiles = [-(-size // m) for size, m in zip(w.output_shape[1:3], outputs, strict=True)]
    pads = []
    for size, before, t, count in zip(
        w.input_shape[1:3], (w.pad_top, w.pad_left), transforms, tiles, strict=True
    ):
        pads.append((before, max(0, count * t.outputs + t.taps - 1 - before - size)))
    padded = np.pad(abs(x.astype(np.float64)), ((0, 0), *pads, (0, 0)))
    matrices = [[abs(as_floats(m)) for m in (t.image, t.kernel, t.output)] for t in transforms]
    (b_h, g_h, a_h), (b_w, g_w, a_w) = matrices
    windows = np.lib.stride_tricks.sliding_window_view(
        padded, (rows.inputs, columns.inputs), axis=(1, 2)
    )[:, :: rows.outputs, :: columns.outputs][:, : tiles[0], : tiles[1]]
    image = np.einsum("ai,nyxcij,bj->abnyxc", b_h, windows, b_w, optimize=True)
    kernel = np.einsum("ai,mijc,bj->abcm", g_h, abs(weights.astype(np.float64)), g_w, optimize=True)
    products = image.reshape(*image.shape[:2], -1, w.in_channels) @ kernel
    products = products.reshape(*image.shape[:5], w.out_channels)
    result = np.einsum("pa,abnyxm,qb->nypxqm", a_h, products, a_w, optimize=True)
    result = result.reshape(w.batch, tiles[0] * outputs[0], tiles[1] * outputs[1], w.out_channels)
    result = result[:, : w.out_height, : w.out_width] + abs(bias.astype(np.float64))
    lengths = sum(2 * (t.inputs + 3) + t.taps + 3 for t in transforms)
    return gamma(w.in_channels + lengths + 1, w.dtype) * result


def _correlate(workload: Conv2dWorkload, x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    w = workload
    if isinstance(w, Conv3dWorkload):
        return _correlate_volumes(w, x, weights)
    if w.groups > 1:
        groups = zip(np.split(x, w.groups, axis=-1), np.split(weights, w.groups), strict=True)
        return np.concatenate([_correlate(w.one_group(), *group) for group in groups], axis=-1)
    pad = ((0, 0), (w.pad_top, w.pad_bottom), (w.pad_left, w.pad_right), (0, 0))
    padded = np.pad(x, pad)
    result = np.zeros(w.output_shape)
    for kh in range(w.kernel_height):
        for kw in range(w.kernel_width):
            top, left = kh * w.dilation_height, kw * w.dilation_width
            rows = slice(top, top + (w.out_height - 1) * w.stride_height + 1, w.stride_height)
            columns = slice(left, left + (w.out_width - 1) * w.stride_width + 1, w.stride_width)
            # One large product of contiguous matrices: seconds instead of minutes.
            patches = np.ascontiguousarray(padded[:, rows, columns]).reshape(-1, w.in_channels)
            tap = np.ascontiguousarray(weights[:, kh, kw].T)
            result += (patches @ tap).reshape(w.output_shape)
    return result


def _correlate_volumes(w: Conv3dWorkload, x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """One product of every output with all that it sees, window by window."""
    pads = ((w.pad_front, w.pad_back), (w.pad_top, w.pad_bottom), (w.pad_left, w.pad_right))
    padded = np.pad(x, ((0, 0), *pads, (0, 0)))
    dilations = (w.dilation_depth, w.dilation_height, w.dilation_width)
    spans = [
        (taps - 1) * dilation + 1
        for taps, dilation in zip(w.weight_shape[1:4], dilations, strict=True)
    ]
    windows = np.lib.stride_tricks.sliding_window_view(padded, spans, axis=(1, 2, 3))
    windows = windows[:, :: w.stride_depth, :: w.stride_height, :: w.stride_width]
    d, h, v = dilations
    return np.einsum("nzyxcdhw,mdhwc->nzyxm", windows[..., ::d, ::h, ::v], weights, optimize=True)
