"""By which rule TFLite computes a hybrid layer: float elements, int8 weights.

That depends on the processor, as XNNPACK has other kernels for each; and it leaves depthwise layers
to TFLite. csrc/layer/hybrid/hybrid_layer.c knows the same.
"""

from __future__ import annotations

from dataclasses import replace

from schedules.layer.network import DENSE, DEPTHWISE, Layer
from schedules.layer.workload import Conv2dWorkload
from schedules.target.cores import I8MM
from schedules.target.simd import Simd
from tflite_delegate.read.model import Model


def dot_kernels(simd: Simd) -> str:
    """What XNNPACK multiplies int8 with: ``none`` of its own, ``dotprod`` or ``i8mm``."""
    if simd.arch != "aarch64" or "dotprod" not in simd.features:
        return "none"
    return "i8mm" if I8MM in simd.features else "dotprod"


def for_processor(model: Model, simd: Simd) -> Model:
    """``model`` whose hybrid layers are computed as TFLite does on ``simd``."""
    layers = tuple(_for_processor(layer, simd) for layer in model.layers)
    others = tuple(for_processor(other, simd) for other in model.others)
    return replace(model, layers=layers, others=others)


def _for_processor(layer: Layer, simd: Simd) -> Layer:
    if layer.workload is None or not layer.workload.is_dynamic:
        return layer
    # What a pad in front has padded is an image to TFLite.
    is_image = layer.nodes[0] < layer.index
    rule = dynamic_rule(layer.workload, layer.kind, simd, is_image)
    return replace(layer, workload=replace(layer.workload, rounding=rule))


def dynamic_rule(
    workload: Conv2dWorkload, kind: str, simd: Simd, is_padded_before: bool = False
) -> str:
    """The rule of a whole layer, one of ``DYNAMIC_ROUNDINGS``."""
    if kind == DEPTHWISE:
        fast = simd.arch == "aarch64" and _is_fast_depthwise(workload, is_padded_before)
        return "builtin_asymmetric" if fast else "builtin_depthwise"
    kernels, several = dot_kernels(simd), workload.in_channels + workload.out_channels > 2
    if kind == DENSE or (workload.is_pointwise and workload.groups == 1 and several):
        return "xnn_qd8_fused_rows" if kernels == "none" else "xnn_qp8"
    is_pixel = workload.out_height == workload.out_width == 1
    return "xnn_qd8" if kernels == "dotprod" and not is_pixel else "xnn_qd8_fused"


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
