"""The patch matrix: one row for each output pixel, one column for each kernel tap and channel.

It is described, not necessarily stored: :class:`ImagePatches` reads its elements where they lie in
the input, :class:`GatheredPatches` from a buffer that :func:`gather` has filled. The micro-kernel
takes either. Elements beyond the border are zero; a *mask* is the list of conditions under which an
element is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tvm import te, tirx

from schedules.kernel.packing import PackedWeights
from schedules.layer.workload import Conv2dWorkload
from schedules.target.simd import Simd


def masked(mask: Sequence[tirx.Expr], value: tirx.Expr, dtype: str) -> tirx.Expr:
    """``value`` where every condition of ``mask`` holds, else zero."""
    if not mask:
        return value
    return tirx.if_then_else(tirx.all(*mask), value, tirx.const(0, dtype))


@dataclass(frozen=True)
class Taps:
    """The columns of the patch matrix as three loops: kernel rows, kernel columns, channels.

    ``flat`` taps have all kernel columns of a row in ``depth``: ``K_w C`` contiguous elements of
    the image. With few channels, as in a network's first layer, vectors would else be mostly empty.
    """

    rows: int
    columns: int
    depth: int
    flat: bool

    @classmethod
    def of(cls, workload: Conv2dWorkload, simd: Simd) -> Taps:
        """The loops for ``workload`` on ``simd``."""
        _, height, width, channels = workload.weight_shape
        few = channels < simd.lanes(workload.dtype)
        contiguous = workload.dilation_width == 1 and workload.in_pitch == channels
        if few and width > 1 and contiguous:
            return cls(height, 1, width * channels, flat=True)
        return cls(height, width, channels, flat=False)


class Patches(Protocol):
    """A patch matrix whose rows are arranged as ``shape = (batch, rows, columns)`` of pixels."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Batch, rows and columns of the output pixels."""

    @property
    def taps(self) -> Taps:
        """The columns of the matrix."""

    def row_mask(self, h: tirx.Expr, kh: tirx.Expr) -> list[tirx.Expr]:
        """Conditions that depend on the pixel's row and the kernel's row alone."""

    def column_mask(self, w: tirx.Expr, kw: tirx.Expr, c: tirx.Expr) -> list[tirx.Expr]:
        """The other conditions. ``w`` may run beyond ``shape`` to the end of the last tile."""

    def element(
        self, n: tirx.Expr, h: tirx.Expr, w: tirx.Expr, kh: tirx.Expr, kw: tirx.Expr, c: tirx.Expr
    ) -> tirx.Expr:
        """The element, where the masks hold."""


@dataclass(frozen=True)
class ImagePatches:
    """Patches where they lie in the input, an ``(N, H, W pitch)`` tensor.

    ``columns`` is how far ``w`` runs: the output's width rounded up to whole tiles.
    """

    workload: Conv2dWorkload
    image: te.Tensor
    taps: Taps
    columns: int

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.workload.output_shape[:3]

    def _row(self, h: tirx.Expr, kh: tirx.Expr) -> tirx.Expr:
        layer = self.workload
        return h * layer.stride_height + kh * layer.dilation_height - layer.pad_top

    def column(self, w: tirx.Expr, kw: tirx.Expr) -> tirx.Expr:
        """Image column under a tap; beyond the image where it is masked."""
        layer = self.workload
        return w * layer.stride_width + kw * layer.dilation_width - layer.pad_left

    def row_mask(self, h: tirx.Expr, kh: tirx.Expr) -> list[tirx.Expr]:
        layer = self.workload
        last = self._row(layer.out_height - 1, layer.kernel_height - 1)
        return _inside(self._row(h, kh), layer.pad_top > 0, last, layer.in_height)

    def column_mask(self, w: tirx.Expr, kw: tirx.Expr, c: tirx.Expr) -> list[tirx.Expr]:
        layer = self.workload
        last = self.column(self.columns - 1, layer.kernel_width - 1)
        tap = c // layer.in_channels if self.taps.flat else kw
        return _inside(self.column(w, tap), layer.pad_left > 0, last, layer.in_width)

    def element(
        self, n: tirx.Expr, h: tirx.Expr, w: tirx.Expr, kh: tirx.Expr, kw: tirx.Expr, c: tirx.Expr
    ) -> tirx.Expr:
        # Flat taps: kw is 0, and c runs over the columns from there on.
        return self.image[n, self._row(h, kh), self.column_offset(w, kw) + c]

    def column_offset(self, w: tirx.Expr, kw: tirx.Expr) -> tirx.Expr:
        """First element of the tap in its image row."""
        return self.column(w, kw) * self.workload.in_pitch


def _inside(position: tirx.Expr, can_precede: bool, last: int, size: int) -> list[tirx.Expr]:
    """Only those bounds of ``0 <= position < size`` that can fail."""
    return [position >= 0] * can_precede + [position < size] * (last >= size)


@dataclass(frozen=True)
class GatheredPatches:
    """Patches in a buffer ``(N H' W', K_h, K_w, C)``: one long row of pixels.

    ``columns`` is how far ``w`` runs: the number of pixels rounded up to whole tiles.
    """

    buffer: te.Tensor
    taps: Taps
    columns: int

    @property
    def shape(self) -> tuple[int, int, int]:
        return (1, 1, int(self.buffer.shape[0]))

    def row_mask(self, h: tirx.Expr, kh: tirx.Expr) -> list[tirx.Expr]:
        return []

    def column_mask(self, w: tirx.Expr, kw: tirx.Expr, c: tirx.Expr) -> list[tirx.Expr]:
        return _inside(w, False, self.columns - 1, self.shape[2])

    def element(
        self, n: tirx.Expr, h: tirx.Expr, w: tirx.Expr, kh: tirx.Expr, kw: tirx.Expr, c: tirx.Expr
    ) -> tirx.Expr:
        return self.buffer[w, kh, kw, c]


def gather(workload: Conv2dWorkload, image: te.Tensor, taps: Taps) -> te.Tensor:
    """Store the patch matrix: block ``P`` of shape ``(N H' W', K_h, K_w, C)``."""
    batch, height, width, _ = workload.output_shape
    source = ImagePatches(workload, image, taps, width)

    def element(pixel: tirx.Expr, kh: tirx.Expr, kw: tirx.Expr, c: tirx.Expr) -> tirx.Expr:
        n, h, w = pixel // (height * width), pixel // width % height, pixel % width
        mask = source.row_mask(h, kh) + source.column_mask(w, kw, c)
        return masked(mask, source.element(n, h, w, kh, kw, c), workload.dtype)

    shape = (batch * height * width, taps.rows, taps.columns, taps.depth)
    return te.compute(shape, element, name="P")


def placeholders(
    workload: Conv2dWorkload, packed: PackedWeights
) -> tuple[te.Tensor, te.Tensor, te.Tensor]:
    """Input ``(N, H, W pitch)``, packed weights, and bias: the kernel's arguments X, W and B."""
    batch, height, width, _ = workload.input_shape
    return (
        te.placeholder((batch, height, width * workload.in_pitch), workload.dtype, name="X"),
        te.placeholder(packed.shape, workload.dtype, name="W"),
        te.placeholder((packed.bias_elements,), workload.dtype, name="B"),
    )
