"""What a cost model sees of a candidate: numbers that mean the same for every layer.

Knobs as they are, and what they come to for the layer at hand: multiply-accumulates, modelled
instructions, registers, how full tiles are, bytes beside the caches'. Ratios, so that one layer
teaches what holds for another.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from schedules.algorithms import REGISTRY
from schedules.algorithms.fused_block import knobs as fused_knobs
from schedules.algorithms.winograd.domain import Domain
from schedules.kernel import depthwise_tiles, tiles
from schedules.kernel.patches import Taps
from schedules.kernel.tiles import Product, Tile
from schedules.layer.block import Block
from schedules.layer.workload import Conv2dWorkload
from schedules.plan.planner import FUSED_BLOCK, Plan
from schedules.target.simd import Simd
from schedules.tuning.records.candidate import Workload

_ALGORITHMS = (*REGISTRY.names(), FUSED_BLOCK.name)
#: Knobs in vectors.
_CHANNELS = ("panel", "channels", "project_panel", "expand_panel")
_KNOBS = (
    *_CHANNELS,
    *("columns", "k_block", "order", "row_padding", "solution", "weights"),
    *("outputs", "strip", "c_block", "rows", "shared"),
    *("strip_rows", "row_block", "depthwise_rows", "depthwise_columns"),
    *("project_columns", "project_k_block", "project_order"),
    *("expand_columns", "expand_k_block", "expand_order"),
)
#: Knobs that are words.
_WORDS = {
    "shared": depthwise_tiles.SHARED,
    "solution": ("A", "B"),
    "weights": ("packed", "in_place"),
}
#: Knobs of a transform, on which the product depends.
_TRANSFORM = ("outputs", "strip", "c_block")
_TILE = ("sums", "registers", "pixels_used", "channels_used")
_RATIOS = ("macs_ratio", "cost_ratio", "slots_ratio")
_LAYER = (
    *("macs", "pixels", "in_channels", "inner_channels", "out_channels", "reduction"),
    *("kernel_height", "kernel_width", "stride", "dilation", "group_of", "padded", "residual"),
)
_MEMORY = ("workspace", "weights_l2", "input_l2", "output_l2", "panel_l1", "patches_l1")
_SIMD = ("lanes", "vector_registers", "l1", "l2", "loads_per_fma", "in_order", "by_element")
#: What :func:`features` returns, in order.
NAMES = (
    *(f"is_{name}" for name in _ALGORITHMS),
    *_KNOBS,
    *_TILE,
    *_RATIOS,
    *_LAYER,
    *_MEMORY,
    *_SIMD,
)
#: Of a knob that a candidate does not have, or a figure that means nothing for it.
ABSENT = -1.0


@dataclass(frozen=True)
class _Loops:
    """A loop nest in register tiles, over pixels and output channels.

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


def features(plan: Plan, simd: Simd) -> tuple[float, ...]:
    """The numbers :data:`NAMES` of ``plan``."""
    lanes = simd.lanes(plan.layers[0].dtype)
    macs = plan.workload.macs
    nests = list(_loop_nests(plan, simd))
    return (
        *(float(plan.algorithm == name) for name in _ALGORITHMS),
        *(_knob(name, plan.knobs.get(name), lanes) for name in _KNOBS),
        *_tile_features(nests, simd),
        _log_ratio(plan.macs, macs),
        _log_ratio(plan.cost, macs),
        _log_ratio(sum(nest.slots for nest in nests) * lanes, macs) if nests else ABSENT,
        *_layer_features(plan.workload),
        *_memory_features(plan, nests, simd),
        *_simd_features(simd, lanes),
    )


def _knob(name: str, value: Any, lanes: int) -> float:
    """A knob as a number."""
    if value is None:
        return ABSENT
    if name in _CHANNELS:
        return value / lanes
    if name.endswith("order"):
        # What is innermost decides what stays in a cache; the rest, how much of it.
        loops = value.split(",")
        return 3.0 * loops.index("panels") + loops.index("rows")
    return float(_WORDS[name].index(value) if name in _WORDS else value)


def _tile_features(nests: list[_Loops], simd: Simd) -> tuple[float, ...]:
    """Of the loop nest that takes longest."""
    if not nests:
        return (ABSENT,) * len(_TILE)
    nest = max(nests, key=lambda nest: nest.slots)
    used = nest.registers / simd.vector_registers
    return float(nest.sums), used, nest.pixels_used, nest.channels_used


def _memory_features(plan: Plan, nests: list[_Loops], simd: Simd) -> tuple[float, ...]:
    """Logarithms of bytes over those of the cache that they compete for."""
    element = plan.workload.element_bytes
    weights = sum(part.elements for part in plan.parts) * element
    return (
        _log_ratio(plan.workspace_bytes, simd.l2_bytes),
        _log_ratio(weights, simd.l2_bytes),
        _log_ratio(math.prod(plan.workload.input_shape) * element, simd.l2_bytes),
        _log_ratio(math.prod(plan.workload.output_shape) * element, simd.l2_bytes),
        _log_ratio(max((nest.panel_bytes for nest in nests), default=0), simd.l1_bytes),
        _log_ratio(max((nest.patch_bytes for nest in nests), default=0), simd.l1_bytes),
    )


