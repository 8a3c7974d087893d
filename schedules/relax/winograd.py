"""Layers with weights in Winograd's domain in Relax: calls, as those of quantised layers are."""

from __future__ import annotations

import numpy as np
from tvm import relax, te, tirx

from schedules.kernel.epilogue import activate
from schedules.layer.network import CONV
from schedules.layer.workload import Conv2dWorkload
from schedules.relax.quantised import KIND, WORKLOAD
from schedules.transforms.cook_toom import as_floats, filtering


def winograd_layer(
    builder: relax.BlockBuilder,
    workload: Conv2dWorkload,
    x: relax.Expr,
    weights: np.ndarray,
    bias: np.ndarray,
) -> relax.Call:
    """A call that computes a layer as it is defined: ``A^T [sum_c U (B^T d B)] A`` of every tile.

    Parameters
    ----------
    x : expression
        NHWC.
    weights, bias : arrays
        float32 (M, n, n, C) and (M,).
    """
    domain = workload.domain
    assert domain is not None
    form = filtering(domain.outputs, workload.kernel_height)
    matrices = [as_floats(matrix).astype(np.float32) for matrix in (form.image, form.output)]

    def compute(
        x: te.Tensor, weights: te.Tensor, bias: te.Tensor, image: te.Tensor, output: te.Tensor
    ) -> te.Tensor:
        w, m, n = workload, form.outputs, form.inputs
        tiles = (w.batch, -(-w.out_height // m), -(-w.out_width // m))
        i, j, a, b = (te.reduce_axis((0, n)) for _ in range(4))
        c = te.reduce_axis((0, w.in_channels))

        def pixel(image_of: tirx.Expr, y: tirx.Expr, z: tirx.Expr, c: tirx.Expr) -> tirx.Expr:
            inside = tirx.all(y >= 0, y < w.in_height, z >= 0, z < w.in_width)
            return tirx.if_then_else(inside, x[image_of, y, z, c], tirx.const(0, w.dtype))

        def transformed(
            k: tirx.Expr, y: tirx.Expr, z: tirx.Expr, p: tirx.Expr, q: tirx.Expr, c: tirx.Expr
        ) -> tirx.Expr:
            place = y * m + i - w.pad_top, z * m + j - w.pad_left
            return te.sum(image[p, i] * image[q, j] * pixel(k, *place, c), axis=[i, j])

        v = te.compute((*tiles, n, n, w.in_channels), transformed, name="V")
        if domain.relu:
            v = te.compute(v.shape, lambda *at: tirx.max(v[at], 0.0), name="positive")
        products = te.compute(
            (*tiles, n, n, w.out_channels),
            lambda k, y, z, p, q, o: te.sum(v[k, y, z, p, q, c] * weights[o, p, q, c], axis=[c]),
            name="M",
        )

        def joined(k: tirx.Expr, y: tirx.Expr, z: tirx.Expr, o: tirx.Expr) -> tirx.Expr:
            factors = output[y % m, a] * output[z % m, b]
            return te.sum(factors * products[k, y // m, z // m, a, b, o], axis=[a, b])

        sums = te.compute(w.output_shape, joined, name="sums")
        return te.compute(
            w.output_shape,
            lambda *at: activate(sums[at] + bias[at[-1]], w.activation, w.dtype),
            name="element",
        )

    return builder.call_te(
        compute,
        x,
        *map(relax.const, (weights, bias, *matrices)),
        primfunc_name_hint="winograd_conv",
        primfunc_attrs={KIND: CONV, WORKLOAD: workload.to_text()},
    )
