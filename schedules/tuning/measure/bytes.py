"""Inputs for a layer of floats with int8 weights: what comes out hardly depends on its rule.

An image that is quantised by its range has a least and a largest element, and so has each of its
rows, between which there are 255 steps of a power of two, and all elements are whole steps: every
asymmetric rule finds the same int8, and no zero point is 0. What is left are roundings of the
epilogue.
"""

from __future__ import annotations

import numpy as np

from schedules.errors import LeanconvError
from schedules.kernel.hybrid import RULES
from schedules.kernel.hybrid.scales import ChannelScales
from schedules.layer.workload import Conv2dWorkload

#: The least and the largest element in steps, and a step.
LEAST, MOST, STEP = -64, 191, 1 / 16
#: Of elements and of weights, in steps.
_DEVIATIONS = (98.0, 73.6)


def is_measured(workload: Conv2dWorkload) -> bool:
    """Whether outputs of a ``workload`` of such weights are known."""
    if not workload.is_dynamic:
        return True
    rule = RULES[workload.rounding]
    return rule.least == -128 and not (rule.by_row and workload.in_channels < 2)


def check_measured(workload: Conv2dWorkload) -> None:
    """Raise LeanconvError if outputs are not known."""
    if not is_measured(workload):
        raise LeanconvError(f"{workload.describe()} is not measured: its int8 depend on its rule")


def image(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """float32, both ends in every pixel that has two channels, and in every image."""
    steps = random.integers(LEAST, MOST + 1, shape)
    steps[..., 0], steps[..., -1] = LEAST, MOST
    if shape[-1] == 1:
        steps[:, 0, 0] = LEAST
    return steps.astype(np.float32) * np.float32(STEP)


def weights(random: np.random.Generator, layer: Conv2dWorkload) -> tuple[np.ndarray, ChannelScales]:
    """int8, never -128, and scales such that outputs are of order 1."""
    codes = random.integers(-127, 128, layer.weight_shape).astype(np.int8)
    deviation = _DEVIATIONS[0] * STEP * _DEVIATIONS[1] * layer.reduction**0.5
    scales = random.uniform(0.5, 1.5, layer.out_channels) / deviation
    return codes, ChannelScales(scales.astype(np.float32))
