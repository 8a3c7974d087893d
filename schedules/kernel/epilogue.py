"""What happens to an accumulator on its way to the output: bias, activation, residual.

Kept apart from geometry and schedules, so that another element type brings its own epilogue
(requantisation, conversion) without touching either.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tvm import te, tirx

from schedules.kernel.hybrid.constants import DynamicConstants
from schedules.kernel.quantised.constants import Constants
from schedules.kernel.sigmoid import swish
from schedules.layer.workload import ACTIVATIONS, HARD_SWISH, SWISH, Conv2dWorkload
from schedules.lower.clamping import at_least, at_most


def finished(
    workload: Conv2dWorkload,
    sums: Callable[..., tirx.Expr],
    constants: Constants | None,
    shape: Sequence[int] = (),
    name: str = "Y",
    has_bias: bool = False,
) -> list[te.Tensor]:
    """Argument ``R``, if there is a residual, and block ``name``: the output for finished sums.

    Both are of ``shape``, by default the output's. ``sums`` takes the indices of an element; they
    have the bias already if they say so, or there are no ``constants``.
    """
    shape = shape or workload.output_shape
    added = [te.placeholder(shape, workload.dtype, name="R")] if workload.residual else []

    def element(*i: tirx.Expr) -> tirx.Expr:
        others = [tensor[i] for tensor in added]
        if isinstance(constants, DynamicConstants):
            return complete(constants.dequantise(sums(*i), i, has_bias), workload, *others)
        if constants is not None and workload.is_quantised:
            total = sums(*i) if has_bias else sums(*i) + constants.bias[i[-1]]
            value = constants.requantise(total, i[-1], workload.out_channels)
            return constants.added(value, *others) if others else value
        first = tirx.const(0, workload.dtype)
        if constants is not None and not has_bias:
            first = constants.bias[i[-1]].astype(workload.dtype)
        return finish(sums(*i), first, workload, *others)

    return [*added, te.compute(shape, element, name=name)]


def finish(
    accumulator: tirx.Expr,
    bias: tirx.Expr,
    workload: Conv2dWorkload,
    residual: tirx.Expr | None = None,
) -> tirx.Expr:
    """The output element for a finished sum: bias, activation, residual, output activation."""
    return complete(accumulator + bias, workload, residual)


def complete(
    value: tirx.Expr, workload: Conv2dWorkload, residual: tirx.Expr | None = None
) -> tirx.Expr:
    """Activation, residual and output activation."""
    value = activate(value, workload.activation, workload.dtype)
    if residual is None:
        return value
    return activate(value + residual, workload.output_activation, workload.dtype)


def activate(value: tirx.Expr, activation: str, dtype: str) -> tirx.Expr:
    """``value`` after an activation; a NaN stays one."""
    if activation == SWISH:
        return swish(value.astype("float32")).astype(dtype)
    if activation == HARD_SWISH:
        # In this order nothing overflows that is no infinity itself.
        clamped = at_most(at_least(value + tirx.const(3.0, dtype), 0.0), 6.0)
        return value * (clamped * tirx.const(1 / 6, dtype))
    lower, upper = ACTIVATIONS[activation]
    if lower is not None:
        value = at_least(value, lower)
    if upper is not None:
        value = at_most(value, upper)
    return value
