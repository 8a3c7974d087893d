"""What a convolution is, in float64, and how far a float32 result may be from it."""

from __future__ import annotations

import numpy as np

from schedules.workload import ACTIVATIONS, Conv2dWorkload

#: Unit roundoff of float32.
EPSILON = 2.0**-24


def conv2d(
    workload: Conv2dWorkload, x: np.ndarray, weights: np.ndarray, bias: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """The exact result (to float64), and a bound on the error of any float32 result.

    A sum of n products in float32, in any order and with or without fused multiply-add, is off by
    at most gamma(n) * sum |x w| with gamma(n) = n u / (1 - n u) (Higham, "Accuracy and Stability of
    Numerical Algorithms", section 3.1). The bias is one more term. Activations do not magnify an
    error.

    Parameters
    ----------
    x : (N, H, W, C)
    weights : (M, K_h, K_w, C / groups)
    bias : (M,) or None

    Returns
    -------
    result, bound : (N, H', W', M), float64
    """
    x, weights = x.astype(np.float64), weights.astype(np.float64)
    bias = np.zeros(len(weights)) if bias is None else bias.astype(np.float64)
    result = _correlate(workload, x, weights) + bias
    magnitude = _correlate(workload, abs(x), abs(weights)) + abs(bias)
    terms = workload.reduction + 2
    gamma = terms * EPSILON / (1 - terms * EPSILON)
    least, most = ACTIVATIONS[workload.activation]
    result = np.clip(result, least, most) if (least, most) != (None, None) else result
    return result, gamma * magnitude


def _correlate(workload: Conv2dWorkload, x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    w = workload
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
