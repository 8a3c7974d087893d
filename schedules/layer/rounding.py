"""How sums of integers become elements again: rules by name.

A sum of products of integers stands for a real number in steps of ``s_x s_w``, the output counts in
steps of ``s_y``. What multiplies by the ratio and rounds differs between runtimes, operators and
processors, and single steps grow through a network; so each rule is computed exactly as by the
runtime that it is named after:

``xnn_fp32``
    XNNPACK: the ratio as a float32, the product with the sum as float32 rounded half to even.
``xnn_rndnu``, ``xnn_rndnu_wrapping``
    XNNPACK on Arm: a multiplier of 24 bits, one rounding, ties up. Ratios of a half and more first
    shift the sum to the left, saturating in 32 bits or, in depthwise kernels, wrapping.
``xnn_rndnu16``
    XNNPACK on Cortex-A53 and A55: sums of 16 bits times a multiplier of 15, two roundings.
``double``, ``double_up``
    TFLite: a multiplier of 31 bits and two roundings: ties up, then away from zero or up again.
``depthwise_int8``
    TFLite's vectors of eight channels by ``double_up``, the channels that are left by ``double``.
``single``
    TFLite on Arm, where the product is rounded once, ties up.
``real64``
    TFLite's reference: the ratio and the product in float64, ties away from zero.
"""

from __future__ import annotations

from collections.abc import Mapping

#: Rule -> element types of the arrays that hold the ratios, an element for each output channel:
#: ratios as they are, or mantissas of 31 (15) bits and the powers of two that go with them.
ROUNDINGS: Mapping[str, tuple[str, ...]] = {
    "xnn_fp32": ("float32",),
    "xnn_rndnu": ("int32", "int32"),
    "xnn_rndnu_wrapping": ("int32", "int32"),
    "xnn_rndnu16": ("int32", "int32"),
    "double": ("int32", "int32"),
    "double_up": ("int32", "int32"),
    "depthwise_int8": ("int32", "int32"),
    "single": ("int32", "int32"),
    "real64": ("float64",),
}

#: How a kernel quantises a float image by its range, and what it makes of the sums;
#: :mod:`schedules.kernel.hybrid` has the arithmetic.
DYNAMIC_ROUNDINGS = (
    "xnn_qd8_fused",
    "xnn_qd8_fused_rows",
    "xnn_qd8",
    "xnn_qp8",
    "builtin_depthwise",
    "builtin_asymmetric",
    "builtin_symmetric",
    "builtin_asymmetric_rows",
    "builtin_symmetric_rows",
    "builtin_asymmetric_rows_fused",
    "builtin_symmetric_rows_fused",
    "reference_asymmetric",
)
