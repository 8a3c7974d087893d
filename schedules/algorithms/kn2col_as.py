"""``kn2col_as``: kn2row-as with the product pixel by pixel.

Anderson, Vasudevan, Keane and Gregg, "High-Performance Low-Memory Lowering" (arXiv 1709.03395).
The product of one tap transposed: its rows are pixels, ``P[n][h][w][o]``, which is NHWC.

Workspace: the product of one tap, ``N H W M`` elements; 0 for a 1x1 convolution.
"""

from __future__ import annotations

from schedules.algorithms.kn2row_as import Kn2rowAs
from schedules.algorithms.shared.shift_add import Layout
from schedules.kernel.tiles import Tile
from schedules.layer.workload import Conv2dWorkload


class Kn2colAs(Kn2rowAs):
    """Anderson et al., arXiv 1709.03395, one product at a time, pixel by pixel."""

    name = "kn2col_as"

    def layout(self, workload: Conv2dWorkload, tile: Tile) -> Layout:
        return lambda tap, pixel, o: [pixel, o]
