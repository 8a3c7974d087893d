"""A transposed convolution as an ordinary one of stride 1: the sub-pixel convolution.

Its pixels hold all output pixels that fall between two input pixels (Shi et al., arXiv 1609.07009):
with stride s, output row ``y + crop = s q + i`` is row ``q`` of that convolution and its channels
``(i s_w + j) M`` to ``(i s_w + j + 1) M``, ``j`` likewise the column. Tap ``a`` of its
``T = ceil(K / s)`` taps is tap ``i + s (T - 1 - a)`` of the model's weights, zero where there is
none. ``csrc/kernels/upsampling.h`` does the same at run time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from schedules.errors import LeanconvError
from schedules.layer.workload import Conv2dWorkload


@dataclass(frozen=True)
class Axis:
    """One axis of a transposed convolution.

    Parameters
    ----------
    stride, kernel : int
        Of the transposed convolution.
    taps, before, after : int
        Kernel size and padding of the sub-pixel convolution.
    crop, size : int
        Output pixels of its first pixel that are no output, and the size of the output.
    """

    stride: int
    kernel: int
    taps: int
    before: int
    after: int
    crop: int
    size: int

    @classmethod
    def of(cls, size: int, out: int | None, kernel: int, stride: int, same: bool) -> Axis:
        """The axis of an input of ``size`` pixels and an output of ``out``, by default all.

        TFLite takes its padding from the output, as if that were the input of a convolution.

        Raises
        ------
        LeanconvError
            If such an output does not fit the input.
        """
        exact, whole = size * stride, (size - 1) * stride + kernel
        if out is None:
            out = exact if same else max(exact, whole)
        pixels = -(-out // stride) if same else (out - kernel + stride) // stride
        if out < 1 or pixels != size:
            raise LeanconvError(f"an output of {out} pixels does not fit an input of {size}")
        padding = max(whole - out, 0) // 2 if same else 0
        first, last = padding // stride, (out + padding - 1) // stride
        taps = -(-kernel // stride)
        before, after = taps - 1 - first, last + 1 - size
        if min(before, after) < 0:
            raise LeanconvError(f"an output of {out} pixels does not fit an input of {size}")
        return cls(stride, kernel, taps, before, after, padding % stride, out)


def workload(
    input_shape: tuple[int, int, int, int],
    channels: int,
    rows: Axis,
    columns: Axis,
    activation: str = "none",
) -> Conv2dWorkload:
    """The sub-pixel convolution of an NHWC input to ``channels`` channels."""
    batch, height, width, depth = input_shape
    return Conv2dWorkload(
        in_height=height,
        in_width=width,
        in_channels=depth,
        out_channels=rows.stride * columns.stride * channels,
        kernel_height=rows.taps,
        kernel_width=columns.taps,
        batch=batch,
        pad_top=rows.before,
        pad_bottom=rows.after,
        pad_left=columns.before,
        pad_right=columns.after,
        activation=activation,
    )


def weights(ohwi: np.ndarray, rows: Axis, columns: Axis, zero: int = 0) -> np.ndarray:
    """Weights (M, K_h, K_w, C) as those of the sub-pixel convolution (s_h s_w M, T_h, T_w, C).

    ``zero`` is the zero point of quantised ones.
    """
    channels, _, _, depth = ohwi.shape
    shape = (channels, rows.taps * rows.stride, columns.taps * columns.stride, depth)
    spread = np.full(shape, zero, ohwi.dtype)
    spread[:, : rows.kernel, : columns.kernel] = ohwi
    phases = spread.reshape(
        channels, rows.taps, rows.stride, columns.taps, columns.stride, depth
    ).transpose(2, 4, 0, 1, 3, 5)[:, :, :, ::-1, ::-1]
    return np.ascontiguousarray(phases).reshape(-1, rows.taps, columns.taps, depth)
