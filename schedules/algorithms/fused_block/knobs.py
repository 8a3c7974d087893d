"""The named choices of ``fused_block``, and which to take untuned.

Register tiles are those of :mod:`schedules.kernel.tiles` for what one block of channels leaves of
each layer. Strips trade rows of E that are computed twice for work that threads can share; row
blocks and blocks of channels trade memory for passes over the weights and over the sums.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache

from schedules.algorithms.fused_block.strips import Strips
from schedules.kernel import costs, depthwise_tiles, tiles
from schedules.kernel.knobs import Knob, Knobs
from schedules.kernel.patches import Taps
from schedules.kernel.tiles import Tile
from schedules.layer.block import Block
from schedules.target.simd import Simd

#: How much of a block's work may be done again so that there is a strip for each core.
MAX_RECOMPUTED = 0.08


def knobs(block: Block, simd: Simd) -> dict[str, Knob]:
    """Every knob, by name; tiles of the product before and behind have names of their own."""
    strips = default_strips(block, simd)
    rows, columns = depthwise_tile(strips, simd)
    height, channels = strips.depthwise.out_height, strips.channels
    choices = {
        "strip_rows": Knob(tuple(range(1, height + 1)), strips.strip_rows),
        "row_block": Knob(tuple(range(1, height + 1)), strips.row_block),
        "c_block": Knob(c_blocks(channels, simd.lanes(block.dtype)), strips.c_block),
        "depthwise_rows": Knob((1, 2, 3), rows),
        "depthwise_columns": Knob(tuple(range(1, 9)), columns),
        **product_knobs("project", projection_tile(strips, simd), simd, block.dtype),
    }
    if strips.producer is not None:
        choices |= product_knobs("expand", producer_tile(strips, simd), simd, block.dtype)
    return choices


def unfit(block: Block, chosen: Knobs) -> str | None:
    """``None``, or why these knobs do not go together."""
    strips = Strips.of(block, chosen)
    if strips.strip_rows % strips.row_block or strips.row_block % chosen["depthwise_rows"]:
        return "a strip is whole row blocks, and those are whole tiles of the depthwise layer"
    if strips.producer is None:
        if chosen["depthwise_rows"] > 1:
            return "rows of the image are masked one by one"
    elif strips.c_blocks > 1 and strips.c_block % chosen["expand_panel"]:
        return "a block of channels is whole panels of the expanded tensor"
    return None


def product_tiles(block: Block, chosen: Knobs) -> dict[str, Tile]:
    """The register tiles of the products before and behind the depthwise layer."""
    names = ("expand", "project") if len(block.layers) == 3 else ("project",)
    fields = Tile.__dataclass_fields__
    return {name: Tile(**{field: chosen[f"{name}_{field}"] for field in fields}) for name in names}


def product_knobs(name: str, tile: Tile, simd: Simd, dtype: str) -> dict[str, Knob]:
    """The micro-kernel's knobs for the product ``name``."""
    lanes = simd.lanes(dtype)
    panels = {lanes * vectors for vectors in range(1, 7)}
    choices = {
        "columns": Knob(tuple(range(1, 17)), tile.columns),
        "panel": Knob(tuple(sorted({*panels, tile.panel})), tile.panel),
        "k_block": Knob(tuple(sorted({1, 2, 4, 8, tile.k_block})), tile.k_block),
        "order": Knob(tiles.ORDERS, tile.order),
    }
    return {f"{name}_{field}": knob for field, knob in choices.items()}


def c_blocks(channels: int, lanes: int) -> tuple[int, ...]:
    """Numbers of channels that divide them all, in whole vectors unless they are all."""
    divisors = (size for size in range(lanes, channels, lanes) if channels % size == 0)
    return (*divisors, channels)


