"""The named choices of ``fused_block``, and which to take untuned.

Register tiles are those of :mod:`schedules.kernel.tiles` for what one block of channels leaves of
each layer. Of several blocks, strips trade rows of E that are computed twice for work that threads
can share; of one, threads share row blocks, and the image is one strip. Row blocks and blocks of
channels trade memory for passes over the weights and over the sums.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

from schedules.algorithms.fused_block.strips import Strips
from schedules.kernel import depthwise_tiles, tiles
from schedules.kernel.costs import Work, moves, reads
from schedules.kernel.depthwise_tiles import PAIRED, SINGLE
from schedules.kernel.knobs import Knob, Knobs, always, by_name, never
from schedules.kernel.loop_nests import LoopNest, channel_block_nest, depthwise_nest
from schedules.kernel.patches import Taps
from schedules.kernel.tiles import Product, Tile
from schedules.layer.block import Block
from schedules.layer.words import in_words
from schedules.target.simd import Simd

#: At most this part of a block's work is done again so that there is a strip for each core.
MAX_RECOMPUTED = 0.08


@lru_cache(maxsize=64)
def knobs(
    block: Block, simd: Simd, strips: Strips, chosen_products: str | None = None
) -> Mapping[str, Knob]:
    """Every knob, by name; tiles of the product before and behind have names of their own.

    Defaults are ``strips`` and the best tiles for them, with ``chosen_products`` if that is given.
    """
    products = product_forms(strips, simd)
    rows, columns = depthwise_tile(strips, simd, chosen_products or products[0])
    height = strips.depthwise.out_height
    c_sizes = c_blocks(block, simd)

    def is_tile(rows: int, columns: int) -> bool:
        alone = rows == 1 or shares_rows(strips)
        return alone and depthwise_tiles.fits(
            strips.depthwise, simd, rows, columns, chosen_products or products[0]
        )

    choices = by_name(
        Knob(
            "strip_rows",
            tuple(range(1, _whole_pairs(height) + 1)),
            strips.strip_rows,
            tried=lambda *cut: cut in cuts_in_cache(block, simd),
            beside=("row_block", "c_block"),
        ),
        Knob("row_block", tuple(range(1, height + 1)), strips.row_block),
        Knob("c_block", c_sizes, strips.c_block),
        Knob("depthwise_rows", (1, 2, 3), rows, tried=is_tile, beside=("depthwise_columns",)),
        Knob("depthwise_columns", tuple(range(1, 9)), columns),
    )
    if strips.depthwise.is_quantised:
        choices |= by_name(Knob("products", products, products[0], tried=never))
    matrices = [("project_", strips.projection, projection_tile(strips, simd))]
    if strips.producer is not None:
        matrices.append(("expand_", strips.producer, producer_tile(strips, simd)))
    for prefix, layer, tile in matrices:
        product = Product(in_words(layer), Taps.in_image(layer, simd), layer.out_width)
        choices |= tiles.knobs(product, simd, tile, prefix)
        # Threads share the strips: whatever the order.
        choices |= by_name(replace(choices[f"{prefix}order"], tried=always))
    return choices


@lru_cache(maxsize=64)
def cuts_in_cache(block: Block, simd: Simd) -> frozenset[tuple[int, int, int]]:
    """Strips, row blocks and blocks of channels whose workspace stays in the L2 cache."""
    return frozenset(
        (way.strip_rows, way.row_block, way.c_block)
        for way in candidates(block, simd)
        if way.workspace_bytes <= simd.l2_bytes
    )


def misfit(block: Block, chosen: Knobs) -> str | None:
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


def loop_nests(block: Block, simd: Simd, chosen: Knobs) -> list[LoopNest]:
    """The loops of each layer."""
    *producers, depthwise, projection = block.layers
    size, tile = chosen["c_block"], product_tiles(block, chosen)
    return [
        *(
            channel_block_nest(layer, layer.in_channels, size, simd, tile["expand"])
            for layer in producers
        ),
        depthwise_nest(depthwise, simd, chosen["depthwise_rows"], chosen["depthwise_columns"]),
        channel_block_nest(projection, size, projection.out_channels, simd, tile["project"]),
    ]


def c_blocks(block: Block, simd: Simd) -> tuple[int, ...]:
    """Numbers of channels that divide them all, in whole vectors unless they are all.

    All, where sums are wider than the output, so that they cannot be summed in place.
    """
    channels, lanes = block.layers[-2].in_channels, simd.lanes(block.dtype)
    if block.layers[-1].is_quantised:
        return (channels,)
    divisors = (size for size in range(lanes, channels, lanes) if channels % size == 0)
    return (*divisors, channels)


def producer_tile(strips: Strips, simd: Simd) -> Tile:
    """The cheapest tile of the first layer for the output channels of a block."""
    assert strips.producer is not None
    layer = replace(strips.producer, out_channels=strips.c_block)
    return tiles.default_tile(in_words(layer), simd, Taps.in_image(layer, simd), layer.out_width)


def projection_tile(strips: Strips, simd: Simd) -> Tile:
    """The cheapest tile of the last layer for the input channels of a block."""
    layer = replace(strips.projection, in_channels=strips.c_block)
    return tiles.default_tile(in_words(layer), simd, Taps.of(layer, simd), layer.out_width)


def product_forms(strips: Strips, simd: Simd) -> tuple[str, ...]:
    """Values of the knob ``products`` as ``depthwise`` has it, the default first.

    Rows of the image itself are masked one by one, those of E are all there.
    """
    can_pair = strips.producer is not None and depthwise_tiles.can_pair(strips.depthwise, simd)
    return (PAIRED, SINGLE) if can_pair else (SINGLE,)


def depthwise_tile(strips: Strips, simd: Simd, products: str = SINGLE) -> tuple[int, int]:
    """Rows and columns of the depthwise layer's tile: of those that fit, the cheapest.

    Two rows share what they read of E unless a stride lies between them. Those of the image are
    masked one by one.
    """
    layer, two = strips.depthwise, shares_rows(strips) and strips.row_block % 2 == 0
    shapes = [
        (rows, columns)
        for rows in ((1, 2) if two else (1,))
        for columns in range(1, 9)
        if (rows, columns) == (1, 1) or depthwise_tiles.fits(layer, simd, rows, columns, products)
    ]
    return min(shapes, key=lambda shape: depthwise_tiles.cost(layer, *shape))


def shares_rows(strips: Strips) -> bool:
    """Whether two rows side by side in the depthwise layer's output read the same rows of E."""
    return strips.producer is not None and strips.depthwise.stride_height == 1


