"""The patch matrix: one row for each output pixel, one column for each kernel tap and channel.

It is described, not necessarily stored: :class:`ImagePatches` reads its elements where they lie in
the input, :class:`GatheredPatches` from a buffer that :func:`gather` has filled. The micro-kernel
takes either. Elements beyond the border are zero; a *mask* is the list of conditions under which an
element is not.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from tvm import te, tirx
from tvm.tirx import Expr

from schedules.kernel.packing import PackedWeights
from schedules.layer.workload import Conv2dWorkload
from schedules.target.simd import Simd


def masked(mask: Sequence[Expr], value: Expr, dtype: str) -> Expr:
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
    flat: bool = False

    def axes(self) -> tuple[tirx.IterVar, tirx.IterVar, tirx.IterVar]:
        """The loops as the reduction axes ``kh``, ``kw`` and ``c``."""
        sizes = {"kh": self.rows, "kw": self.columns, "c": self.depth}
        kh, kw, c = (te.reduce_axis((0, size), name=name) for name, size in sizes.items())
        return kh, kw, c

    @classmethod
    def of(cls, workload: Conv2dWorkload, simd: Simd) -> Taps:
        """The loops for ``workload`` on ``simd``."""
        _, height, width, channels = workload.weight_shape
        few = channels < simd.lanes(workload.dtype)
        contiguous = workload.dilation_width == 1 and workload.in_pitch == channels
        if few and width > 1 and contiguous:
            return cls(height, 1, width * channels, flat=True)
        return cls(height, width, channels)


@dataclass(frozen=True)
class Patches(ABC):
    """A patch matrix whose rows are arranged as ``shape = (batch, rows, columns)`` of pixels.

    Register tiles are ``tile_columns`` pixels wide.
    """

    workload: Conv2dWorkload
    source: te.Tensor
    taps: Taps
    tile_columns: int = 1

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int, int]:
        """Batch, rows and columns of the output pixels."""

    @property
    def columns(self) -> int:
        """How far ``w`` runs: the pixels of a row, rounded up to whole tiles."""
        return -(-self.shape[2] // self.tile_columns) * self.tile_columns

    def row_mask(self, h: Expr, kh: Expr) -> list[Expr]:
        """Conditions that depend on the pixel's row and the kernel's row alone."""
        return []

    def column_mask(self, w: Expr, kw: Expr, c: Expr) -> list[Expr]:
        """The other conditions. ``w`` runs to the end of the last tile."""
        return _inside(w, False, self.columns - 1, self.shape[2])

    @abstractmethod
    def element(self, n: Expr, h: Expr, w: Expr, kh: Expr, kw: Expr, c: Expr) -> Expr:
        """The element, where the masks hold."""


class ImagePatches(Patches):
    """Patches where they lie in the input, an ``(N, H, W pitch)`` tensor."""

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.workload.output_shape[:3]

    def row(self, h: Expr, kh: Expr) -> Expr:
        """Image row under a tap; beyond the image where it is masked."""
        layer = self.workload
        return h * layer.stride_height + kh * layer.dilation_height - layer.pad_top

    def column(self, w: Expr, kw: Expr) -> Expr:
        """Image column under a tap; beyond the image where it is masked."""
        layer = self.workload
        return w * layer.stride_width + kw * layer.dilation_width - layer.pad_left

    def row_mask(self, h: Expr, kh: Expr) -> list[Expr]:
        layer = self.workload
        last = self.row(layer.out_height - 1, layer.kernel_height - 1)
        return _inside(self.row(h, kh), layer.pad_top > 0, last, layer.in_height)

    def column_mask(self, w: Expr, kw: Expr, c: Expr) -> list[Expr]:
        layer = self.workload
        last = self.column(self.columns - 1, layer.kernel_width - 1)
        tap = c // layer.in_channels if self.taps.flat else kw
        return _inside(self.column(w, tap), layer.pad_left > 0, last, layer.in_width)

    def element(self, n: Expr, h: Expr, w: Expr, kh: Expr, kw: Expr, c: Expr) -> Expr:
        # Flat taps: kw is 0, and c runs over the columns from there on.
        return self.source[n, self.row(h, kh), self.column_offset(w, kw) + c]

    def column_offset(self, w: Expr, kw: Expr) -> Expr:
        """First element of the tap in its image row."""
        return self.column(w, kw) * self.workload.in_pitch


def _inside(position: Expr, can_precede: bool, last: int, size: int) -> list[Expr]:
    """Only those bounds of ``0 <= position < size`` that can fail."""
    return [position >= 0] * can_precede + [position < size] * (last >= size)


class GatheredPatches(Patches):
    """Patches in a buffer ``(N H' W', K_h, K_w, C)``: one long row of pixels."""

    @property
    def shape(self) -> tuple[int, int, int]:
        return (1, 1, self.workload.pixels)

    def element(self, n: Expr, h: Expr, w: Expr, kh: Expr, kw: Expr, c: Expr) -> Expr:
        return self.source[w, kh, kw, c]


def gather(workload: Conv2dWorkload, image: te.Tensor, taps: Taps) -> te.Tensor:
    """Store the patch matrix: block ``P`` of shape ``(N H' W', K_h, K_w, C)``."""
    batch, height, width, _ = workload.output_shape
    source = ImagePatches(workload, image, taps)

    def element(pixel: Expr, kh: Expr, kw: Expr, c: Expr) -> Expr:
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
        te.placeholder(packed.shape, packed.dtype, name="W"),
        te.placeholder((packed.bias_elements,), workload.dtype, name="B"),
    )
