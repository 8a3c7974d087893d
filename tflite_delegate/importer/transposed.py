"""A transposed convolution in Relax: a sub-pixel convolution, and its pixels spread.

So it is one of the layers that leanconv's kernels compute; TVM spreads the pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tvm import relax

from schedules.layer.workload import Conv2dWorkload
from tflite_delegate.read import upsampling
from tflite_delegate.read.upsampling import Axis


def transposed_convolution(
    x: relax.Expr,
    shape: Sequence[int],
    weights: np.ndarray,
    bias: np.ndarray | None,
    rows: Axis,
    columns: Axis,
) -> relax.Expr:
    """The image that a transposed convolution makes.

    Parameters
    ----------
    x : relax.Expr
        float32 of ``shape``, NHWC.
    weights, bias : ndarray
        float32 constants: OHWI, and (M,) or nothing.
    rows, columns : Axis
        Sizes of kernel, stride, padding and output.
    """
    channels, depth = len(weights), shape[3]
    workload = upsampling.workload((shape[0], shape[1], shape[2], depth), channels, rows, columns)
    image = relax.op.nn.conv2d(
        x,
        relax.const(upsampling.weights(weights, rows, columns)),
        padding=(
            workload.pad_top, workload.pad_left, workload.pad_bottom, workload.pad_right,
        ),
        data_layout="NHWC",
        kernel_layout="OHWI",
    )  # fmt: skip
    if bias is not None:
        image = relax.op.add(image, relax.const(np.tile(bias, rows.stride * columns.stride)))
    return spread_pixels(image, workload, rows, columns)


def spread_pixels(
    image: relax.Expr, workload: Conv2dWorkload, rows: Axis, columns: Axis
) -> relax.Expr:
    """The output of a transposed convolution, of that of its sub-pixel convolution ``workload``."""
    batch, height, width, outputs = workload.output_shape
    channels = outputs // (rows.stride * columns.stride)
    parts = (batch, height, width, rows.stride, columns.stride, channels)
    image = relax.op.permute_dims(relax.op.reshape(image, parts), (0, 1, 3, 2, 4, 5))
    whole = (batch, height * rows.stride, width * columns.stride, channels)
    image = relax.op.reshape(image, whole)
    begin = (rows.crop, columns.crop)
    end = (rows.crop + rows.size, columns.crop + columns.size)
    if (begin, end) == ((0, 0), whole[1:3]):
        return image
    return relax.op.strided_slice(image, (1, 2), begin, end)
