"""Register tiles: which fit, what they cost, and which to take untuned."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import product as pairs
from itertools import takewhile
from typing import Any

from schedules.kernel import sharing
from schedules.kernel.knobs import Knob, by_name
from schedules.kernel.patches import Taps, image_loads, takes_every_register, weight_registers
from schedules.layer.workload import Conv2dWorkload
from schedules.target.simd import Simd

#: Tile loops come in one of these orders, outermost first. The pixels of a tile stay in a cache
#: across panels; or a panel does across tiles, of one image row or of the whole image.
ORDERS = ("rows,columns,panels", "rows,panels,columns", "panels,rows,columns")


@dataclass(frozen=True)
class Tile:
    """The knobs of the micro-kernel.

    Parameters
    ----------
    columns : int
        Output pixels of a register tile, side by side in one image row.
    panel : int
        Output channels of a register tile: a multiple of :func:`vector_lanes`.
    k_block : int
        Reduction steps unrolled together; on targets with a multiply-add by element, also the
        elements of one image load.
    order : str
        One of :data:`ORDERS`.
    """

    columns: int
    panel: int
    k_block: int
    order: str

    def rounded(self, pixels: int) -> int:
        """``pixels`` rounded up to whole tiles."""
        return -(-pixels // self.columns) * self.columns

    def lanes(self, simd: Simd, dtype: str) -> int:
        """Output channels of one vector of the panel."""
        return panel_lanes(simd, dtype, self.panel)

    @classmethod
    def of(cls, knobs: Mapping[str, Any]) -> Tile:
        """The tile in an algorithm's knobs."""
        return cls(**{name: knobs[name] for name in cls.__dataclass_fields__})


@dataclass(frozen=True)
class Product:
    """The matrix product that register tiles compute.

    Parameters
    ----------
    workload : Conv2dWorkload
        Its rows are the pixels, its columns the output channels.
    taps : Taps
        The loops of its sums.
    row_pixels : int
        Pixels side by side that tiles divide.
    """

    workload: Conv2dWorkload
    taps: Taps
    row_pixels: int


#: A panel has at most so many vectors of channels: these hide the latency for a single pixel, and
#: panels are left for threads to share.
MAX_VECTORS = 8
#: Where scalars are broadcast from memory, a tile has at most so many vectors of sums. These hide
#: the latency of the multiply-adds (4 or 5 cycles on two pipes) without holding back the next tile;
#: more were 2 to 20 % slower.
MAX_BROADCAST_SUMS = 16
#: Where scalars are broadcast from memory, a tile has at most so many pixels: the rows of eight lie
#: a power of two apart and compete for the same cache sets.
MAX_BROADCAST_COLUMNS = 7
MAX_COLUMNS_SIDE_BY_SIDE = 9
#: Elements of such an equal block at most; and with more in one, registers spill in large tiles.
MAX_EQUAL_BLOCK = 12
#: Words of several columns that fill no vectors are equal blocks of so many at most: a 3x3 layer of
#: 40 channels takes .72 of the instructions that it takes in vectors and a rest on a Cortex-A76.
MAX_WORD_BLOCK = 14
#: Pixels of a tile of flat taps at most: the elements of a block lie in several vectors.
MAX_FLAT_COLUMNS = 5
#: At most so many reduction steps of a kernel row are unrolled together; with more, border tiles
#: spill.
MAX_UNROLLED_STEPS = 56
#: Time of a layer whose panels are held in registers, of that in which they are loaded for each
#: tile: at 129x129x8->48 on a Zen 4, measured.
HELD = 0.65
#: Instructions around a vector of sums: of floats; of words, by outputs that are stored at once.
FINISHED, REQUANTISED = 4, {16: 7, 8: 8, 4: 12}
#: A search tries tiles of at least so many vectors of sums, where there are as many. They keep the
#: multiply-add pipes half busy: a multiply-add takes 4 cycles, and there are 2 pipes.
MIN_SUMS = 4


def vector_lanes(simd: Simd, dtype: str) -> int:
    """Output channels of the shortest vectors that waste no time.

    A core that loads two vectors in the time of a multiply-add takes a full vector in two halves:
    two multiply-adds of half the lanes take no longer.
    """
    lanes = simd.lanes(dtype)
    return lanes // 2 if simd.loads_per_fma > 1 else lanes


def panel_lanes(simd: Simd, dtype: str, panel: int) -> int:
    """Output channels of one vector of a panel: all lanes where that fills the panel, else half."""
    return math.gcd(panel, simd.lanes(dtype))


