"""The rules of quantised layers as TVM computes them where no kernel does, one element at a time.

Of :mod:`schedules.layer.rounding`, those that XNNPACK has: in float32, or in integers of 64 bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvm import tirx

from schedules.kernel.quantised.quantisation import Quantisation
from schedules.layer.workload import Conv2dWorkload

_LEAST, _MOST = -(2**31), 2**31 - 1


def element_of(
    workload: Conv2dWorkload, total: Any, ratio: Sequence[Any], own: Quantisation
) -> Any:
    """The output element for an int32 sum with its bias; ``ratio`` is the channel's."""
    if workload.rounding == "xnn_fp32":
        steps = _nearest(total, ratio[0], own)
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


def _rndnu16(value: Any, mantissa: Any, shift: Any) -> Any:
    right = tirx.max(-shift, 0)
    value = ((value << tirx.max(shift, 0)) + ((tirx.const(1, "int64") << right) >> 1)) >> right
    return (_clamped(value, -(2**15), 2**15 - 1) * mantissa + 2**14) >> 15


_FIXED = {
    "xnn_rndnu": _rndnu,
    "xnn_rndnu_wrapping": _rndnu_wrapping,
    "xnn_rndnu16": _rndnu16,
}
