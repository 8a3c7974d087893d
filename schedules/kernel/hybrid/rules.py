"""How floats become int8 by their range, and sums of products floats again: rules by name.

Runtimes differ in both, and a single step that differs grows through a network; so each rule is
computed exactly as by the runtime that it is named after. ``s`` is a step of the image, ``s_w`` one
of the weights of an output channel:

``xnn_qd8_fused``, ``xnn_qd8_fused_rows``
    XNNPACK where it has no dot products, or none in assembly: ``fma(sum s, s_w, b)``.
``xnn_qd8``
    XNNPACK's assembly for Arm processors with dot products: ``sum (s s_w) + b``.
``xnn_qp8``
    KleidiAI, by which XNNPACK multiplies matrices there: likewise, rounding to int8 away from zero.
``builtin_depthwise``
    TFLite's DEPTHWISE_CONV_2D: ``(sum s_w) s + b``, and in the last channels that fill up no four
    ``(sum s) s_w + b``.
``builtin_asymmetric``, ``builtin_symmetric``
    TFLite's CONV_2D: ``sum (s s_w) + b``.
``builtin_asymmetric_rows``, ``builtin_symmetric_rows``, and these ``_fused``
    Its FULLY_CONNECTED: the same, or ``fma(sum, s s_w, b)``.
``reference_asymmetric``
    Its reference kernel of CONV_2D: ``(sum s_w) s + b``.

``rows`` means that each row of a matrix has a range of its own, else each image has.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm import tirx
from tvm.tirx import Expr

from schedules.layer.workload import Conv2dWorkload
from schedules.lower.exact import away, even, fused, rounded
from schedules.target.simd import Simd

#: The largest float32 below one half.
BELOW_HALF = 0.49999997


def comes_before(index: Expr, end: int) -> Expr:
    """``index < end``, which TVM does not divide a loop at: it looks at integers."""
    return tirx.Cast("float64", index) < tirx.const(end, "float64")


def _float(value: float) -> Expr:
    return tirx.const(value, "float32")


@dataclass(frozen=True)
class Steps:
    """What multiplies a float to make an int8 of it, the zero point, an int32, and one step."""

    factor: Expr
    zero: Expr
    scale: Expr


@dataclass(frozen=True)
class Rule:
    """One of the rules.

    ``steps`` takes the least and the largest element, with zero among them; ``dequantise`` a sum as
    a float, the image's and the weights' step, the bias, and whether the channel is not one of the
    last that fill up no four. ``rounding`` is ``even``, ``away``, or ``builtin``: away from zero,
    but eight at a time on x86, by adding one half in float32.
    """

    steps: Callable[[Expr, Expr], Steps]
    dequantise: Callable[[Expr, Expr, Expr, Expr, Expr], Expr]
    rounding: str
    by_row: bool = False
    least: int = -128

    @classmethod
    def of(cls, workload: Conv2dWorkload) -> Rule:
        """The rule of a dynamic ``workload``."""
        return RULES[workload.rounding]

    def rounded_elements(self, simd: Simd, size: int) -> int:
        """How many of ``size`` elements are rounded by adding one half in float32."""
        return size // 8 * 8 if self.rounding == "builtin" and simd.arch != "aarch64" else 0


def _xnnpack(low: Expr, high: Expr) -> Steps:
    spread = high - low
    factor = tirx.Select(spread == _float(0), _float(1), _float(255) / spread)
    # Products that are fused with a sum would give other zero points.
    below, above = rounded(low * factor), rounded(high * factor)
    from_low = (_float(-128) + below) + (_float(127) + above) > _float(0)
    zero = tirx.Select(from_low, _float(-128) - below, _float(127) - above)
    return Steps(factor, even(zero, -128, 127), _float(1) / factor)


def _asymmetric(low: Expr, high: Expr) -> Steps:
    is_flat, double = low == high, "float64"
    scale = tirx.Cast(double, high - low) / tirx.const(255.0, double)
    scale = tirx.Select(is_flat, tirx.const(1.0, double), scale)
    below, above = tirx.Cast(double, low) / scale, tirx.Cast(double, high) / scale
    least, most = tirx.const(-128.0, double), tirx.const(127.0, double)
    from_low = tirx.abs(below) - least < most + tirx.abs(above)
    zero = away(tirx.Select(from_low, least - below, most - above))
    zero = tirx.Cast("int32", tirx.max(tirx.min(zero, most), least))
    zero = tirx.Select(is_flat, tirx.const(0, "int32"), zero)
    single = tirx.Cast("float32", scale)
    factor = tirx.Cast("float32", tirx.const(1.0, double) / tirx.Cast(double, single))
    return Steps(factor, zero, single)


def _symmetric(low: Expr, high: Expr) -> Steps:
    spread = tirx.max(-low, high)
    is_flat = spread == _float(0)
    factor = tirx.Select(is_flat, _float(1), _float(127) / spread)
    scale = tirx.Select(is_flat, _float(1), spread / _float(127))
    return Steps(factor, tirx.const(0, "int32"), scale)


def _fused_last(total: Expr, scale: Expr, weight_scale: Expr, bias: Expr, _four: Expr) -> Expr:
    return fused(total * scale, weight_scale, bias)


def _apart(total: Expr, scale: Expr, weight_scale: Expr, bias: Expr, _four: Expr) -> Expr:
    return rounded(total * (scale * weight_scale)) + bias


def _fused(total: Expr, scale: Expr, weight_scale: Expr, bias: Expr, _four: Expr) -> Expr:
    return fused(total, scale * weight_scale, bias)


def _weights_first(total: Expr, scale: Expr, weight_scale: Expr, bias: Expr, _four: Expr) -> Expr:
    return rounded(total * weight_scale * scale) + bias


def _one_by_one(total: Expr, scale: Expr, weight_scale: Expr, bias: Expr, four: Expr) -> Expr:
    value = rounded(total * weight_scale * scale)
    if isinstance(four, bool):
        return value + bias
    return tirx.Select(four, value, rounded(total * scale * weight_scale)) + bias


RULES = {
    "xnn_qd8_fused": Rule(_xnnpack, _fused_last, "even"),
    "xnn_qd8_fused_rows": Rule(_xnnpack, _fused_last, "even", by_row=True),
    "xnn_qd8": Rule(_xnnpack, _apart, "even"),
    "xnn_qp8": Rule(_xnnpack, _apart, "away", by_row=True),
    "builtin_depthwise": Rule(_asymmetric, _one_by_one, "builtin"),
    "builtin_asymmetric": Rule(_asymmetric, _apart, "builtin"),
    "builtin_symmetric": Rule(_symmetric, _apart, "builtin", least=-127),
    "builtin_asymmetric_rows": Rule(_asymmetric, _apart, "builtin", by_row=True),
    "builtin_symmetric_rows": Rule(_symmetric, _apart, "builtin", by_row=True, least=-127),
    "builtin_asymmetric_rows_fused": Rule(_asymmetric, _fused, "builtin", by_row=True),
    "builtin_symmetric_rows_fused": Rule(_symmetric, _fused, "builtin", by_row=True, least=-127),
    "reference_asymmetric": Rule(_asymmetric, _weights_first, "builtin"),
}
