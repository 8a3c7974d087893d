"""Register tiles of sums of integers that are not of words: which to take untuned."""

from __future__ import annotations

from dataclasses import replace

from schedules.kernel import tiles
from schedules.kernel.tiles import Product, Tile
from schedules.target.simd import Simd


def spread_tile(product: Product, simd: Simd) -> Tile:
    """The tile to use untuned for sums that are spread over lanes: half of the registers hold them.

    Eight channels, whose outputs are requantised together, by two pixels; or, where that leaves
    fewer lanes empty, four by four, which take 1.04 times as many instructions. Two steps together
    load pairs of vectors, if they stay a loop: else LLVM mixes all steps, and spills.
    """
    layer, lanes = product.workload, simd.lanes(product.workload.dtype)

    def cost(channels: int) -> float:
        panels = -(-layer.out_channels // (channels * lanes))
        return panels * channels * (1 if channels == 8 else 1.04)

    channels = min((8, 4), key=cost)
    columns, panel = min(16 // channels, product.row_pixels), channels * lanes
    k_block = 2 if product.taps.depth > 2 and product.taps.depth % 2 == 0 else 1
    order = tiles.default_order(layer, simd, product.row_pixels, columns, panel)
    return Tile(columns, panel, k_block, order)


def unsigned_tile(product: Product, tile: Tile) -> Tile:
    """A :func:`spread_tile` for an image of uint8: a pixel's sum of elements serves all panels.

    Four steps together where that leaves none: with two, registers spill on a Cortex-A53.
    """
    k_block = 4 if product.taps.depth % 4 == 0 else tile.k_block
    return replace(tile, order=tiles.ORDERS[0], k_block=k_block)


def element_tile(product: Product, simd: Simd) -> Tile:
    """The tile to use untuned for products of single int8 in 16 bits: like :func:`spread_tile`.

    Half of the registers hold sums, of which a vector of channels fills two, and fewer where a
    pixel's elements fill two as well; 16 channels are requantised together. Blocks of a vector of
    elements, or of all flat taps, load the image.
    """
    layer, lanes = product.workload, simd.lanes(product.workload.dtype)
    panel = 2 * lanes if layer.out_channels > lanes else lanes
    taps = product.taps
    k_block = taps.depth if taps.is_one_block else min(lanes, taps.depth)
    registers = simd.vector_registers // 2 if k_block <= lanes else simd.vector_registers * 3 // 8
    columns = min(registers * lanes // (2 * panel), product.row_pixels)
    order = tiles.default_order(layer, simd, product.row_pixels, columns, panel)
    return Tile(columns, panel, k_block, order)
