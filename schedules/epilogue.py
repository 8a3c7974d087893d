"""What happens to an accumulator on its way to the output: bias and activation.

Kept apart from geometry and schedules, so that another element type brings its own epilogue
(requantisation, conversion) without touching either.
"""

from __future__ import annotations

from collections.abc import Mapping

from tvm import tirx

from schedules.workload import ACTIVATIONS, Conv2dWorkload

#: Element type -> type in which its products are summed.
ACCUMULATOR_DTYPE: Mapping[str, str] = {"float32": "float32"}


def bias_dtype(workload: Conv2dWorkload) -> str:
    """Element type of the bias: that of the sums it is added to."""
    return ACCUMULATOR_DTYPE[workload.dtype]


def finish(accumulator: tirx.Expr, bias: tirx.Expr, workload: Conv2dWorkload) -> tirx.Expr:
    """The output element for a finished sum: bias added, clamped by the fused activation."""
    value = accumulator + bias
    lower, upper = ACTIVATIONS[workload.activation]
    if lower is not None:
        value = tirx.max(value, tirx.const(lower, workload.dtype))
    if upper is not None:
        value = tirx.min(value, tirx.const(upper, workload.dtype))
    return value
