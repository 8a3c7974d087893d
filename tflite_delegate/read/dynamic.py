"""By which rule TFLite computes a hybrid layer: float elements, int8 weights.

That depends on the processor, as XNNPACK and TFLite itself have other kernels for each. XNNPACK
leaves depthwise layers to TFLite. csrc/layer/hybrid/hybrid_layer.c knows the same.
"""

from __future__ import annotations

from schedules.layer.network import DENSE, DEPTHWISE
from schedules.layer.workload import Conv2dWorkload
from schedules.target.cores import I8MM
from schedules.target.simd import Simd

#: Products of so many weights TFLite's dot products make one row after the other.
_SMALL = 128 * 128


def dot_kernels(simd: Simd) -> str:
    """What XNNPACK multiplies int8 with: ``none`` of its own, ``dotprod`` or ``i8mm``."""
    if simd.arch != "aarch64" or "dotprod" not in simd.features:
        return "none"
    return "i8mm" if I8MM in simd.features else "dotprod"


def xnnpack_rule(kind: str, workload: Conv2dWorkload, simd: Simd, is_padded: bool = False) -> str:
    """That of TFLite as it is by default.

    ``is_padded`` says that a PAD in front does what ``workload`` pads.
    """
    kernels = dot_kernels(simd)
    if kind == DEPTHWISE:
        return builtin_rule(kind, workload, simd, is_padded)
    several = workload.in_channels + workload.out_channels > 2
    if kind == DENSE or (workload.is_pointwise and workload.groups == 1 and several):
        return "xnn_qd8_fused_rows" if kernels == "none" else "xnn_qp8"
    is_pixel = workload.out_height == workload.out_width == 1
    return "xnn_qd8" if kernels == "dotprod" and not is_pixel else "xnn_qd8_fused"


def builtin_rule(kind: str, workload: Conv2dWorkload, simd: Simd, is_padded: bool = False) -> str:
    """That of TFLite's own kernels for a processor; ``workload`` has the one that it was read by.

    ``is_padded`` is as of :func:`xnnpack_rule`.
    """
    is_arm = simd.arch == "aarch64"
    if kind == DEPTHWISE:
        is_fast = is_arm and _is_fast_depthwise(workload, is_padded)
        return "builtin_asymmetric" if is_fast else "builtin_depthwise"
    is_fused = kind == DENSE and is_arm and _is_fused(workload, simd)
    return f"{workload.rounding}_fused" if is_fused else workload.rounding


def reference_rule(kind: str, workload: Conv2dWorkload, simd: Simd, is_padded: bool = False) -> str:
    """That of its reference kernels; ``workload`` has the one that it was read by."""
    if kind == DEPTHWISE:
        return "builtin_asymmetric"
    rule = builtin_rule(kind, workload, simd, is_padded)
    return "reference_asymmetric" if rule == "builtin_asymmetric" else rule


def _is_fused(w: Conv2dWorkload, simd: Simd) -> bool:
    """Whether TFLite's matrix product on Arm adds the bias without rounding in between."""
    if dot_kernels(simd) == "none":
        return True
    rows, units = w.pixels, w.out_channels
    is_whole = w.in_channels % 16 == 0 and units % 2 == 0 and units >= rows
    is_large = rows >= 2 and units * w.in_channels >= _SMALL
    return not (is_whole and (rows % 4 == 0 or is_large))


def _is_fast_depthwise(w: Conv2dWorkload, is_padded_before: bool) -> bool:
    """Whether TFLite has a faster kernel on Arm."""
    top, left, stride = w.pad_top, w.pad_left, w.stride_height
    if (w.kernel_height, w.kernel_width, w.dilation_height, w.dilation_width) != (3, 3, 1, 1):
        return False
    if w.out_channels != w.in_channels or w.in_channels % 8 or w.stride_width != stride:
        return False
    if is_padded_before and stride <= 2:
        return True
    if stride > 2 or top != left or top > 1:
        return False
    sizes = ((w.in_height, w.out_height), (w.in_width, w.out_width))
    if any((out - 1) * stride - top + 3 > size + top for size, out in sizes):
        return False
    return top == 0 or 1 not in (w.in_height, w.in_width) or w.in_height == w.in_width