def producer_tile(strips: Strips, simd: Simd) -> Tile:
    """The cheapest tile of the first layer for the output channels of a block."""
    assert strips.producer is not None
    layer = replace(strips.producer, out_channels=strips.c_block)
    return tiles.default_tile(layer, simd, Taps.of(layer, simd), layer.out_width)


def projection_tile(strips: Strips, simd: Simd) -> Tile:
    """The cheapest tile of the last layer for the input channels of a block."""
    layer = replace(strips.projection, in_channels=strips.c_block)
    return tiles.default_tile(layer, simd, Taps.of(layer, simd), layer.out_width)


def depthwise_tile(strips: Strips, simd: Simd) -> tuple[int, int]:
    """Rows and columns of the depthwise layer's tile: of those that fit, the cheapest.

    Two rows share what they read of E unless a stride lies between them. Those of the image are
    masked one by one.
    """
    layer, two = strips.depthwise, shares_rows(strips) and strips.row_block % 2 == 0
    shapes = [
        (rows, columns)
        for rows in ((1, 2) if two else (1,))
        for columns in range(1, 9)
        if (rows, columns) == (1, 1) or depthwise_tiles.fits(layer, simd, rows, columns)
    ]
    return min(shapes, key=lambda shape: depthwise_tiles.cost(layer, *shape))


def shares_rows(strips: Strips) -> bool:
    """Whether two rows side by side in the depthwise layer's output read the same rows of E."""
    return strips.producer is not None and strips.depthwise.stride_height == 1


@lru_cache(maxsize=1024)
def default_strips(block: Block, simd: Simd) -> Strips:
    """The cheapest way to cut ``block``, of those with a strip for each core.

    A quarter of the L2 cache is left for weights, image and output. If the rest is too little for
    any way, it is the one with the smallest workspace.
    """

    def key(strips: Strips) -> tuple[int, bool, int, int]:
        workspace, alone = strips.workspace_bytes, shares_rows(strips) and strips.row_block % 2 > 0
        return max(workspace - simd.l2_bytes * 3 // 4, 0), alone, cost(strips, simd), workspace

    return min(candidates(block, simd), key=key)


def candidates(block: Block, simd: Simd) -> Iterator[Strips]:
    """Ways to cut ``block`` for as many cores as there are without doing too much work again."""
    height, channels = block.layers[-2].out_height, block.layers[-2].in_channels
    counts = range(min(simd.cores, height), 0, -1)
    shared = [Strips(block, -(-height // count), 1, channels) for count in counts]
    most = (1 + MAX_RECOMPUTED) * block.macs
    widest = next((strips for strips in shared if strips.macs <= most), shared[-1])
    sizes = [
        size
        for size in c_blocks(channels, simd.lanes(block.dtype))
        if widest.producer is None
        or size == channels
        or size % producer_tile(replace(widest, c_block=size), simd).panel == 0
    ]
    longest = widest.strip_rows
    if shares_rows(widest) and 1 < longest < height:
        longest += longest % 2  # so that the depthwise layer's tiles can be of two rows
    for row_block, size in itertools.product(range(1, longest + 1), sizes):
        if widest.producer is None:
            # No strip is longer than what D holds: nothing is computed again.
            yield Strips(block, row_block, row_block, size)
        elif longest % row_block == 0:
            yield Strips(block, longest, row_block, size)


def cost(strips: Strips, simd: Simd) -> int:
    """Modelled time, in multiply-accumulates, as the planner's: :mod:`schedules.kernel.costs`."""
    weights = sum(math.prod(layer.weight_shape) for layer in strips.block.layers)
    block_bytes = weights * strips.block.element_bytes // strips.c_blocks
    passes = strips.count
    if block_bytes > simd.l2_bytes // 2:
        passes *= strips.strip_rows // strips.row_block
    streamed = weights * strips.block.element_bytes > simd.l2_bytes
    return (
        strips.macs
        + costs.MOVE_COST * strips.moved_elements
        + costs.WEIGHT_COST * weights * passes * strips.block.layers[0].batch * streamed
    )
