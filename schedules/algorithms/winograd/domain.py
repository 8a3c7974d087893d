"""What Winograd's algorithm computes: tiles, strips and points, and both transforms.

See :mod:`schedules.algorithms.winograd.winograd` for the source and the formulas.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

from tvm import te, tirx

from schedules.algorithms.winograd.integers import IMAGE, SUMS, unscaled
from schedules.algorithms.winograd.linear import select_row
from schedules.kernel.epilogue import finished
from schedules.kernel.knobs import Knobs
from schedules.kernel.packing import PACKED
from schedules.kernel.patches import Taps, masked, replaced
from schedules.kernel.quantised.constants import Constants
from schedules.kernel.tiles import MAX_COLUMNS_SIDE_BY_SIDE, Tile
from schedules.layer.workload import DTYPE_BYTES, Conv2dWorkload
from schedules.lower.clamping import at_least
from schedules.lower.integers import product16
from schedules.lower.memory import ALIGNMENT
from schedules.transforms.cook_toom import Filtering, filtering

#: The weights that a kernel takes: those of the transformed domain; or those that the model has, in
#: panels, or as and where it has them, which the kernel transforms.
WEIGHTS = TRANSFORMED, PANELS, IN_PLACE = "transformed", "panels", "in_place"


@dataclass(frozen=True)
class Domain:
    """The transformed domain of one layer: its points, and how tiles make up strips.

    ``panel`` is how many of the output channels are computed at a time: those of one of several
    parts or, if the kernel transforms the weights (``in_kernel``), of one panel.
    """

    workload: Conv2dWorkload
    rows: Filtering
    columns: Filtering
    strip: int
    c_block: int
    in_kernel: bool
    panel: int

    @classmethod
    def of(cls, workload: Conv2dWorkload, knobs: Knobs) -> Domain:
        """F(``outputs``, r) along every axis on which the kernel is longer than 1."""
        # Records of kernels without these knobs are older than they.
        in_kernel = knobs.get("weights", TRANSFORMED) != TRANSFORMED
        parts = 0 if in_kernel else knobs.get("parts", 1)
        panel = knobs.get("panel", workload.out_channels)
        return _domain(workload, knobs["outputs"], knobs["strip"], knobs["c_block"], panel, parts)

    @cached_property
    def points(self) -> int:
        """``n_h n_w``: matrix products."""
        return self.rows.inputs * self.columns.inputs

    @cached_property
    def types(self) -> tuple[str, str]:
        """Element types of V and U, and of M: see :mod:`schedules.algorithms.winograd.integers`."""
        return (IMAGE, SUMS) if self.workload.is_quantised else (self.workload.dtype,) * 2

    @property
    def blocked(self) -> bool:
        """Whether there are several blocks of channels."""
        return self.c_block < self.workload.in_channels

    @property
    def line(self) -> int:
        """Elements of a cache line.

        Points lie so many further apart than they have to: transforms write all points of a few
        elements, and at distances of a power of two these would compete for one set of a cache.
        """
        return ALIGNMENT // DTYPE_BYTES[self.types[0]]

    @property
    def image_block(self) -> int:
        """Channels of V side by side: those of one block, if they are whole cache lines."""
        return self.workload.in_channels if self.c_block % self.line else self.c_block

    @cached_property
    def image_elements(self) -> int:
        """Elements of V."""
        blocks = self.workload.in_channels // self.image_block
        return blocks * self.points * self.point_elements

    @cached_property
    def point_elements(self) -> int:
        """Elements of V from one point to the next, of a block of channels."""
        return self.tiles * self.image_block + self.line

    @cached_property
    def product_elements(self) -> int:
        """Elements of M."""
        return self.points * (self.tiles * self.panel + self.line)

    @cached_property
    def tile_rows(self) -> int:
        """Tiles down the image."""
        return -(-self.workload.out_height // self.rows.outputs)

    @cached_property
    def tile_columns(self) -> int:
        """Tiles across the image."""
        return -(-self.workload.out_width // self.columns.outputs)

    @property
    def images(self) -> int:
        """Images whose tiles make up a strip: all of the batch, if each is whole in it."""
        return self.workload.batch if self.image_strips == 1 else 1

    @property
    def image_tiles(self) -> int:
        """Tiles of a strip that are of one image."""
        return self.strip * self.tile_columns

    @cached_property
    def tiles(self) -> int:
        """Tiles of a strip: rows of each matrix product."""
        return self.images * self.image_tiles

    @property
    def tile_shape(self) -> tuple[int, ...]:
        """Tiles of a strip as V has them: an axis of their own for images, if they are several.

        With one for both, no loop over tiles would tell which are at the border.
        """
        return (self.image_tiles,) if self.images == 1 else (self.images, self.image_tiles)

    @property
    def strip_rows(self) -> int:
        """Output rows of a strip."""
        return self.strip * self.rows.outputs

    @property
    def image_strips(self) -> int:
        """Strips of one image; the last may reach beyond it."""
        return -(-self.workload.out_height // self.strip_rows)

    @property
    def parts(self) -> int:
        """Parts of the output channels; the last may be smaller."""
        return -(-self.workload.out_channels // self.panel)

    @property
    def strips(self) -> int:
        """Strips of the whole batch."""
        return math.prod(self.strip_shape)

    @property
    def strip_shape(self) -> tuple[int, int]:
        """Strips of different images, and those of one."""
        return self.workload.batch // self.images, self.image_strips

    @property
    def taps(self) -> Taps:
        """Of a block of the matrix products: nothing but channels, of tiles side by side.

        Only nine tiles are multiplied at once on x86-64: in parts of five and four they took 1.2
        times as long on a Zen 4, but eight of sixteen gained nothing.
        """
        nine = self.tiles == MAX_COLUMNS_SIDE_BY_SIDE
        return Taps(1, 1, self.c_block, side_by_side=nine, made_in_kernel=self.in_kernel)

    @property
    def form(self) -> str:
        """How a register tile reads V: see :func:`schedules.kernel.microkernel.sum_tile`."""
        return PACKED

    @property
    def products(self) -> Conv2dWorkload:
        """The matrix products of a strip as a pointwise convolution: points by tiles.

        Those of integers have as many sums in a vector as floats, and take as many instructions.
        """
        return Conv2dWorkload(
            in_height=self.points,
            in_width=self.tiles,
            in_channels=self.workload.in_channels,
            out_channels=self.workload.out_channels,
            kernel_height=1,
            kernel_width=1,
            dtype="float32" if self.workload.is_quantised else self.workload.dtype,
        )


@lru_cache(maxsize=4096)
def _domain(
    workload: Conv2dWorkload, outputs: int, strip: int, c_block: int, panel: int, parts: int
) -> Domain:
    """See :meth:`Domain.of`; no ``parts`` if the kernel transforms the weights."""
    in_kernel, channels = not parts, workload.out_channels

    def along(taps: int) -> Filtering:
        form = filtering(outputs if taps > 1 else 1, taps)
        return form.light if in_kernel else form

    rows, columns = along(workload.kernel_height), along(workload.kernel_width)
    if parts:
        panel *= -(-channels // (panel * parts))
    panel = min(panel, channels)
    whole = Domain(workload, rows, columns, 1, c_block, in_kernel, panel)
    return replace(whole, strip=min(strip, whole.tile_rows))


def multiply(domain: Domain, transformed: te.Tensor, weights: te.Tensor, tile: Tile) -> te.Tensor:
    """Block ``M``: at every point, all tiles of a strip by all output channels.

    It is the sum over blocks of channels of block ``ACC``, which is rounded up to whole register
    tiles; elements of V are block ``A``.
    """
    layer, columns = domain.workload, tile.rounded(domain.tiles)
    image_type, sum_type = domain.types
    size = domain.c_block
    count = layer.in_channels // size
    k = te.reduce_axis((0, size), name="c")

    def inside(w: tirx.Expr) -> list[tirx.Expr]:
        return [w < domain.tiles] * (columns > domain.tiles)

    strips = (*domain.strip_shape, domain.points)

    def point(*index: tirx.Expr) -> tirx.Expr:
        *strip, w, c = index
        tile = [w] if domain.images == 1 else [w // domain.image_tiles, w % domain.image_tiles]
        place = (*strip, *tile, c)
        return masked(inside(w), transformed[place], image_type)

    element = te.compute((*strips, columns, layer.in_channels), point, name="A")

    def sum_of_products(
        b: tirx.Expr, n: tirx.Expr, s: tirx.Expr, p: tirx.Expr, w: tirx.Expr, o: tirx.Expr
    ) -> tirx.Expr:
        c = b * size + k
        weight = weights[p, o // tile.panel, c, o % tile.panel]
        if layer.is_quantised:
            value = product16(weight, element[n, s, p, w, c])
        else:
            value = element[n, s, p, w, c] * weight
        return te.sum(masked(inside(w), value, sum_type), axis=[k])

    channels = weights.shape[1] * tile.panel
    sums = te.compute((count, *strips, columns, channels), sum_of_products, name="ACC")
    shape = (*strips, domain.tiles, layer.out_channels)
    if count == 1:
        return te.compute(shape, lambda n, s, p, w, o: sums[0, n, s, p, w, o], name="M")
    block = te.reduce_axis((0, count), name="block")
    return te.compute(
        shape,
        lambda n, s, p, w, o: te.sum(sums[block, n, s, p, w, o], axis=[block]),
        name="M",
    )


def transform_image(
    domain: Domain, image: te.Tensor, constants: Constants | None = None
) -> te.Tensor:
    """Block ``V``: ``B_h^T d B_w`` for every tile and channel; block ``VR`` is ``B_h^T d``.

    Beyond the border are zeros, or the zero points of the ``constants`` of integers.
    """
    layer, rows, columns = domain.workload, domain.rows, domain.columns
    channels, across = layer.in_channels, domain.tile_columns
    image_type, _ = domain.types

    def pixel(place: Sequence[tirx.Expr], i: int, j: tirx.Expr, c: tirx.Expr) -> tirx.Expr:
        n, s, *images, tile = place
        h = s * domain.strip_rows + tile // across * rows.outputs + i - layer.pad_top
        w = tile % across * columns.outputs + j - layer.pad_left
        inside = [h >= 0] * (layer.pad_top > i) + [h < layer.in_height]
        inside += [w >= 0] * (layer.pad_left > 0) + [w < layer.in_width]
        element = image[images[0] if images else n, h, w * layer.in_pitch + c]
        if layer.is_quantised:
            assert constants is not None, "integers have a zero point"
            return replaced(inside, element, constants.zero_point(element)).astype(image_type)
        return masked(inside, element, layer.dtype)

    n_h, n_w, strips = rows.inputs, columns.inputs, domain.strip_shape
    tiles = domain.tile_shape

    def by_row(n: tirx.Expr, s: tirx.Expr, a: tirx.Expr, *index: tirx.Expr) -> tirx.Expr:
        *tile, j, c = index
        pixels = [pixel((n, s, *tile), i, j, c) for i in range(n_h)]
        return select_row(rows.image, a, pixels, image_type)

    by_rows = te.compute((*strips, n_h, *tiles, n_w, channels), by_row, name="VR")

    def point(n: tirx.Expr, s: tirx.Expr, p: tirx.Expr, *index: tirx.Expr) -> tirx.Expr:
        *tile, c = index
        places = [(n, s, p // n_w, *tile, j, c) for j in range(n_w)]
        pixels = [by_rows[place] for place in places]
        value = select_row(columns.image, p % n_w, pixels, image_type)
        return at_least(value, 0.0) if layer.domain and layer.domain.relu else value

    return te.compute((*strips, domain.points, *tiles, channels), point, name="V")


def transform_products(
    domain: Domain, products: te.Tensor, constants: Constants
) -> list[te.Tensor]:
    """Argument ``R``, if there is one, and block ``Y``: ``A_h^T M A_w`` and what follows it.

    Block ``MR`` is ``A_h^T M``.
    """
    layer, rows, columns = domain.workload, domain.rows, domain.columns
    n_w, m_h, m_w = columns.inputs, rows.outputs, columns.outputs
    _, sum_type = domain.types

    def by_row(
        n: tirx.Expr, s: tirx.Expr, row: tirx.Expr, across: tirx.Expr, b: tirx.Expr, o: tirx.Expr
    ) -> tirx.Expr:
        tile = n % domain.images * domain.image_tiles + row // m_h * domain.tile_columns + across
        points = [products[n // domain.images, s, a * n_w + b, tile, o] for a in range(rows.inputs)]
        return select_row(rows.output, row % m_h, points, sum_type)

    strips, strip_rows = domain.image_strips, domain.strip_rows
    shape = (layer.batch, strips, strip_rows, domain.tile_columns, n_w, layer.out_channels)
    by_rows = te.compute(shape, by_row, name="MR")

    def pixel(n: tirx.Expr, h: tirx.Expr, w: tirx.Expr, o: tirx.Expr) -> tirx.Expr:
        points = [by_rows[n, h // strip_rows, h % strip_rows, w // m_w, b, o] for b in range(n_w)]
        value = select_row(columns.output, w % m_w, points, sum_type)
        return unscaled(value, rows, columns) if layer.is_quantised else value

    return finished(layer, pixel, constants)
