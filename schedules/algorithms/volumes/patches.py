"""Patches where they lie in a volume, an ``(N, D H, W C)`` tensor.

Output pixels are arranged in the rows of all output images, one behind the other, and taps in the
rows of all images of the kernel. Each row of either is that of an image, and in it.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm.tirx import Expr

from schedules.kernel.patches import ImagePatches, inside
from schedules.layer.volume import Conv3dWorkload


@dataclass(frozen=True)
class VolumePatches(ImagePatches):
    """A patch matrix of rows of rows; ``workload`` is :meth:`Conv3dWorkload.as_rows`."""

    volume: Conv3dWorkload | None = None

    @property
    def layer(self) -> Conv3dWorkload:
        """What the rows are those of."""
        assert self.volume is not None, "patches of no volume"
        return self.volume

    def row(self, h: Expr, kh: Expr) -> Expr:
        """Row of the stack of images under a tap; another image's where it is masked."""
        depth = self._depth(h, kh)
        return depth * self.layer.in_height + self._height(h, kh)

    def row_mask(self, h: Expr, kh: Expr) -> list[Expr]:
        layer = self.layer
        rows, taps = layer.out_depth * layer.out_height, layer.kernel_depth * layer.kernel_height
        deepest, lowest = self._depth(rows - 1, taps - 1), self._height(rows - 1, taps - 1)
        depth = inside(self._depth(h, kh), layer.pad_front > 0, deepest, layer.in_depth)
        height = inside(self._height(h, kh), layer.pad_top > 0, lowest, layer.in_height)
        return depth + height

    def _depth(self, h: Expr, kh: Expr) -> Expr:
        """The image of the input that a tap reads."""
        layer = self.layer
        image, tap = h // layer.out_height, kh // layer.kernel_height
        return image * layer.stride_depth + tap * layer.dilation_depth - layer.pad_front

    def _height(self, h: Expr, kh: Expr) -> Expr:
        """The row of that image."""
        layer = self.layer
        row, tap = h % layer.out_height, kh % layer.kernel_height
        return row * layer.stride_height + tap * layer.dilation_height - layer.pad_top
