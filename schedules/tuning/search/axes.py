"""Which values of an algorithm's knobs are tried, and which of them together.

A knob's choices are all that a schedule can do. Here rules leave out what is not worth building:
register tiles that spill or leave the multiply-add pipes idle, blocks that do not divide what they
are blocks of, work for nothing, orders that threads could not share, and values that make the same
kernel as others. The untuned default is never left out.

An *axis* is a list of values for one knob, or for several that only make sense together; the
candidates of an algorithm are the product of its axes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from schedules.algorithms.base import Algorithm
from schedules.algorithms.fused_block import knobs as fused_knobs
from schedules.algorithms.winograd.domain import Domain
from schedules.kernel import depthwise_tiles, tiles
from schedules.kernel.knobs import Knob, Knobs
from schedules.kernel.patches import Taps
from schedules.kernel.tiles import Product
from schedules.layer.block import Block
from schedules.layer.workload import Conv2dWorkload
from schedules.target.simd import Simd

#: Sums of a register tile at least, where there are as many: a multiply-add takes 4 cycles, and
#: there are 2 pipes. Half of them keep the pipes half busy.
MIN_SUMS = 4
#: Channels of a Winograd sum: with fewer, adding up the sums takes too long.
MIN_SUM_CHANNELS = 8
#: And with more, if not all, no time is saved, but accuracy lost.
MAX_SUM_CHANNELS = 64


@dataclass(frozen=True)
class Axis:
    """Values that the knobs ``names`` take together."""

    names: tuple[str, ...]
    values: tuple[tuple[Any, ...], ...]


def layer_axes(
    algorithm: Algorithm, workload: Conv2dWorkload, simd: Simd, untuned: Sequence[Knobs]
) -> list[Axis]:
    """The axes of an algorithm for one layer; ``untuned`` are the defaults of its forms."""
    knobs, default = algorithm.knobs(workload, simd), untuned[0]
    product = algorithm.product(workload, simd)
    if product is None:
        return _depthwise_axes(workload, simd, knobs, untuned)
    tile = _tile_axis(product, simd, knobs, untuned)
    keep: dict[str, Callable[[Any], bool]] = {
        "k_block": _divisor(product, simd),
        "order": lambda order: order.startswith("rows") or _shared(workload, simd, default),
        "c_block": lambda size: (
            MIN_SUM_CHANNELS <= size <= MAX_SUM_CHANNELS or size == workload.in_channels
        ),
        "strip": lambda rows: _is_strip(workload, default, knobs["strip"], rows),
        "solution": lambda _: workload.batch > 1,
        "weights": lambda _: False,  # a form: those that are no other algorithm's kernel
    }
    return [tile, *_single_axes(knobs, untuned, keep, but=tile.names)]


def block_axes(block: Block, simd: Simd, default: Knobs) -> list[Axis]:
    """The axes of a fused block; ``default`` is its untuned choice."""
    knobs, untuned = fused_knobs.knobs(block, simd), [default]
    strips = fused_knobs.default_strips(block, simd)
    cut = [
        (way.strip_rows, way.row_block, way.c_block)
        for way in fused_knobs.candidates(block, simd)
        if way.workspace_bytes <= simd.l2_bytes
    ]
    depthwise = [
        (rows, columns)
        for rows, columns in _choices(knobs, ("depthwise_rows", "depthwise_columns"))
        if (rows == 1 or fused_knobs.shares_rows(strips))
        and depthwise_tiles.fits(strips.depthwise, simd, rows, columns)
    ]
    axes = [
        _axis(("strip_rows", "row_block", "c_block"), cut, untuned),
        _axis(("depthwise_rows", "depthwise_columns"), depthwise, untuned),
    ]
    products = {"project": strips.projection}
    if strips.producer is not None:
        products["expand"] = strips.producer
    keep: dict[str, Callable[[Any], bool]] = {}
    for name, layer in products.items():
        product = Product(layer, Taps.of(layer, simd), layer.out_width)
        axes.append(_tile_axis(product, simd, knobs, untuned, f"{name}_"))
        keep[f"{name}_k_block"] = _divisor(product, simd)
    done = [name for axis in axes for name in axis.names]
    return [*axes, *_single_axes(knobs, untuned, keep, but=done)]


def _depthwise_axes(
    workload: Conv2dWorkload, simd: Simd, knobs: Mapping[str, Knob], untuned: Sequence[Knobs]
) -> list[Axis]:
    names = ("rows", "columns")
    shapes = [
        (rows, columns)
        for rows, columns in _choices(knobs, names)
        if depthwise_tiles.fits(workload, simd, rows, columns)
        and rows <= workload.out_height
        and columns <= workload.out_width
    ]
    # What threads share makes no difference for one thread, which is what is measured.
    keep: dict[str, Callable[[Any], bool]] = {"shared": lambda _: False}
    return [_axis(names, shapes, untuned), *_single_axes(knobs, untuned, keep, but=names)]


def _tile_axis(
    product: Product,
    simd: Simd,
    knobs: Mapping[str, Knob],
    untuned: Sequence[Knobs],
    prefix: str = "",
) -> Axis:
    """Register tiles: pixels by output channels."""
    layer = product.workload
    lanes = simd.lanes(layer.dtype)
    names = (f"{prefix}columns", f"{prefix}panel")

    def sums(columns: int, panel: int) -> int:
        return columns * (panel // tiles.panel_lanes(simd, layer.dtype, panel))

    shapes = [
        (columns, panel)
        for columns, panel in _choices(knobs, names)
        if tiles.fits_registers(layer, simd, product.taps, columns, panel)
        and columns <= product.row_pixels
        and panel < layer.out_channels + lanes
    ]
    enough = min(MIN_SUMS, max((sums(*shape) for shape in shapes), default=0))
    return _axis(names, [shape for shape in shapes if sums(*shape) >= enough], untuned)


def _single_axes(
    knobs: Mapping[str, Knob],
    untuned: Sequence[Knobs],
    keep: Mapping[str, Callable[[Any], bool]],
    but: Sequence[str],
) -> list[Axis]:
    """An axis for each other knob: the choices that its rule keeps."""
    return [
        _axis(
            (name,),
            [(value,) for value in knob.choices if name not in keep or keep[name](value)],
            untuned,
        )
        for name, knob in knobs.items()
        if name not in but
    ]


def _axis(
    names: tuple[str, ...], values: Sequence[tuple[Any, ...]], untuned: Sequence[Knobs]
) -> Axis:
    """An axis with the untuned choices, wherever they stand in the order of values."""
    defaults = {tuple(knobs[name] for name in names) for knobs in untuned}
    return Axis(names, tuple(sorted({*values, *defaults})))


def _choices(knobs: Mapping[str, Knob], names: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    return itertools.product(*(knobs[name].choices for name in names))


def _divisor(product: Product, simd: Simd) -> Callable[[Any], bool]:
    """The rule for blocks of reduction steps: equal ones, in whole vectors where these load them.

    Where scalars are broadcast, a block is a loop that LLVM unrolls as it likes: the untuned choice
    is enough.
    """
    lanes, depth = simd.lanes(product.workload.dtype), product.taps.depth
    return lambda size: simd.fma_by_element and size % lanes == 0 and depth % size == 0


def _shared(workload: Conv2dWorkload, simd: Simd, default: Knobs) -> bool:
    """Whether there are panels of the default's size for every core."""
    panels = -(-workload.out_channels // default["panel"])
    return panels % simd.cores == 0 or panels >= 8 * simd.cores


def _is_strip(workload: Conv2dWorkload, default: Knobs, knob: Knob, rows: int) -> bool:
    """Whether no shorter strip is as long: no strip has more rows of tiles than the image."""
    most = Domain.of(workload, {**default, "strip": max(knob.choices)}).tile_rows
    return not any(most <= other < rows for other in knob.choices)