@lru_cache(maxsize=1024)
def _layer_features(workload: Workload) -> tuple[float, ...]:
    """Of a block, those of its layers taken together: it maps an input to an output as well."""
    layers = workload.layers if isinstance(workload, Block) else (workload,)
    outputs = math.prod(workload.output_shape)
    numbers = (
        *(workload.macs, outputs // workload.output_shape[3], workload.input_shape[3]),
        *(max(layer.in_channels for layer in layers), workload.output_shape[3]),
        *(workload.macs / outputs, max(layer.kernel_height for layer in layers)),
        *(max(layer.kernel_width for layer in layers),),
        *(math.prod(layer.stride_height for layer in layers),),
        *(max(layer.dilation_height for layer in layers), layers[0].group_of),
    )
    padded = any(layer.is_padded for layer in layers)
    return *map(math.log2, numbers), float(padded), float(workload.residual)


@lru_cache(maxsize=64)
def _simd_features(simd: Simd, lanes: int) -> tuple[float, ...]:
    """Of the board: the same for every candidate of one model."""
    return (
        *(float(lanes), float(simd.vector_registers)),
        *(math.log2(simd.l1_bytes), math.log2(simd.l2_bytes), float(simd.loads_per_fma)),
        *(float(simd.in_order), float(simd.fma_by_element)),
    )


def _log_ratio(value: float, base: float) -> float:
    """log2, of zero as of a thousandth."""
    return math.log2(max(value / base, 1e-3))


def _loop_nests(plan: Plan, simd: Simd) -> Iterator[_Loops]:
    """Those in which ``plan`` spends its time; of dot products, none."""
    workload, knobs = plan.workload, plan.knobs
    if isinstance(workload, Block):
        *producers, depthwise, projection = workload.layers
        products = fused_knobs.product_tiles(workload, knobs)
        size = knobs["c_block"]
        for layer in producers:
            block = _block_product(layer, simd, layer.in_channels, size)
            yield _tiles(block, layer.macs, simd, products["expand"])
        yield _depthwise(depthwise, simd, knobs["depthwise_rows"], knobs["depthwise_columns"])
        block = _block_product(projection, simd, size, projection.out_channels)
        yield _tiles(block, projection.macs, simd, products["project"])
    elif plan.algorithm == "depthwise":
        yield _depthwise(workload, simd, knobs["rows"], knobs["columns"])
    elif not plan.packed.in_place:
        transform = tuple((name, knobs[name]) for name in _TRANSFORM if name in knobs)
        product = _product(plan.algorithm, workload, simd, transform)
        yield _tiles(product, plan.macs, simd, Tile.of(knobs))


@lru_cache(maxsize=4096)
def _product(
    name: str, workload: Conv2dWorkload, simd: Simd, transform: tuple[tuple[str, int], ...]
) -> Product:
    """What the micro-kernel multiplies in algorithm ``name``, with these knobs if it transforms."""
    if transform:
        domain = Domain.of(workload, dict(transform))
        return Product(domain.products, domain.taps, domain.tiles)
    product = REGISTRY.get(name).product(workload, simd)
    assert product is not None, f"{name} has no micro-kernel"
    return product


@lru_cache(maxsize=4096)
def _block_product(
    layer: Conv2dWorkload, simd: Simd, in_channels: int, out_channels: int
) -> Product:
    """What a block of channels leaves of a dense layer, row by row."""
    layer = replace(layer, in_channels=in_channels, out_channels=out_channels)
    return Product(layer, Taps.of(layer, simd), layer.out_width)


@lru_cache(maxsize=65536)
def _tiles(product: Product, macs: int, simd: Simd, tile: Tile) -> _Loops:
    """As many rows of ``product`` in tiles as make up ``macs``."""
    layer, pixels = product.workload, product.row_pixels
    vectors = tile.panel // tile.lanes(simd, layer.dtype)
    channels = -(-layer.out_channels // tile.panel) * tile.panel
    rows = macs / (pixels * layer.reduction * layer.out_channels)
    slots = tiles.tile_cost(layer, simd, product.taps, pixels, tile.columns, tile.panel)
    return _Loops(
        rows * slots,
        tile.columns * vectors,
        tile.columns * vectors + tile.columns + vectors,
        pixels / tile.rounded(pixels),
        layer.out_channels / channels,
        layer.reduction * tile.panel * layer.element_bytes,
        layer.reduction * tile.columns * layer.element_bytes,
    )


@lru_cache(maxsize=65536)
def _depthwise(layer: Conv2dWorkload, simd: Simd, rows: int, columns: int) -> _Loops:
    """A depthwise layer in tiles of one vector of channels."""
    lanes = simd.lanes(layer.dtype)
    vectors = -(-layer.out_channels // lanes)
    covered = -(-layer.out_height // rows) * rows * -(-layer.out_width // columns) * columns
    taps = layer.kernel_height * layer.kernel_width
    image_rows = depthwise_tiles.window(
        rows, layer.kernel_height, layer.stride_height, layer.dilation_height
    )
    return _Loops(
        vectors * depthwise_tiles.cost(layer, rows, columns),
        rows * columns,
        depthwise_tiles.registers(layer, simd, rows, columns),
        layer.out_height * layer.out_width / covered,
        layer.out_channels / (vectors * lanes),
        taps * simd.vector_bytes,
        len({*image_rows}) * layer.in_width * simd.vector_bytes,
    )
