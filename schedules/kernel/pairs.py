"""Products of matrices of int8: pairs of pixels by pairs of output channels.

One instruction multiplies two rows of eight elements by two others, and adds the four products to
the lanes of a vector. So a row of sums counts pairs of pixels, and along the output channels lanes:
four for each pair of these. The image is staged in vectors of two pixels' eight elements, weights
are words of eight, of which two neighbours fill a vector. In the end the lanes are put in order.
"""

from __future__ import annotations

import math
from dataclasses import replace

from tvm import te
from tvm.tirx import Expr

from schedules.kernel import sharing, tiles
from schedules.kernel.patches import Patches, Taps
from schedules.kernel.tiles import Product, Tile
from schedules.layer.words import PAIR
from schedules.lower.integers import matrix_dot8
from schedules.target.simd import Simd

#: The block of sums in order.
UNPAIRED = "PAIRS"
#: Pairs of pixels, and of output channels, in a register tile: LLVM holds the weights of one step
#: beside the sums. The first takes fewest instructions, if it is full: 1.5 for each of products.
SHAPES = ((2, 8), (4, 4))
#: At most so many steps are unrolled together.
MAX_STEPS = 4


def paired(product: Product) -> Product:
    """``product``, of words, whose pixels are pairs, and whose output channels are lanes."""
    layer, taps = product.workload, product.taps
    pixels = -(-product.row_pixels // PAIR)
    lanes = PAIR * layer.out_channels
    workload = replace(layer, in_channels=layer.in_channels // PAIR, out_channels=lanes)
    return Product(workload, replace(taps, depth=taps.depth // PAIR), pixels)


def paired_tile(product: Product, simd: Simd) -> Tile:
    """The tile to use untuned for a :func:`paired` product: of :data:`SHAPES`, fewest products.

    With the panel outermost, where the image stays in the L2 cache, its ratios stay in registers:
    a pointwise layer of 128 channels takes .98 of the instructions.
    """
    layer, lanes = product.workload, simd.lanes(product.workload.dtype)

    def cost(shape: tuple[int, int]) -> int:
        return -(-layer.out_channels // (shape[1] * lanes)) * shape[1]

    pixels, channels = min(SHAPES, key=cost)
    columns, panel = min(pixels, product.row_pixels), channels * lanes
    k_block = steps_at_once(product.taps)
    order = tiles.default_order(layer, simd, product.row_pixels, columns, panel)
    is_shared = sharing.shared_evenly(-(-layer.out_channels // panel), simd)
    if is_shared and tiles.stay_in_l2(PAIR * layer.input_bytes, simd):
        order = "panels,rows,columns"
    return Tile(columns, panel, k_block, order)


def steps_at_once(taps: Taps) -> int:
    """Steps of a block: as many equal ones of whole vectors as there may be."""
    whole = vector_words(PAIR * taps.depth) // PAIR
    return max(n for n in range(whole, MAX_STEPS + 1, whole) if taps.depth % n == 0)


def vector_words(words: int) -> int:
    """Words of a pixel in one load of so many: those of two steps, if these come in twos."""
    return math.gcd(words, PAIR * PAIR)


def pair_elements(patches: Patches, name: str) -> te.Tensor:
    """Block ``name``: words of pairs of pixels, by ``(…, K_h, K_w, vector, pixel, word)``."""
    batch, rows, _ = patches.shape
    taps = patches.taps
    size = vector_words(taps.depth)

    def element(
        n: Expr, h: Expr, w: Expr, kh: Expr, kw: Expr, vector: Expr, pixel: Expr, place: Expr
    ) -> Expr:
        return patches.masked_element(n, h, PAIR * w + pixel, kh, kw, size * vector + place)

    columns = patches.columns // PAIR
    shape = (batch, rows, columns, taps.rows, taps.columns, taps.depth // size, PAIR, size)
    return te.compute(shape, element, name=name)


def pair_product(
    weight: Expr, elements: te.Tensor, tap: tuple[Expr, ...], step: Expr, o: Expr, dtype: str
) -> Expr:
    """What one step adds to lane ``o``: with ``elements`` of the pair of pixels at ``tap``."""
    size = int(elements.shape[-1])
    word = PAIR * step + o % PAIR
    place = (word // size, o % (PAIR * PAIR) // PAIR, word % size)
    return matrix_dot8(weight, elements(*tap, *place), dtype)


def pixel_of(pair: Expr, lane: Expr) -> Expr:
    """The pixel of a lane of a pair's sums."""
    return PAIR * pair + lane % (PAIR * PAIR) // PAIR


def channel_of(lane: Expr) -> Expr:
    """The output channel of a lane of sums."""
    return lane // (PAIR * PAIR) * PAIR + lane % PAIR


def unpaired(sums: te.Tensor) -> te.Tensor:
    """Block :data:`UNPAIRED`: sums of pixels and output channels, of lanes of their pairs."""
    batch, rows, pairs, lanes = sums.shape
    both = PAIR * PAIR

    def one(n: Expr, h: Expr, w: Expr, o: Expr) -> Expr:
        return sums[n, h, w // PAIR, o // PAIR * both + w % PAIR * PAIR + o % PAIR]

    return te.compute((batch, rows, PAIR * pairs, lanes // PAIR), one, name=UNPAIRED)
