"""The model of rounding errors against what happens in float32."""

from __future__ import annotations

import math

import numpy as np
import pytest

from schedules.algorithms.winograd.winograd import TRANSFORM_ROUNDINGS
from schedules.kernel.accuracy import ROUNDING, UNIT_ROUNDOFF, relative_error
from schedules.transforms.cook_toom import Filtering, filtering
from scripts.benchmarks.winograd import float32


def measured_error(channels: int, form: Filtering | None) -> float:
    """Of 3x3 convolutions of normally distributed values, in units of the output's root mean
    square."""
    numbers = np.random.default_rng(channels)
    image = numbers.standard_normal((26, 26, channels), np.float32)
    weights = numbers.standard_normal((8, 3, 3, channels), np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(image.astype(np.float64), (3, 3), (0, 1))
    exact = np.einsum("hwcij,mijc->hwm", windows, weights.astype(np.float64), optimize=True)
    if form is None:
        result = float32.direct(image, weights)
    else:
        result = float32.winograd(image, weights, form)
    return float(np.sqrt(((result - exact) ** 2).mean() / (exact**2).mean()))


@pytest.mark.parametrize("channels", [16, 64, 150])
@pytest.mark.parametrize("outputs", [None, 2, 4, 5, 6])
def test_the_model_is_within_a_quarter(outputs: int | None, channels: int) -> None:
    """``amplification u sqrt(0.18 (terms / 2 + roundings))``, with the terms of one sum."""
    if outputs is None:
        expected = relative_error(9 * channels)
        measured = measured_error(channels, None)
    else:
        form = filtering(outputs, 3)
        expected = relative_error(channels, form.amplification**2, TRANSFORM_ROUNDINGS)
        measured = measured_error(channels, form)
    assert 1 / 1.25 < measured / expected < 1.25


def test_the_mean_square_of_one_rounding() -> None:
    """Of numbers whose logarithms are uniform; 3 / (24 ln 4), by integration."""
    exact = 2 ** np.random.default_rng(0).uniform(-8, 8, 1_000_000)
    errors = (exact.astype(np.float32) - exact) / exact / UNIT_ROUNDOFF
    assert ROUNDING == pytest.approx(np.mean(errors**2), rel=0.01)
    assert ROUNDING == pytest.approx(1 / (8 * math.log(2)), rel=0.01)
