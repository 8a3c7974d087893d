"""The rules of quantised layers as TVM computes them where no kernel does, one element at a time.

Those of :mod:`schedules.layer.rounding`: in float32 or float64, or in integers of 64 bits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from tvm import tirx

from schedules.kernel.quantised.quantisation import Quantisation
from schedules.layer.workload import Conv2dWorkload
from schedules.lower.exact import away

_LEAST, _MOST = -(2**31), 2**31 - 1
#: Channels that TFLite's vector loops compute at once.
VECTOR = 8


def element_of(
    workload: Conv2dWorkload, total: Any, ratio: Sequence[Any], own: Quantisation, channel: Any
) -> Any:
    """The output element for an int32 sum with its bias; ``ratio`` is the ``channel``'s."""
    if workload.rounding == "xnn_fp32":
        steps = _nearest(total, ratio[0], own)
    elif workload.rounding == "real64":
        real = away(tirx.Cast("float64", total) * ratio[0])
        steps = _clamped(real, own.low - own.output_zero, own.high - own.output_zero)
    elif workload.rounding == "depthwise_int8":
        sum_, mantissa, shift = (tirx.Cast("int64", value) for value in (total, *ratio))
        vectors = workload.out_channels // VECTOR * VECTOR
        by_rule = (_twice(sum_, mantissa, shift, is_away) for is_away in (False, True))
        steps = tirx.Select(channel < vectors, next(by_rule), next(by_rule))
        steps = _clamped(steps, own.low - own.output_zero, own.high - own.output_zero)
    else:
        sum_, mantissa, shift = (tirx.Cast("int64", value) for value in (total, *ratio))
        steps = _FIXED[workload.rounding](sum_, mantissa, shift)
        steps = _clamped(steps, own.low - own.output_zero, own.high - own.output_zero)
    return tirx.Cast(workload.dtype, tirx.Cast("int32", steps) + own.output_zero)


def _clamped(value: Any, least: float, most: float) -> Any:
    least, most = (tirx.const(bound, value.ty.dtype) for bound in (least, most))
    return tirx.max(tirx.min(value, most), least)


def _nearest(total: Any, ratio: Any, own: Quantisation) -> Any:
    """Clamped before it is rounded, so that what is far outside stays an integer."""
    bounds = (float(end - own.output_zero) for end in (own.low, own.high))
    return tirx.nearbyint(_clamped(tirx.Cast("float32", total) * ratio, *bounds))


def _rounded_once(value: Any, mantissa: Any, shift: Any) -> Any:
    """The product without as many bits as a shift to the right by at least 32 takes; ties up."""
    lost = 31 - tirx.min(shift, -1)
    return (value * mantissa + (tirx.const(1, "int64") << (lost - 1))) >> lost


def _rndnu(value: Any, mantissa: Any, shift: Any) -> Any:
    return _rounded_once(_clamped(value << tirx.max(shift + 1, 0), _LEAST, _MOST), mantissa, shift)


def _rndnu_wrapping(value: Any, mantissa: Any, shift: Any) -> Any:
    value = tirx.Cast("int64", tirx.Cast("int32", value << tirx.max(shift + 1, 0)))
    return _rounded_once(value, mantissa, shift)


def _twice(value: Any, mantissa: Any, shift: Any, is_away: bool) -> Any:
    """Rounded twice, ties up, and then up again or away from zero."""
    value = tirx.Cast("int64", tirx.Cast("int32", value << tirx.max(shift, 0)))
    value, right = (value * mantissa + (1 << 30)) >> 31, tirx.max(-shift, 0)
    if is_away:
        value = value + tirx.Select(tirx.all(value < 0, right > 0), -1, 0)
    return (value + ((tirx.const(1, "int64") << right) >> 1)) >> right


def _rndnu16(value: Any, mantissa: Any, shift: Any) -> Any:
    right = tirx.max(-shift, 0)
    value = ((value << tirx.max(shift, 0)) + ((tirx.const(1, "int64") << right) >> 1)) >> right
    return (_clamped(value, -(2**15), 2**15 - 1) * mantissa + 2**14) >> 15


_FIXED: Mapping[str, Callable[..., Any]] = {
    "xnn_rndnu": _rndnu,
    "xnn_rndnu_wrapping": _rndnu_wrapping,
    "xnn_rndnu16": _rndnu16,
    "double": partial(_twice, is_away=True),
    "double_up": partial(_twice, is_away=False),
    # In 32 bits, as wrapping takes what a shift to the left leaves of them.
    "single": _rndnu_wrapping,
}
