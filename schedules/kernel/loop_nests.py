"""What a cost model knows of the loops in which a kernel spends its time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

from schedules.kernel import depthwise_tiles, tiles
from schedules.kernel.patches import Taps
from schedules.kernel.tiles import Product, Tile
from schedules.layer.workload import Conv2dWorkload
from schedules.target.simd import Simd


@dataclass(frozen=True)
class LoopNest:
    """Loops in register tiles, over pixels and output channels.

    ``slots`` are the modelled issue slots of all of it, ``registers`` the vectors that a tile needs
    at once, ``…_used`` the part of all tiles that is not beyond the end, ``panel_bytes`` and
    ``patch_bytes`` the weights and the image elements of one tile.
    """

    slots: float
    sums: int
    registers: int
    pixels_used: float
    channels_used: float
    panel_bytes: int
    patch_bytes: int


@lru_cache(maxsize=65536)
def product_nest(product: Product, macs: int, simd: Simd, tile: Tile) -> LoopNest:
    """As many rows of ``product`` in tiles as make up ``macs``."""
    layer, pixels = product.workload, product.row_pixels
    vectors = tile.panel // tile.lanes(simd, layer.dtype)
    channels = -(-layer.out_channels // tile.panel) * tile.panel
    rows = macs / (pixels * layer.reduction * layer.out_channels)
    slots = tiles.tile_cost(layer, simd, product.taps, pixels, tile.columns, tile.panel)
    return LoopNest(
        rows * slots,
        tile.columns * vectors,
        tile.columns * vectors + tile.columns + vectors,
        pixels / tile.rounded(pixels),
        layer.out_channels / channels,
        layer.reduction * tile.panel * layer.element_bytes,
        layer.reduction * tile.columns * layer.element_bytes,
    )


def channel_block_nest(
    layer: Conv2dWorkload, in_channels: int, out_channels: int, simd: Simd, tile: Tile
) -> LoopNest:
    """A dense layer, row by row, in blocks of its channels."""
    block = replace(layer, in_channels=in_channels, out_channels=out_channels)
    product = Product(block, Taps.of(block, simd), block.out_width)
    return product_nest(product, layer.macs, simd, tile)


@lru_cache(maxsize=65536)
def depthwise_nest(layer: Conv2dWorkload, simd: Simd, rows: int, columns: int) -> LoopNest:
    """A depthwise layer in tiles of one vector of channels."""
    lanes = depthwise_tiles.vector_lanes(layer, simd)
    vectors = -(-layer.out_channels // lanes)
    covered = -(-layer.out_height // rows) * rows * -(-layer.out_width // columns) * columns
    taps = layer.kernel_height * layer.kernel_width
    image_rows = depthwise_tiles.window(
        rows, layer.kernel_height, layer.stride_height, layer.dilation_height
    )
    return LoopNest(
        vectors * depthwise_tiles.cost(layer, rows, columns),
        rows * columns,
        depthwise_tiles.registers(layer, simd, rows, columns),
        layer.out_height * layer.out_width / covered,
        layer.out_channels / (vectors * lanes),
        taps * simd.vector_bytes,
        len({*image_rows}) * layer.in_width * simd.vector_bytes,
    )