def strips_for(block: Block, simd: Simd, fixed: Knobs) -> Strips:
    """The default strips, or those that ``fixed`` names, if they fit together."""
    strips = default_strips(block, simd)
    names = ("strip_rows", "row_block", "c_block")
    named = [fixed.get(name, getattr(strips, name)) for name in names]
    chosen = Strips(block, *named)
    return chosen if chosen.strip_rows % chosen.row_block == 0 else strips


def trades(block: Block, simd: Simd) -> list[Knobs]:
    """The fastest strips of each size of the workspace that is no faster than a smaller one."""
    height = block.layers[-2].out_height
    ways = [
        Strips(block, strip_rows, row_block, size)
        for strip_rows in range(1, _whole_pairs(height) + 1)
        for row_block in range(1, strip_rows + 1)
        if strip_rows % row_block == 0
        for size in c_blocks(block, simd)
    ]
    sizes = list(zip((way.workspace_bytes for way in ways), _costs(ways, simd), strict=True))
    found: list[Knobs] = []
    least = math.inf
    for place in sorted(range(len(ways)), key=sizes.__getitem__):
        way, (_, seconds) = ways[place], sizes[place]
        if seconds < least:
            least = seconds
            found.append(
                {
                    "strip_rows": way.strip_rows,
                    "row_block": way.row_block,
                    "c_block": way.c_block,
                }
            )
    return found