def fits_registers(
    workload: Conv2dWorkload, simd: Simd, taps: Taps, columns: int, panel: int
) -> bool:
    """Whether a tile of ``columns`` pixels by ``panel`` channels avoids spills."""
    lanes = simd.lanes(workload.dtype)
    vectors = panel // panel_lanes(simd, workload.dtype, panel)
    sums = columns * vectors
    if vectors > MAX_VECTORS:
        return False
    if not simd.fma_by_element:
        most = MAX_COLUMNS_SIDE_BY_SIDE if taps.side_by_side else MAX_BROADCAST_COLUMNS
        if columns > most or columns * panel > MAX_BROADCAST_SUMS * lanes:
            return False
        return sums + vectors + 3 <= simd.vector_registers
    # One vector a pixel for the image, one a vector of weights, and what LLVM's scheduler takes to
    # load ahead: more for in-order cores, and for blocks of code in which taps share elements.
    if taps.flat and columns > MAX_FLAT_COLUMNS:
        return False
    if taps.flat:
        # Of shared taps, a pixel's vector is about as much as is under way.
        is_short = taps.depth <= MAX_EQUAL_BLOCK or (taps.shared and not simd.in_order)
        spare = 3 if is_short else 8
    elif taps.depth < lanes:
        spare = 14
    elif simd.in_order or taps.depth % lanes:
        # As many again as pixels, and two, where an in-order core loads them all ahead.
        # The eight steps of a vector of float16 load more.
        most = 17 if lanes > 4 else columns + 2
        spare = max(10, most) if simd.in_order else 10
    else:
        spare = weight_registers(workload, simd, taps, vectors) - vectors
    return sums + columns + vectors + spare <= simd.vector_registers


def stay_in_l2(size: int, simd: Simd) -> bool:
    """Whether ``size`` bytes of weights or image stay in the L2 cache, which both share."""
    return size <= simd.l2_bytes // 2


def panel_streams(workload: Conv2dWorkload, simd: Simd, panel: int) -> bool:
    """Whether weights pass through the L1 cache for every tile, with the image beside them.

    So do all that do not stay in the L2 cache; and long panels of an image that does not stay
    there, for which all panels are read for one tile after another.
    """
    if not stay_in_l2(workload.weight_bytes, simd):
        return True
    panel_bytes = workload.reduction * panel * workload.element_bytes
    return not stay_in_l2(workload.input_bytes, simd) and panel_bytes > simd.l1_bytes // 2


def panel_fetch_slots(workload: Conv2dWorkload, simd: Simd, panel: int) -> float:
    """Issue slots that pass while a tile's panel comes from memory.

    That is where a panel lies that takes more than three quarters of the L2 cache, on cores
    without a third one.
    """
    panel_bytes = workload.reduction * panel * workload.element_bytes
    if simd.l3_bytes or panel_bytes <= simd.l2_bytes * 3 // 4:
        return 0.0
    return simd.fmas * panel_bytes / simd.memory_bandwidth


