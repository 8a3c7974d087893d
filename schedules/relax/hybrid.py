"""Layers of floats with int8 weights in Relax: calls, as those of quantised layers are.

A hybrid layer's image is quantised by its range, as the rule says, and its products are of
integers. Other layers' products are of floats: of the image's, and of the weights' times their
scales.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from tvm import relax, te, tirx

from schedules.kernel.epilogue import activate
from schedules.kernel.hybrid import Rule
from schedules.layer.network import DENSE
from schedules.layer.workload import Conv2dWorkload
from schedules.lower.exact import away, rounded
from schedules.relax.quantised import KIND, WORKLOAD, own_pixel, sums_of_products
from schedules.target.simd import Simd


def hybrid_layer(
    builder: relax.BlockBuilder,
    kind: str,
    workload: Conv2dWorkload,
    x: relax.Expr,
    weights: np.ndarray,
    bias: np.ndarray,
    scales: np.ndarray,
    simd: Simd,
) -> relax.Call:
    """A call that computes a layer of floats by int8 weights.

    Parameters
    ----------
    kind : {"conv", "depthwise", "dense"}
    x : expression
        NHWC; of a fully-connected layer a matrix, as is its result.
    weights, bias, scales : arrays
        Weights OHWI; float32 of shape (M,) each.
    simd : Simd
        The processor whose kernels of TFLite say how elements are rounded.
    """

    def compute(x: te.Tensor, weights: te.Tensor, bias: te.Tensor, scales: te.Tensor) -> te.Tensor:
        totals = (_by_range if workload.is_dynamic else _of_floats)(
            workload, simd, x, weights, bias, scales
        )

        def element(*index: Any) -> Any:
            return activate(totals(*own_pixel(kind, index)), workload.activation, workload.dtype)

        shape = workload.output_shape
        return te.compute(shape[2:] if kind == DENSE else shape, element, name="element")

    return builder.call_te(
        compute,
        x,
        *map(relax.const, (weights, bias, scales)),
        primfunc_name_hint=f"hybrid_{kind}",
        primfunc_attrs={KIND: kind, WORKLOAD: workload.to_text()},
    )


def _pixel(x: te.Tensor, *index: Any) -> Any:
    """An element of the image, which is a matrix if the layer is fully connected."""
    return x(*index[4 - len(x.shape) :])


def _of_floats(
    workload: Conv2dWorkload,
    _simd: Simd,
    x: te.Tensor,
    weights: te.Tensor,
    bias: te.Tensor,
    scales: te.Tensor,
) -> te.Tensor:
    def weight(m: Any, *tap: Any) -> Any:
        return weights(m, *tap).astype("float32") * scales(m)

    sums = sums_of_products(workload, lambda *index: _pixel(x, *index), weight)
    return te.compute(sums.shape, lambda *i: sums(*i) + bias(i[-1]), name="total")


def _by_range(
    workload: Conv2dWorkload,
    simd: Simd,
    x: te.Tensor,
    weights: te.Tensor,
    bias: te.Tensor,
    scales: te.Tensor,
) -> te.Tensor:
    rule, (batch, height, width, channels) = Rule.of(workload), workload.input_shape
    outer: tuple[int, ...] = (batch,)
    inner: tuple[int, ...] = (height, width, channels)
    if rule.by_row:
        outer, inner = (batch, height, width), (channels,)

    def end(reduce: Any, name: str) -> te.Tensor:
        axes = [te.reduce_axis((0, size)) for size in inner]
        return te.compute(
            outer, lambda *place: reduce(_pixel(x, *place, *axes), axis=axes), name=name
        )

    ends = end(te.min, "least"), end(te.max, "most")

    def step(name: str) -> te.Tensor:
        def value(*place: Any) -> Any:
            low, high = tirx.min(ends[0](*place), 0.0), tirx.max(ends[1](*place), 0.0)
            return getattr(rule.steps(low, high), name)

        return te.compute(outer, value, name=name)

    factors, zeros, steps = (step(name) for name in ("factor", "zero", "scale"))
    size = math.prod(inner)
    added = rule.rounded_elements(simd, size)

    def code(*index: Any) -> Any:
        place, rest = index[: len(outer)], index[len(outer) :]
        inside = rest[0] if rule.by_row else (rest[0] * width + rest[1]) * channels + rest[2]
        value = rounded(_pixel(x, *index) * factors(*place))
        zero = tirx.Cast("int32", zeros(*place))
        code = _rounded(rule, value, inside, added) + zero
        return tirx.max(tirx.min(code, 127), rule.least) - zero

    codes = te.compute(workload.input_shape, code, name="codes")
    sums = sums_of_products(workload, codes, lambda *tap: weights(*tap).astype("int32"))
    whole = workload.out_channels // 4 * 4

    def total(*index: Any) -> Any:
        m, scale = index[-1], steps(*index[: len(outer)])
        value = tirx.Cast("float32", sums(*index))
        return rule.dequantise(value, scale, scales(m), bias(m), m < whole)

    return te.compute(workload.output_shape, total, name="total")


def _rounded(rule: Rule, value: Any, place: Any, added: int) -> Any:
    """The nearest int32; of the first elements, so many, after adding one half in float32."""
    if rule.rounding == "even":
        return tirx.Cast("int32", tirx.nearbyint(value))
    whole = tirx.Cast("int32", away(value))
    if not added:
        return whole
    half = tirx.const(0.5, "float32")
    moved = value + tirx.Select(value < 0.0, -half, half)
    return tirx.Select(place < added, tirx.Cast("int32", moved), whole)
