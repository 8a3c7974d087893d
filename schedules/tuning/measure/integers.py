"""Inputs for a layer of integers, and what must come out of them, to the last bit.

Elements of the image and weights are uniform over their type, zero points are neither 0 nor at an
end, and the scales are such that outputs fill their range: what a kernel makes of any sum can be
seen, at both ends too. Sums are exact in float64.
"""

from __future__ import annotations

import numpy as np

from schedules.errors import LeanconvError
from schedules.kernel.quantised.quantisation import Quantisation
from schedules.layer.workload import Conv2dWorkload

#: Output elements in the standard deviation of sums: most fit, some do not.
DEVIATION = 60.0
#: Zero points of input and output.
ZEROS = (-9, 5)
#: Scale and zero point of a residual, and of its sum with an output of scale 1.
SUM = ((0.7, 11), (1.3, -4))
#: The only rule by which outputs are known.
RULE = "xnn_fp32"


def check_rule(workload: Conv2dWorkload) -> None:
    """Raise LeanconvError if outputs of ``workload`` are not known."""
    if (workload.dtype, workload.weight_dtype, workload.rounding) != ("int8", "int8", RULE):
        raise LeanconvError(f"only int8 rounded by {RULE} is measured, not {workload.describe()}")


def elements(random: np.random.Generator, shape: tuple[int, ...], least: int) -> np.ndarray:
    """int8 from ``least`` on."""
    return random.integers(least, 128, shape).astype(np.int8)


def quantisation(random: np.random.Generator, layer: Conv2dWorkload) -> Quantisation:
    """Scales that differ from channel to channel, and :data:`ZEROS`."""
    # Of uniform elements and weights, which are not of mean 0 by the zero point alone.
    deviation = 73.9 * np.hypot(73.9, ZEROS[0]) * layer.reduction**0.5
    scales = random.uniform(0.5, 1.5, layer.out_channels) * DEVIATION / deviation
    own = Quantisation.of(layer, (scales, 0), (1.0, ZEROS[0]), (1.0, ZEROS[1]))
    return own.with_sum(layer, 1.0, *SUM) if layer.residual else own


def finished(sums: np.ndarray, residual: np.ndarray | None, own: Quantisation) -> np.ndarray:
    """Output elements for whole sums with their bias, by :data:`RULE`."""
    real = sums.astype(np.float32) * own.ratios[0]
    steps = np.rint(real.astype(np.float64)) + own.output_zero
    steps = np.clip(steps, own.low, own.high)
    if residual is not None:
        factor, other, offset, shift, zero, low, high = own.sums
        wide = steps.astype(np.int64) * factor + residual.astype(np.int64) * other + offset
        steps = np.clip((wide >> shift) + zero, low, high)
    return steps.astype(np.int8)
