"""Rounding rules of quantised layers in numpy: written from what runtimes do, in 64-bit integers.

:func:`ratio_arrays` are the numbers that kernels read, :func:`rounded` what they make of sums.
"""

from __future__ import annotations

import math

import numpy as np

#: Rules that multiply by a mantissa of TFLite's.
_TFLITE = ("double", "double_up", "depthwise_int8", "single")


def ratio_arrays(
    rule: str,
    input_scale: np.float32,
    scales: np.ndarray,
    output_scale: np.float32,
    in_float32: bool = False,
) -> tuple[np.ndarray, ...]:
    """For each channel what ``rule`` multiplies by: see :mod:`schedules.layer.rounding`.

    ``in_float32`` are TFLite's products of scales where it computes them so.
    """
    if rule == "real64":
        return (float(input_scale) * scales.astype(np.float64) / float(output_scale),)
    if rule in _TFLITE:
        exact = float(input_scale) * scales.astype(np.float64)
        products = (input_scale * scales).astype(np.float64) if in_float32 else exact
        pairs = [_parts(ratio, 31) for ratio in products / float(output_scale)]
    else:
        ratios = (input_scale * scales) / output_scale
        if rule == "xnn_fp32":
            return (ratios,)
        pairs = [_parts(float(ratio), 15 if rule == "xnn_rndnu16" else 31) for ratio in ratios]
    mantissas, shifts = zip(*pairs, strict=True)
    return np.array(mantissas, np.int32), np.array(shifts, np.int32)


def _parts(ratio: float, bits: int) -> tuple[int, int]:
    fraction, shift = math.frexp(ratio)
    mantissa = math.floor(fraction * 2**bits + 0.5)
    return (mantissa, shift) if mantissa < 2**bits else (mantissa // 2, shift + 1)


def rounded(rule: str, sums: np.ndarray, ratio: tuple[np.ndarray, ...]) -> np.ndarray:
    """Steps of the output for exact ``sums``, channels last: int64."""
    if rule == "xnn_fp32":
        return np.rint((sums.astype(np.float32) * ratio[0]).astype(np.float64)).astype(np.int64)
    if rule == "real64":
        real = sums * ratio[0]
        return (np.sign(real) * np.floor(np.abs(real) + 0.5)).astype(np.int64)
    mantissa, shift = (array.astype(np.int64) for array in ratio)
    if rule == "depthwise_int8":
        vectors = np.arange(sums.shape[-1]) < sums.shape[-1] // 8 * 8
        return np.where(vectors, rounded("double_up", sums, ratio), rounded("double", sums, ratio))
    if rule == "xnn_rndnu16":
        value = np.where(shift > 0, sums << np.maximum(shift, 0), _right(sums, -shift))
        value = np.clip(value, -(2**15), 2**15 - 1)
        return (value * mantissa + 2**14) >> 15
    if rule in ("double", "double_up"):
        value = _wrapped(sums << np.maximum(shift, 0))
        value = (value * mantissa + 2**30) >> 31
        return _right(value - ((value < 0) & (shift < 0) & (rule == "double")), -shift)
    # One rounding of the whole product, of which at least 32 bits are lost.
    value = sums << np.maximum(shift + 1, 0)
    ends = (-(2**31), 2**31 - 1)
    value = np.clip(value, *ends) if rule == "xnn_rndnu" else _wrapped(value)
    lost = 31 - np.minimum(shift, -1)
    return (value * mantissa + (np.int64(1) << (lost - 1))) >> lost


def _wrapped(values: np.ndarray) -> np.ndarray:
    return values.astype(np.int32).astype(np.int64)


def _right(values: np.ndarray, bits: np.ndarray) -> np.ndarray:
    """Divided by ``2^bits`` if that is positive, ties up."""
    bits = np.maximum(bits, 0)
    return (values + ((np.int64(1) << bits) >> 1)) >> bits
