"""``kn2col``: kn2row with the product pixel by pixel.

Vasudevan, Anderson and Gregg, "Parallel Multi Channel Convolution using General Matrix
Multiplication" (ASAP 2017, arXiv 1704.04428). The product of kn2row transposed: it has K_h K_w M
columns, so that all that one pixel yields stands together, ``P[n][h][w][kh][kw][o]``. A pixel is
read once for all taps.

Workspace: the product, ``N H W K_h K_w M`` elements; 0 for a 1x1 convolution.
"""

from __future__ import annotations

from schedules.algorithms.kn2row import Kn2row
from schedules.algorithms.shared.shift_add import Layout
from schedules.kernel.tiles import Tile
from schedules.layer.workload import Conv2dWorkload


class Kn2col(Kn2row):
    """Vasudevan et al., ASAP 2017, the product pixel by pixel."""

    name = "kn2col"

    orders = ("columns,rows,panels", "columns,panels,rows")

    def layout(self, workload: Conv2dWorkload, tile: Tile) -> Layout:
        return lambda tap, pixel, o: [pixel, tap, o]
