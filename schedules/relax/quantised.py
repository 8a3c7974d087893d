"""Quantised layers in Relax: a call that says all about one layer, exact even without our kernels.

Relax has no operator that says by which rule sums of integers are rounded. So a layer is a call of
a function of TensorIR that computes it, one element after the other, with what the layer is among
its attributes. The pass puts a kernel in the call's place; where no kernel can be, TVM compiles the
function, and the results are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from tvm import relax, te, tirx

from schedules.kernel.hybrid.scales import ChannelScales
from schedules.kernel.quantised.quantisation import Quantisation
from schedules.layer.network import DENSE
from schedules.layer.workload import Conv2dWorkload
from schedules.relax.rounding import element_of

KIND, WORKLOAD, _NUMBERS = (f"leanconv.{name}" for name in ("kind", "workload", "quantisation"))


@dataclass(frozen=True)
class QuantisedCall:
    """A layer as a call has it; weights are OHWI, the bias int32, or float32 beside scales.

    Of one with weights in Winograd's domain, both are float32, and nothing is quantised.
    """

    kind: str
    workload: Conv2dWorkload
    input: Any
    weights: np.ndarray
    bias: np.ndarray
    quantisation: Quantisation | ChannelScales | None


def quantised_layer(
    builder: relax.BlockBuilder,
    kind: str,
    workload: Conv2dWorkload,
    x: relax.Expr,
    weights: np.ndarray,
    bias: np.ndarray,
    quantisation: Quantisation,
) -> relax.Call:
    """A call that computes a quantised layer.

    Parameters
    ----------
    kind : {"conv", "depthwise", "dense"}
    x : expression
        NHWC; of a fully-connected layer a matrix, as is its result.
    weights, bias : arrays
        Weights OHWI in the layer's ``weight_dtype``, and int32 of shape (M,).
    """
    own = quantisation
    attributes = {
        KIND: kind,
        WORKLOAD: workload.to_text(),
        _NUMBERS: list(own.numbers),
    }

    def compute(x: te.Tensor, weights: te.Tensor, bias: te.Tensor, *ratios: te.Tensor) -> te.Tensor:
        def value(*index: Any) -> Any:
            return x[index[4 - len(x.shape) :]].astype("int32") - own.input_zero

        def weight(*tap: Any) -> Any:
            return weights[tap].astype("int32") - own.weight_zero

        sums = sums_of_products(workload, value, weight)

        def element(*index: Any) -> Any:
            total = sums[own_pixel(kind, index)] + bias[index[-1]]
            ratio = [values[index[-1]] for values in ratios]
            return element_of(workload, total, ratio, own, index[-1])

        shape = workload.output_shape
        return te.compute(shape[2:] if kind == DENSE else shape, element, name="element")

    # Without its type, float64 would become float32.
    arrays = (weights, bias, *own.ratios)
    constants = [relax.const(values, str(values.dtype)) for values in arrays]
    return builder.call_te(
        compute, x, *constants, primfunc_name_hint=f"quantised_{kind}", primfunc_attrs=attributes
    )


def quantised_call(call: Any, functions: Mapping[str, Any]) -> QuantisedCall | None:
    """The layer that ``call`` computes; ``None`` if it calls no such one of ``functions``."""
    is_call = isinstance(call, relax.Call) and isinstance(call.op, tvm.ir.Op)
    if not is_call or call.op.name != "relax.call_tir":
        return None
    attributes = getattr(functions.get(call.args[0].name_hint), "attrs", None) or {}
    if WORKLOAD not in attributes:
        return None
    x, *constants = call.args[1].fields
    weights, bias, *ratios = (constant.value.numpy() for constant in constants)
    workload = Conv2dWorkload.from_text(str(attributes[WORKLOAD]))
    quantisation: Quantisation | ChannelScales | None = None
    if _NUMBERS in attributes:
        x_zero, w_zero, zero, low, high = map(int, attributes[_NUMBERS])
        quantisation = Quantisation(tuple(ratios), x_zero, w_zero, zero, low, high)
    elif workload.domain is None:
        quantisation = ChannelScales(*ratios)
    return QuantisedCall(str(attributes[KIND]), workload, x, weights, bias, quantisation)


def own_pixel(kind: str, index: tuple[Any, ...]) -> tuple[Any, ...]:
    """The index into an NHWC tensor of a layer's own; a matrix is one row of an image."""
    return (0, 0, *index) if kind == DENSE else index


def sums_of_products(
    workload: Conv2dWorkload, value: Callable[..., Any], weight: Callable[..., Any]
) -> te.Tensor:
    """Sums of products; what is outside of the image is zero.

    ``value`` takes the indices of an element of the image, ``weight`` those of OHWI weights.
    """
    w = workload
    group_in, group_out = w.in_channels // w.groups, w.out_channels // w.groups
    kh = te.reduce_axis((0, w.kernel_height), "kh")
    kw = te.reduce_axis((0, w.kernel_width), "kw")
    c = te.reduce_axis((0, group_in), "c")

    def product(n: Any, y: Any, z: Any, m: Any) -> Any:
        row = y * w.stride_height + kh * w.dilation_height - w.pad_top
        column = z * w.stride_width + kw * w.dilation_width - w.pad_left
        element = value(n, row, column, m // group_out * group_in + c)
        if w.is_padded:
            inside = tirx.all(row >= 0, row < w.in_height, column >= 0, column < w.in_width)
            element = tirx.if_then_else(inside, element, tirx.const(0, str(element.ty.dtype)))
        return element * weight(m, kh, kw, c)

    return te.compute(
        w.output_shape, lambda *index: te.sum(product(*index), axis=[kh, kw, c]), name="sums"
    )