def tile_cost(
    workload: Conv2dWorkload, simd: Simd, taps: Taps, row_pixels: int, columns: int, panel: int
) -> float:
    """Modelled issue slots for a row of pixels in tiles of ``columns`` by ``panel`` channels.

    With a multiply-add by element, a reduction step costs its instructions: in-order cores issue
    little beside a multiply-add, and the others are as fast with any tile. Elsewhere it takes as
    long as its multiply-adds or its loads, plus a little for every further instruction, most for
    the weights, which come from the L2 cache, or, of the panel of a small one, from memory. The
    last tile of a row computes only the pixels that are there; the last panel is full.
    """
    lanes = simd.lanes(workload.dtype)
    vectors = panel // panel_lanes(simd, workload.dtype, panel)
    full_vectors = panel / lanes
    k_block = default_k_block(workload, simd, taps, columns, vectors)
    streams = panel_streams(workload, simd, panel)
    fetched = panel_fetch_slots(workload, simd, panel)

    def step(pixels: int) -> float:
        sums = pixels * full_vectors
        # A pixel's vector lasts for as many steps, and weights load in pairs; a block of steps ends
        # with four instructions.
        if simd.fma_by_element:
            return sums + image_loads(workload, simd, taps, pixels) + vectors / 2 + 4 / k_block
        # A scalar that is used once is broadcast by the multiply-add itself.
        broadcasts = pixels if vectors > 1 else 0
        if is_in_words(workload):  # which are loaded and changed first
            broadcasts = 3 * pixels
        # Weights that stream take half of the loads' time.
        loads = (pixels + vectors) * (2 if streams else 1)
        slots = max(sums, loads / simd.loads_per_fma)
        return slots + (broadcasts + 4 * full_vectors + 2) / 4

    by_words = simd.fma_by_element and is_in_words(workload)
    finishing = REQUANTISED[math.gcd(panel, 16)] if by_words else FINISHED

    def tile(pixels: int) -> float:
        return workload.reduction * step(pixels) + finishing * pixels * full_vectors + fetched

    (whole, rest), panels = divmod(row_pixels, columns), -(-workload.out_channels // panel)
    return panels * (whole * tile(columns) + (tile(rest) if rest else 0))


@lru_cache(maxsize=8192)
def default_tile(workload: Conv2dWorkload, simd: Simd, taps: Taps, row_pixels: int) -> Tile:
    """The tile to use untuned for rows of ``row_pixels``: the cheapest by :func:`tile_cost`."""
    lanes = vector_lanes(simd, workload.dtype)
    widest = MAX_VECTORS * simd.lanes(workload.dtype)
    shapes = []
    for panel in range(lanes, widest + 1, lanes):
        # If a tile does not fit, no wider one does.
        fit = partial(fits_registers, workload, simd, taps, panel=panel)
        columns_that_fit = takewhile(fit, range(1, simd.vector_registers))
        shapes += [(columns, panel) for columns in columns_that_fit]
    shapes.sort()

    def cost(shape: tuple[int, int]) -> tuple[float, int]:
        return tile_cost(workload, simd, taps, row_pixels, *shape), shape[0] * shape[1]

    columns, panel = min(shapes, key=cost)
    order = default_order(workload, simd, row_pixels, columns, panel)
    vectors = panel // panel_lanes(simd, workload.dtype, panel)
    k_block = default_k_block(workload, simd, taps, columns, vectors)
    return Tile(columns, panel, k_block, order)


def default_order(
    workload: Conv2dWorkload, simd: Simd, row_pixels: int, columns: int, panel: int
) -> str:
    """The order of tiles of ``columns`` pixels by ``panel`` channels that keeps most in cache.

    Few weights stay in the L1 cache while every pixel passes once. Else the order that reads the
    fewest bytes again from beyond the L2 cache: of the image for every panel, of an image row for
    every panel, or of the weights for every row or every tile. If several read none, the panel is
    outermost where there are enough panels for every core, else all panels follow for a tile.
    """
    tile_by_tile, row_by_row, panel_by_panel = ORDERS
    if registers_hold_panel(workload, simd, columns, panel):
        return panel_by_panel
    if workload.weight_bytes <= simd.l1_bytes // 2:
        return tile_by_tile

    def again(size: int, passes: int) -> int:
        return 0 if stay_in_l2(size, simd) else size * (passes - 1)

    rows = max(workload.pixels // row_pixels, 1)
    panels = -(-workload.out_channels // panel)
    row_bytes = workload.input_bytes // rows
    weights = workload.weight_bytes
    bytes_again = {
        panel_by_panel: again(workload.input_bytes, panels),
        tile_by_tile: again(weights, rows * -(-row_pixels // columns)),
        row_by_row: again(weights, rows) + rows * again(row_bytes, panels),
    }
    preferred = panel_by_panel if sharing.shared_evenly(panels, simd) else tile_by_tile
    return min(ORDERS, key=lambda order: (bytes_again[order], order != preferred))


def is_in_words(workload: Conv2dWorkload) -> bool:
    """Whether it is a convolution of words."""
    return workload.dtype == "int32"


def registers_hold_panel(workload: Conv2dWorkload, simd: Simd, columns: int, panel: int) -> bool:
    """Whether LLVM keeps a panel of few weights in registers from one tile of pixels to the next.

    With the panel outermost, that is :data:`HELD` of the time. Not where two panels write parts of
    one cache line, which takes as much again from memory, or where cores would wait for others.
    """
    lanes = simd.lanes(workload.dtype)
    vectors = panel // panel_lanes(simd, workload.dtype, panel)
    if simd.fma_by_element or workload.reduction >= lanes or workload.out_channels % lanes:
        return False
    panels = -(-workload.out_channels // panel)
    is_shared = panels >= HELD * -(-panels // simd.cores) * simd.cores
    return is_shared and (columns + workload.reduction) * vectors + 3 <= simd.vector_registers


def shared_loops(
    workload: Conv2dWorkload, simd: Simd, taps: Taps, tile: Tile, rows: int, columns: int
) -> tuple[str, ...]:
    """The loops whose tiles threads share: :func:`sharing.shared_loops`, of so many tiles."""
    panels = -(-workload.out_channels // tile.panel)
    row_pixels = columns * tile.columns
    slots = rows * tile_cost(workload, simd, taps, row_pixels, tile.columns, tile.panel)
    return sharing.shared_loops(workload, simd, slots, tile.order, (rows, columns, panels))


def shared_items(
    product: Product, simd: Simd, tile: Tile, rows: int, shared: str | None = None
) -> tuple[tuple[str, ...], int]:
    """The loops over tiles of so many rows that threads share, and their iterations in all.

    Or the loop ``shared``, if that is given.
    """
    columns = -(-product.row_pixels // tile.columns)
    layer, taps = product.workload, product.taps
    panels = -(-layer.out_channels // tile.panel)
    names = (shared,) if shared else shared_loops(layer, simd, taps, tile, rows, columns)
    counts = {"rows": rows, "columns": columns, "panels": panels}
    return names, math.prod(counts[name] for name in names)


def default_k_block(
    workload: Conv2dWorkload, simd: Simd, taps: Taps, columns: int, vectors: int
) -> int:
    """Reduction steps to unroll in a tile of ``columns`` pixels by ``vectors`` vectors of channels.

    Where scalars are broadcast, one step, or those of one kernel column of flat taps, for which the
    masks of border tiles are the same. Where a multiply-add takes any lane of a vector of channels,
    flat taps are one block if they are few, else equal blocks, as are words that fill no vectors.
    Others take one vector a block; or several, where registers are left to load them and half of
    the pixels into, unless the core is in-order, which would take more, or steps are of float16.
    They stay a loop: without one, LLVM mixes all of their steps, and spills.
    """
    lanes = simd.lanes(workload.dtype)
    is_few = taps.is_one_block
    if is_few and (simd.fma_by_element or is_in_words(workload)):
        return taps.depth
    if not simd.fma_by_element:
        return workload.in_channels if taps.flat else 1
    if taps.flat:
        return taps.equal_block(MAX_EQUAL_BLOCK)
    leaves_rest = is_in_words(workload) and taps.depth % lanes and taps.columns > 1
    # Of more than two vectors, registers spill.
    if leaves_rest and vectors <= 2 and taps.equal_block(MAX_WORD_BLOCK) > lanes:
        return taps.equal_block(MAX_WORD_BLOCK)
    if taps.depth < lanes or workload.dtype == "float16":
        return lanes if taps.depth >= lanes else 1
    free = simd.vector_registers - (columns * vectors + columns + vectors)
    blocks = [4 * lanes, 2 * lanes]
    if takes_every_register(workload, simd, taps):
        blocks = blocks[free + vectors == weight_registers(workload, simd, taps, vectors) :]
    elif simd.in_order or free < max(3, columns // 2):
        return lanes
    for block in blocks:
        repeats = taps.depth % block == 0 and taps.depth > block
        if repeats and taps.columns * block <= MAX_UNROLLED_STEPS:
            return block
    return lanes


def knobs(
    product: Product, simd: Simd, tile: Tile | None = None, prefix: str = ""
) -> dict[str, Knob]:
    """The micro-kernel's named choices for ``product``, with ``tile`` as their defaults.

    That is :func:`default_tile` unless it is given; names begin with ``prefix``.
    """
    layer, taps = product.workload, product.taps
    tile = tile or default_tile(layer, simd, taps, product.row_pixels)
    lanes = simd.lanes(layer.dtype)
    columns = tuple(range(1, 17))
    panels = tuple(sorted({*(lanes * vectors for vectors in range(1, 7)), tile.panel}))
    # All that a default may be: records outlive it.
    k_blocks = tuple(sorted({1, 2, 4, 8, 16, tile.k_block}))

    def is_divisor(size: int) -> bool:
        # Equal blocks, in whole vectors where these load them. Where scalars are broadcast, a block
        # is a loop that LLVM unrolls as it likes: the untuned choice is enough.
        return simd.fma_by_element and size % lanes == 0 and taps.depth % size == 0

    return by_name(
        Knob(
            f"{prefix}columns",
            columns,
            tile.columns,
            tried=lambda *shape: shape in _promising(product, simd, columns, panels),
            beside=(f"{prefix}panel",),
        ),
        Knob(f"{prefix}panel", panels, tile.panel, feature=lambda panel: panel / lanes),
        Knob(f"{prefix}k_block", k_blocks, tile.k_block, tried=is_divisor),
        Knob(f"{prefix}order", ORDERS, tile.order, feature=order_number),
    )


def order_number(order: str) -> float:
    """An order as a number: what is innermost decides what stays in a cache; the rest, how much."""
    loops = order.split(",")
    return 3.0 * loops.index("panels") + loops.index("rows")


@lru_cache(maxsize=256)
def _promising(
    product: Product, simd: Simd, columns: tuple[int, ...], panels: tuple[int, ...]
) -> frozenset[tuple[int, int]]:
    """Tiles of ``columns`` by ``panels`` that fit, hide the latency and hold no more than is there.

    The pixels of a row, and the output channels.
    """
    layer = product.workload
    lanes = simd.lanes(layer.dtype)
    sums = {
        shape: shape[0] * (shape[1] // panel_lanes(simd, layer.dtype, shape[1]))
        for shape in pairs(columns, panels)
        if fits_registers(layer, simd, product.taps, *shape)
        and shape[0] <= product.row_pixels
        and shape[1] < layer.out_channels + lanes
    }
    enough = min(MIN_SUMS, max(sums.values(), default=0))
    return frozenset(shape for shape, count in sums.items() if count >= enough)
