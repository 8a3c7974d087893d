"""What is multiplied: of each point and panel of output channels, the blocks that are not zero."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tvm import te, tirx

from schedules.algorithms.sparse_winograd.side_by_side import SideBySide, gather
from schedules.algorithms.winograd.domain import Domain
from schedules.kernel.packing import PackedWeights
from schedules.kernel.patches import masked
from schedules.kernel.tiles import Tile
from schedules.layer.winograd_weights import WinogradWeights, blocks_per_panel
from schedules.layer.workload import Conv2dWorkload
from schedules.lower.loops.counted import clamped


def packed_blocks(layer: Conv2dWorkload, panel: int, balanced: bool) -> PackedWeights:
    """Layout ``blocks`` for all weights of which as many are zero as ``layer`` says."""
    domain = weights_of(layer)
    _, height, width, channels = layer.weight_shape
    points, panels = height * width, -(-layer.out_channels // panel)
    # The panel is a part of the blocks that were counted, and has at most as many.
    counted = points * -(-layer.out_channels // domain.block)
    per_row = blocks_per_panel(domain.zeros, channels)
    capacity = points * panels * per_row
    if not balanced:
        blocks = -(-counted * channels * (100 - domain.zeros) // 100)
        capacity = min(blocks * (domain.block // panel), points * panels * channels)
    rows = 0 if balanced else points * panels
    shape = (capacity, panel)
    return PackedWeights("blocks", panel, shape, panels * panel, rows=rows)


def weights_of(layer: Conv2dWorkload) -> WinogradWeights:
    """What is known of the weights of a layer that has them in Winograd's domain."""
    assert layer.domain is not None, "weights of the definition"
    return layer.domain


@dataclass(frozen=True)
class Blocks:
    """The arguments that hold the weights: see :mod:`schedules.kernel.sparse.blocks`."""

    packed: PackedWeights
    pointers: te.Tensor | None
    indices: te.Tensor
    values: te.Tensor

    @classmethod
    def of(cls, packed: PackedWeights) -> Blocks:
        """Placeholders, in the order in which they lie in memory."""
        capacity = packed.shape[0]
        pointers = te.placeholder((packed.rows + 1,), "int32", name="W0") if packed.rows else None
        indices = te.placeholder((capacity,), "int16", name="W1")
        return cls(packed, pointers, indices, te.placeholder(packed.shape, name="W2"))

    @property
    def tensors(self) -> Sequence[te.Tensor]:
        """Those that there are."""
        first = [] if self.pointers is None else [self.pointers]
        return [*first, self.indices, self.values]

    def row(self, row: tirx.Expr, k: tirx.Expr, size: int) -> tuple[list[tirx.Expr], tirx.Expr]:
        """The mask and the place of block ``k`` of a row, which has ``size`` if all are alike."""
        if self.pointers is None:
            return [], row * size + k
        place = self.pointers[row] + k
        return [place < self.pointers[row + 1]], place


def multiply_blocks(
    domain: Domain, transformed: te.Tensor, blocks: Blocks, tile: Tile
) -> te.Tensor:
    """Block ``M``, as :func:`schedules.algorithms.winograd.domain.multiply` has it.

    The sums of block ``ACC`` are over the blocks of a row: at most one an input channel.
    """
    layer, columns = domain.workload, tile.rounded(domain.tiles)
    channels, panels = layer.in_channels, -(-layer.out_channels // tile.panel)
    rows = domain.points * panels
    size = channels if blocks.packed.rows else blocks.packed.shape[0] // rows
    k = te.reduce_axis((0, size), name="k")
    strips = (*domain.strip_shape, domain.points)

    def inside(w: tirx.Expr) -> list[tirx.Expr]:
        return [w < domain.tiles] * (columns > domain.tiles)

    def channel(p: tirx.Expr, panel: tirx.Expr, k: tirx.Expr) -> tirx.Expr:
        _, place = blocks.row(p * panels + panel, k, size)
        return clamped(blocks.indices[place].astype("int32"), channels)

    def point(*index: tirx.Expr) -> tirx.Expr:
        *strip, w, c = index
        of_image = [w] if domain.images == 1 else [w // domain.image_tiles, w % domain.image_tiles]
        place = (*strip, *of_image, c)
        return masked(inside(w), transformed[place], layer.dtype)

    if isinstance(domain, SideBySide):
        image = gather(domain, transformed, channel, (panels, size))
    else:
        element = te.compute((*strips, columns, channels), point, name="A")

        def image(*index: tirx.Expr) -> tirx.Expr:
            n, s, p, w, panel, k = index
            return element[n, s, p, w, channel(p, panel, k)]

    def sum_of_products(
        n: tirx.Expr, s: tirx.Expr, p: tirx.Expr, w: tirx.Expr, o: tirx.Expr
    ) -> tirx.Expr:
        panel = o // tile.panel
        mask, place = blocks.row(p * panels + panel, k, size)
        value = image(n, s, p, w, panel, k) * blocks.values[place, o % tile.panel]
        return te.sum(masked(mask + inside(w), value, layer.dtype), axis=[k])

    sums = te.compute((*strips, columns, panels * tile.panel), sum_of_products, name="ACC")
    shape = (*strips, domain.tiles, layer.out_channels)
    return te.compute(shape, lambda n, s, p, w, o: sums[n, s, p, w, o], name="M")
