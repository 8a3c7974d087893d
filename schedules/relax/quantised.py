"""Quantised layers in Relax: a call that says all about one layer, exact even without our kernels.

Relax has no operator that says by which rule sums of integers are rounded. So a layer is a call of
a function of TensorIR that computes it, one element after the other, with what the layer is among
its attributes. The pass puts a kernel in the call's place; where no kernel can be, TVM compiles the
function, and the results are the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from tvm import relax, te, tirx

from schedules.kernel.quantised.quantisation import Quantisation
from schedules.layer.network import DENSE
from schedules.layer.workload import Conv2dWorkload
from schedules.relax.rounding import element_of

_KIND, _WORKLOAD, _NUMBERS = (f"leanconv.{name}" for name in ("kind", "workload", "quantisation"))


@dataclass(frozen=True)
class QuantisedCall:
    """A layer as a call has it; weights are OHWI, the bias int32."""

    kind: str
    workload: Conv2dWorkload
    input: Any
    weights: np.ndarray
    bias: np.ndarray
    quantisation: Quantisation


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
        _KIND: kind,
        _WORKLOAD: workload.to_text(),
        _NUMBERS: list(own.numbers),
    }

    def compute(x: te.Tensor, weights: te.Tensor, bias: te.Tensor, *ratios: te.Tensor) -> te.Tensor:
        sums = _sums(workload, x, weights, own)

        def element(*index: Any) -> Any:
            total = sums[_pixel(kind, index)] + bias[index[-1]]
            ratio = [values[index[-1]] for values in ratios]
            return element_of(workload, total, ratio, own)

        shape = workload.output_shape
        return te.compute(shape[2:] if kind == DENSE else shape, element, name="element")

    constants = [relax.const(values) for values in (weights, bias, *own.ratios)]
    return builder.call_te(
        compute, x, *constants, primfunc_name_hint=f"quantised_{kind}", primfunc_attrs=attributes
    )


def quantised_call(call: Any, functions: Mapping[str, Any]) -> QuantisedCall | None:
    """The layer that ``call`` computes; ``None`` if it calls no such one of ``functions``."""
    is_call = isinstance(call, relax.Call) and isinstance(call.op, tvm.ir.Op)
    if not is_call or call.op.name != "relax.call_tir":
        return None
    attributes = getattr(functions.get(call.args[0].name_hint), "attrs", None) or {}
    if _WORKLOAD not in attributes:
        return None
    x, weights, bias, *ratios = call.args[1].fields
    return QuantisedCall(
        str(attributes[_KIND]),
        Conv2dWorkload.from_text(str(attributes[_WORKLOAD])),
        x,
        weights.value.numpy(),
        bias.value.numpy(),
        Quantisation(
            tuple(ratio.value.numpy() for ratio in ratios), *map(int, attributes[_NUMBERS])
        ),
    )


def _pixel(kind: str, index: tuple[Any, ...]) -> tuple[Any, ...]:
    """The index into an NHWC tensor of a layer's own; a matrix is one row of an image."""
    return (0, 0, *index) if kind == DENSE else index


def _sums(
    workload: Conv2dWorkload, x: te.Tensor, weights: te.Tensor, own: Quantisation
) -> te.Tensor:
    """Sums of products, int32; what is outside of the image is zero."""
    w = workload
    group_in, group_out = w.in_channels // w.groups, w.out_channels // w.groups
    kh = te.reduce_axis((0, w.kernel_height), "kh")
    kw = te.reduce_axis((0, w.kernel_width), "kw")
    c = te.reduce_axis((0, group_in), "c")

    def product(n: Any, y: Any, z: Any, m: Any) -> Any:
        row = y * w.stride_height + kh * w.dilation_height - w.pad_top
        column = z * w.stride_width + kw * w.dilation_width - w.pad_left
        index = (n, row, column, m // group_out * group_in + c)
        value = x[index[4 - len(x.shape) :]].astype("int32") - own.input_zero
        if w.is_padded:
            inside = tirx.all(row >= 0, row < w.in_height, column >= 0, column < w.in_width)
            value = tirx.if_then_else(inside, value, 0)
        return value * (weights[m, kh, kw, c].astype("int32") - own.weight_zero)

    return te.compute(
        w.output_shape, lambda *index: te.sum(product(*index), axis=[kh, kw, c]), name="sums"
    )