@lru_cache(maxsize=1024)
def default_strips(block: Block, simd: Simd) -> Strips:
    """The cheapest way to cut ``block``, of those with a strip for each core.

    A quarter of the L2 cache is left for weights, image and output. If the rest is too little for
    any way, it is the one with the smallest workspace.
    """

    def key(strips: Strips) -> tuple[int, bool, float, int]:
        workspace, alone = strips.workspace_bytes, shares_rows(strips) and strips.row_block % 2 > 0
        return max(workspace - simd.l2_bytes * 3 // 4, 0), alone, cost(strips, simd), workspace

    return min(candidates(block, simd), key=key)


def candidates(block: Block, simd: Simd) -> Iterator[Strips]:
    """Ways to cut ``block`` for as many cores as there are without doing too much work again.

    Each core has a strip, or a row block of the one.
    """
    height, channels = block.layers[-2].out_height, block.layers[-2].in_channels
    counts = range(min(simd.cores, height), 0, -1)
    shared = [Strips(block, -(-height // count), 1, channels) for count in counts]
    most = (1 + MAX_RECOMPUTED) * block.macs
    widest = next((strips for strips in shared if strips.macs <= most), shared[-1])
    sizes = [
        size
        for size in c_blocks(block, simd)
        if widest.producer is None
        or size == channels
        or size % producer_tile(replace(widest, c_block=size), simd).panel == 0
    ]
    longest = widest.strip_rows
    if shares_rows(widest) and 1 < longest < height:
        longest = _whole_pairs(longest)
    whole = _whole_pairs(height) if shares_rows(widest) else height
    for row_block, size in itertools.product(range(1, longest + 1), sizes):
        if widest.producer is None:
            # No strip is longer than what D holds: nothing is computed again.
            yield Strips(block, row_block, row_block, size)
            continue
        rows = whole if size == channels else longest
        if rows % row_block == 0:
            yield Strips(block, rows, row_block, size)


def _whole_pairs(rows: int) -> int:
    """At least so many rows, that the depthwise layer's tiles can be two high."""
    return rows + rows % 2


def cost(strips: Strips, simd: Simd) -> float:
    """Modelled time of one thread, in seconds."""
    return sum(work.seconds(simd, strips.block.dtype) for work in stages(strips, simd))


def _costs(ways: Sequence[Strips], simd: Simd) -> list[float]:
    """:func:`cost` of each of many ways to cut one block, of which few numbers differ."""

    def seconds(*works: Work) -> float:
        return sum(work.seconds(simd, ways[0].block.dtype) for work in works)

    layers: dict[int, float] = {}
    again: dict[int, float] = {}
    sums: dict[int, float] = {}
    costs = []
    for way in ways:
        passes = _passes(way, simd)
        if passes not in layers:
            layers[passes] = seconds(*_of_layers(way.block, passes, simd))
        if way.strip_rows not in again:
            again[way.strip_rows] = seconds(_again(way))
        if way.c_block not in sums:
            sums[way.c_block] = seconds(_sums(way, simd))
        costs.append(layers[passes] + again[way.strip_rows] + sums[way.c_block])
    return costs


def stages(strips: Strips, simd: Simd) -> list[Work]:
    """The work of each layer, and that of reading and writing the sums again."""
    layers = _of_layers(strips.block, _passes(strips, simd), simd)
    return [*layers, _again(strips), _sums(strips, simd)]


def _passes(strips: Strips, simd: Simd) -> int:
    """How often the weights are read."""
    passes = strips.count * strips.block.layers[0].batch
    if sum(_weights(strips.block)) // strips.c_blocks > simd.l2_bytes // 2:
        passes *= strips.strip_rows // strips.row_block
    return passes


def _weights(block: Block) -> list[int]:
    """Bytes of each layer's weights, as they are multiplied."""
    return [math.prod(layer.weight_shape) * block.element_bytes for layer in block.layers]


def _of_layers(block: Block, passes: int, simd: Simd) -> list[Work]:
    """The work of each layer whose weights are read so often."""
    weights = _weights(block)
    return [
        Work(layer.macs) + reads(own, passes, simd, beside=sum(weights) - own)
        for layer, own in zip(block.layers, weights, strict=True)
    ]


def _again(strips: Strips) -> Work:
    """What is computed more than once."""
    return Work(strips.macs - strips.block.macs)


def _sums(strips: Strips, simd: Simd) -> Work:
    """Sums that are read and written again."""
    block = strips.block
    size = block.layers[-1].output_bytes
    return moves(strips.moved_elements, simd, block.element_bytes, size)
