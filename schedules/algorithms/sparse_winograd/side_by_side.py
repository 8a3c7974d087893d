"""V with tiles side by side: vectors of one channel of several tiles, of which each lane is taken.

A block of weights is of one channel, whatever the next one is of. With the channels of a tile side
by side, a Cortex-A76 would load each element on its own, as many as a register tile has columns;
so, it loads vectors of them. In each row of tiles, a *group* is the columns of a register tile, and
its *vectors* have as many lanes as the processor's; those behind the last column are never used.

Both passes of the image's transform share what neighbouring tiles do: the first one, block ``VR``,
computes each column of the image once, for a vector of channels; the second, block ``VT``, a vector
of channels of each tile, and ``V`` is these transposed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from tvm import s_tir, te, tirx

from schedules.algorithms.winograd.domain import Domain
from schedules.algorithms.winograd.linear import select_row
from schedules.kernel.microkernel import GATHERED
from schedules.kernel.patches import masked
from schedules.lower.clamping import at_least
from schedules.lower.loops.interleaved import interleave
from schedules.lower.masked_loops import specialize
from schedules.lower.stages import keep_rolled
from schedules.lower.steps import partition, unroll
from schedules.lower.whole_vectors import whole
from schedules.target.simd import Simd

#: Tiles of a vector: lanes of NEON's float32.
LANES = 4
#: Tiles in a row at most: a vector of each column is held on the stack, 16 KiB of them.
MAX_ROW = 40
#: Points of a row that are computed together, for a vector of tiles. All six of F(4, 3) spill.
MAX_STEP = 4


@dataclass(frozen=True)
class SideBySide(Domain):
    """A domain of which ``columns`` divide each row of tiles into groups."""

    group: int

    @classmethod
    def of_domain(cls, domain: Domain, columns: int) -> SideBySide | None:
        """``domain`` in groups of so many columns, or None if its rows are not made of these.

        Nor may there be several images in a strip, or channels that fill no vectors.
        """
        across, channels = domain.tile_columns, domain.workload.in_channels
        if domain.images > 1 or channels % LANES or across % columns or across > MAX_ROW:
            return None
        own = {field.name: getattr(domain, field.name) for field in fields(domain)}
        return cls(**own, group=columns)

    @property
    def vectors(self) -> int:
        """Vectors of a group, of a channel."""
        return -(-self.group // LANES)

    @property
    def row_groups(self) -> int:
        """Groups of a row of tiles."""
        return self.tile_columns // self.group

    @property
    def point_elements(self) -> int:
        """Elements of V from one point to the next."""
        groups = self.strip * self.row_groups
        return groups * self.vectors * LANES * self.workload.in_channels + self.line

    @property
    def form(self) -> str:
        """By vectors."""
        return GATHERED


def transform_image(domain: SideBySide, image: te.Tensor) -> te.Tensor:
    """Block ``V`` (n, strip, point, group, vector, c, lane): ``B_h^T d B_w``.

    Blocks ``VR``, ``B_h^T d``, and ``VT`` come before it.
    """
    layer, rows, columns = domain.workload, domain.rows, domain.columns
    channels, groups, n_w = layer.in_channels, domain.row_groups, columns.inputs

    def by_row(n: tirx.Expr, s: tirx.Expr, a: tirx.Expr, *index: tirx.Expr) -> tirx.Expr:
        down, j, c = index
        w = j - layer.pad_left

        def pixel(i: int) -> tirx.Expr:
            h = s * domain.strip_rows + down * rows.outputs + i - layer.pad_top
            inside = [h >= 0] * (layer.pad_top > i) + [h < layer.in_height]
            inside += [w >= 0] * (layer.pad_left > 0) + [w < layer.in_width]
            return masked(inside, image[n, h, w * layer.in_pitch + c], layer.dtype)

        pixels = [pixel(i) for i in range(rows.inputs)]
        return select_row(rows.image, a, pixels, layer.dtype)

    width = domain.tile_columns * columns.outputs + columns.taps - 1
    strips = domain.strip_shape
    by_rows = te.compute((*strips, rows.inputs, domain.strip, width, channels), by_row, name="VR")

    def point(n: tirx.Expr, s: tirx.Expr, p: tirx.Expr, *index: tirx.Expr) -> tirx.Expr:
        g, column, c = index
        first = (g % groups * domain.group + column) * columns.outputs
        pixels = [by_rows[n, s, p // n_w, g // groups, first + j, c] for j in range(n_w)]
        value = select_row(columns.image, p % n_w, pixels, layer.dtype)
        return at_least(value, 0.0) if layer.domain and layer.domain.relu else value

    outer = (*strips, domain.points, domain.strip * groups)
    tiles = te.compute((*outer, domain.group, channels), point, name="VT")

    def lane_of(*index: tirx.Expr) -> tirx.Expr:
        *place, vector, c, lane = index
        column = vector * LANES + lane
        inside = [column < domain.group] * (domain.group % LANES > 0)
        return masked(inside, tiles(*place, column, c), layer.dtype)

    return te.compute((*outer, domain.vectors, channels, LANES), lane_of, name="V")


def gather(
    domain: SideBySide,
    transformed: te.Tensor,
    channel: Callable[[tirx.Expr, tirx.Expr, tirx.Expr], tirx.Expr],
    shape: tuple[int, int],
) -> Callable[..., tirx.Expr]:
    """Block ``A``: vectors of V by the blocks of weights; returns its element for a tile.

    Parameters
    ----------
    channel : callable
        Of a point, a panel and the number of a block.
    shape : (int, int)
        Panels, and blocks of one at a point.

    Returns
    -------
    callable
        Of (n, strip, point, tile, panel, block).
    """
    panels, size = shape

    def vector_of(*index: tirx.Expr) -> tirx.Expr:
        n, s, p, panel, group, vector, k, lane = index
        return whole(transformed(n, s, p, group, vector, channel(p, panel, k), lane))

    outer = (*transformed.shape[:3], panels, *transformed.shape[3:5])
    vectors = te.compute((*outer, size, LANES), vector_of, name="A")

    def element(*index: tirx.Expr) -> tirx.Expr:
        n, s, p, w, panel, k = index
        column = w % domain.group
        return vectors[n, s, p, panel, w // domain.group, column // LANES, k, column % LANES]

    return element


def schedule_image(schedule: s_tir.Schedule, domain: SideBySide, simd: Simd, strip: Any) -> None:
    """Image to V in each ``strip``, a vector of channels of a row of tiles at a time."""
    del simd
    transformed = schedule.get_sblock("V")
    schedule.compute_at(transformed, strip, preserve_unit_loops=True)
    point, groups, vector, c, tile = schedule.get_loops(transformed)[-5:]
    across = domain.columns.inputs
    step = max(size for size in range(1, MAX_STEP + 1) if across % size == 0)
    a, part, b = schedule.split(point, [None, across // step, step])
    down, group = schedule.split(groups, [None, domain.row_groups])
    c_outer, c_lane = schedule.split(c, [None, LANES])
    schedule.reorder(down, c_outer, group, vector, part, a, b, c_lane, tile)
    by_tiles, by_rows = schedule.get_sblock("VT"), schedule.get_sblock("VR")
    for block, loop in ((by_tiles, b), (by_rows, c_outer)):
        schedule.set_scope(block, 0, "local")
        schedule.compute_at(block, loop, preserve_unit_loops=True)
        schedule.vectorize(schedule.get_loops(block)[-1])
    unroll(schedule, [vector, part, b, schedule.get_loops(by_tiles)[-2]])
    keep_rolled(schedule, a)
    interleave(schedule, c_lane)
    row, _, column, lane = schedule.get_loops(by_rows)[-4:]
    schedule.reorder(column, row, lane)
    partition(schedule, column)
    schedule.unroll(row)
    specialize(schedule, c_outer)
