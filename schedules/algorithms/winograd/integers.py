"""Winograd's algorithm in integers: exact, so that any rule of rounding is followed to the bit.

The points 0, 1, -1 and infinity of F(2, 3), or 1, -1 and infinity of F(2, 2), make ``B^T`` and
``A^T`` matrices of 0, 1 and -1, and ``G`` one of halves. Weights are transformed by ``2 G`` along
each axis, so that sums are ``2`` or ``4`` times those of the definition: shifting them back loses
nothing.

For F(2x2, 3x3), images of int8 as they are (their zero point is in the bias) and weights of int8::

    |V| <= 2 2 128 = 512        |U| <= 3 3 128 = 1152        int16
    |M|, |A^T M|, |A^T M A| <= 4 9 128 128 C = 589,824 C     int32 up to C = 3640

The last line bounds every partial sum: with the sum and the difference of the points 1 and -1 taken
first, as :mod:`schedules.algorithms.winograd.linear` does, each is, like the result, a sum of at
most 36 products of an element and a weight for each channel, counted with their factors. Layers
of more channels are refused.
"""

from __future__ import annotations

import itertools
import math

from tvm.tirx import Expr

from schedules.kernel import tiles
from schedules.kernel.packing import Matrix
from schedules.kernel.tiles import Product, Tile
from schedules.layer.workload import Conv2dWorkload
from schedules.target.byte_products import spreads
from schedules.target.simd import Simd
from schedules.transforms.cook_toom import Filtering, as_floats, filtering

#: Types of V and U, and of M.
IMAGE, SUMS = "int16", "int32"
#: The m of F(m, r), and the r.
OUTPUTS, MAX_TAPS = 2, 3
#: An element and a weight at most.
LARGEST = 128
#: Multiply-accumulates of 8 bits in the time of one of 16: with one instruction for four words,
#: and where products of 8 bits are added in pairs to 32.
WITH_DOTS, WITHOUT_DOTS = 4.0, 4 / 3
#: Vectors of sums in a register tile at most, and instructions around one.
MOST_SUMS, ROUND_TILE = 20, 12


def unsupported(workload: Conv2dWorkload) -> str | None:
    """``None``, or why a layer of integers is not computed so."""
    if max(workload.kernel_height, workload.kernel_width) > MAX_TAPS:
        return f"kernels of more than {MAX_TAPS} taps have no integers in Winograd's domain"
    most = most_channels(workload)
    if workload.in_channels > most:
        return f"sums over more than {most} channels may pass 32 bits in Winograd's domain"
    return None


def most_channels(workload: Conv2dWorkload) -> int:
    """Input channels whose products never pass 32 bits."""
    sizes = [size for size in (workload.kernel_height, workload.kernel_width) if size > 1]
    factors = (size * scale_of(filtering(OUTPUTS, size)) for size in sizes)
    return (2**31 - 1) // (math.prod(factors) * LARGEST**2)


def scale_of(form: Filtering) -> int:
    """The least number that makes integers of ``G``."""
    rows = as_floats(form.kernel)
    return next(n for n in itertools.count(1) if (rows * n == (rows * n).round()).all())


def whole(form: Filtering) -> Matrix:
    """``G`` in integers."""
    return tuple(map(tuple, (as_floats(form.kernel) * scale_of(form)).tolist()))


def macs_of_bytes(simd: Simd) -> float:
    """Multiply-accumulates of 8 bits in the time of one of 16."""
    return WITHOUT_DOTS if spreads(simd) else WITH_DOTS


def product_tile(product: Product, simd: Simd) -> Tile:
    """The register tile to use untuned: that of floats; on Arm, of fewest instructions.

    A vector of weights serves two of sums, and one of the image as many steps as it has elements:
    five pixels by 16 channels are 20 vectors of sums, five of the image and two of weights.
    """
    layer, depth, pixels = product.workload, product.taps.depth, product.row_pixels
    if not simd.fma_by_element:
        return tiles.default_tile(layer, simd, product.taps, pixels)
    block, lanes = simd.lanes(IMAGE), simd.lanes(SUMS)
    shapes = [
        (columns, panel)
        for panel in range(block, MOST_SUMS * lanes // 2, block)
        for columns in range(1, min(MOST_SUMS * lanes // panel, pixels) + 1)
    ]

    def cost(shape: tuple[int, int]) -> float:
        columns, panel = shape
        whole, rest = divmod(pixels, columns)
        counts = [columns] * whole + [rest] * (rest > 0)
        # Weights load in pairs; sums are set to zero and stored.
        steps = (n * panel / lanes + panel / block / 2 + n / block for n in counts)
        return -(-layer.out_channels // panel) * (
            depth * sum(steps) + 2 * pixels * panel / lanes + ROUND_TILE * len(counts)
        )

    columns, panel = min(shapes, key=cost)
    order = tiles.default_order(layer, simd, pixels, columns, panel)
    return Tile(columns, panel, min(block, depth), order)


def unscaled(value: Expr, rows: Filtering, columns: Filtering) -> Expr:
    """A sum of the definition, of one with weights that are :func:`whole`."""
    scale = scale_of(rows) * scale_of(columns)
    return value >> (scale.bit_length() - 1) if scale > 1 else value
