"""``winograd``: products in a transformed domain, fewer than the definition has.

Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (arXiv 1509.09308). The output
is computed in tiles of ``m_h x m_w`` pixels, each from ``n_h x n_w`` image pixels, where
``n = m + r - 1`` for kernels of ``r_h x r_w``::

    V = B_h^T d B_w,    M[a, b] = sum_c U[a, b, c] V[a, b, c],    Y = A_h^T M A_w

The sums over channels are ``n_h n_w`` matrix products, all tiles by all output channels, of
``n_h n_w / (m_h m_w)`` multiplications an output element and channel where the definition has
``r_h r_w``. A kernel that is 1 high or wide is transformed along the other axis alone. The weights
``U = G_h g G_w^T`` are transformed once, when they are packed.

Tiles are taken in strips, ``strip`` rows of tiles across the image; a strip's V and M take the
memory of the one before. Threads share the strips. ``B_h^T d`` and ``A_h^T M`` of one tile and one
vector of channels are on the stack.

Workspace: ``n_h n_w P (C + M)`` elements a thread, for the P tiles of a strip; behind V rounded up
to a cache line.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tvm import s_tir, te, tirx

from schedules import accuracy, c_abi, packing, tiles
from schedules.algorithms.base import Algorithm
from schedules.cook_toom import Filtering, as_floats, filtering
from schedules.epilogue import finish
from schedules.knobs import Knob, Knobs
from schedules.linear import select_row
from schedules.masked_loops import specialize
from schedules.memory import align
from schedules.microkernel import accumulate_tile
from schedules.packing import Matrix, PackedWeights
from schedules.patches import Taps, masked, placeholders
from schedules.simd import Simd
from schedules.steps import extent, partition, unroll
from schedules.tiles import Tile
from schedules.workload import Conv2dWorkload

#: Image pixels of a tile along one axis, at most: with more, the rounding error is out of hand.
MAX_INPUTS = 10
#: Roundings of one product that matter: of the transformed image, weight and output.
TRANSFORM_ROUNDINGS = 8
#: Tiles of a strip: with fewer, each weight is loaded for too few products.
ENOUGH_TILES = 4


class Winograd(Algorithm):
    """Lavin and Gray, arXiv 1509.09308."""

    name = "winograd"
    source = "Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, arXiv 1509.09308"

    def supports(self, workload: Conv2dWorkload, simd: Simd) -> str | None:
        strides = (workload.stride_height, workload.stride_width)
        dilations = (workload.dilation_height, workload.dilation_width)
        kernel = (workload.kernel_height, workload.kernel_width)
        if strides != (1, 1):
            return "Winograd's algorithm needs stride 1"
        if dilations != (1, 1):
            return "Winograd's algorithm needs dilation 1"
        if kernel == (1, 1):
            return "a 1x1 kernel has no overlapping products to save"
        if max(kernel) + 1 > MAX_INPUTS:
            return f"a {kernel[0]}x{kernel[1]} kernel needs tiles of more than {MAX_INPUTS} pixels"
        return super().supports(workload, simd)

    def knobs(self, workload: Conv2dWorkload, simd: Simd) -> Mapping[str, Knob]:
        kernel = max(workload.kernel_height, workload.kernel_width)
        outputs = tuple(m for m in (2, 4, 6) if m + kernel - 1 <= MAX_INPUTS)
        default = 4 if 4 in outputs else 2
        strip = default_strip(workload, default)
        domain = Domain.of(workload, {"outputs": default, "strip": strip})
        choices = tiles.knobs(domain.products, simd, domain.taps, domain.tiles)
        # A point's matrices stay in the cache until all of its products are done.
        orders = tuple(order for order in tiles.ORDERS if order.startswith("rows"))
        return {
            **choices,
            "order": Knob(orders, orders[1]),
            "outputs": Knob(outputs, default),
            "strip": Knob((1, 2, 4, 8), strip),
        }

    def workspace_bytes(self, workload: Conv2dWorkload, knobs: Knobs) -> int:
        domain = Domain.of(workload, knobs)
        points = domain.points * domain.tiles * workload.element_bytes
        return align(points * workload.in_channels) + points * workload.out_channels

    def macs(self, workload: Conv2dWorkload, knobs: Knobs) -> int:
        domain = Domain.of(workload, knobs)
        products = domain.strips * domain.points * domain.tiles
        return products * workload.in_channels * workload.out_channels

    def expected_error(self, workload: Conv2dWorkload, knobs: Knobs) -> float:
        domain = Domain.of(workload, knobs)
        return accuracy.relative_error(
            workload.in_channels,
            domain.rows.amplification * domain.columns.amplification,
            TRANSFORM_ROUNDINGS,
        )

    def packed_weights(self, workload: Conv2dWorkload, knobs: Knobs) -> PackedWeights:
        domain = Domain.of(workload, knobs)
        transform = (_floats(domain.rows), _floats(domain.columns))
        return packing.winograd(workload, knobs["panel"], transform)

    def schedule(self, workload: Conv2dWorkload, simd: Simd, knobs: Knobs) -> s_tir.Schedule:
        domain, tile = Domain.of(workload, knobs), Tile.of(knobs)
        image, weights, bias = placeholders(workload, self.packed_weights(workload, knobs))
        transformed = transform_image(domain, image)
        products = multiply(domain, transformed, weights, tile)
        output = transform_products(domain, products, bias)
        schedule = s_tir.Schedule(te.create_prim_func([image, weights, bias, output]))
        schedule_strips(schedule, domain, simd, tile)
        return schedule


def default_strip(workload: Conv2dWorkload, outputs: int) -> int:
    """The fewest rows of tiles that hold enough of them to fill a register tile."""
    domain = Domain.of(workload, {"outputs": outputs, "strip": 1})
    return min(-(-ENOUGH_TILES // domain.tile_columns), domain.tile_rows)


def _floats(filtering: Filtering) -> Matrix:
    return tuple(map(tuple, as_floats(filtering.kernel).tolist()))


@dataclass(frozen=True)
class Domain:
    """The transformed domain of one layer: its points, and how tiles make up strips."""

    workload: Conv2dWorkload
    rows: Filtering
    columns: Filtering
    strip: int

    @classmethod
    def of(cls, workload: Conv2dWorkload, knobs: Knobs) -> Domain:
        """F(``outputs``, r) along every axis on which the kernel is longer than 1."""

        def along(taps: int) -> Filtering:
            return filtering(knobs["outputs"] if taps > 1 else 1, taps)

        rows, columns = along(workload.kernel_height), along(workload.kernel_width)
        whole = cls(workload, rows, columns, 1)
        return replace(whole, strip=min(knobs["strip"], whole.tile_rows))

    @property
    def points(self) -> int:
        """``n_h n_w``: matrix products."""
        return self.rows.inputs * self.columns.inputs

    @property
    def tile_rows(self) -> int:
        """Tiles down the image."""
        return -(-self.workload.out_height // self.rows.outputs)

    @property
    def tile_columns(self) -> int:
        """Tiles across the image."""
        return -(-self.workload.out_width // self.columns.outputs)

    @property
    def tiles(self) -> int:
        """Tiles of a strip: rows of each matrix product."""
        return self.strip * self.tile_columns

    @property
    def strip_rows(self) -> int:
        """Output rows of a strip."""
        return self.strip * self.rows.outputs

    @property
    def image_strips(self) -> int:
        """Strips of one image; the last may reach beyond it."""
        return -(-self.workload.out_height // self.strip_rows)

    @property
    def strips(self) -> int:
        """Strips of the whole batch."""
        return self.workload.batch * self.image_strips

    @property
    def taps(self) -> Taps:
        """Of the matrix products: nothing but channels."""
        return Taps(1, 1, self.workload.in_channels, flat=False)

    @property
    def products(self) -> Conv2dWorkload:
        """The matrix products of a strip as a pointwise convolution: points by tiles."""
        return Conv2dWorkload(
            in_height=self.points,
            in_width=self.tiles,
            in_channels=self.workload.in_channels,
            out_channels=self.workload.out_channels,
            kernel_height=1,
            kernel_width=1,
            dtype=self.workload.dtype,
        )


def multiply(domain: Domain, transformed: te.Tensor, weights: te.Tensor, tile: Tile) -> te.Tensor:
    """Block ``M``: at every point, all tiles of a strip by all output channels.

    The blocks are those of :func:`schedules.microkernel.product`: ``A`` (elements of V) and ``ACC``
    (sums, rounded up to whole register tiles).
    """
    layer, columns = domain.workload, tile.rounded(domain.tiles)
    k = te.reduce_axis((0, layer.in_channels), name="c")

    def inside(w: tirx.Expr) -> list[tirx.Expr]:
        return [w < domain.tiles] * (columns > domain.tiles)

    strips = (layer.batch, domain.image_strips, domain.points)
    element = te.compute(
        (*strips, columns, layer.in_channels),
        lambda n, s, p, w, c: masked(inside(w), transformed[n, s, p, w, c], layer.dtype),
        name="A",
    )

    def sum_of_products(
        n: tirx.Expr, s: tirx.Expr, p: tirx.Expr, w: tirx.Expr, o: tirx.Expr
    ) -> tirx.Expr:
        value = element[n, s, p, w, k] * weights[p, o // tile.panel, k, o % tile.panel]
        return te.sum(masked(inside(w), value, layer.dtype), axis=[k])

    channels = weights.shape[1] * tile.panel
    sums = te.compute((*strips, columns, channels), sum_of_products, name="ACC")
    shape = (*strips, domain.tiles, layer.out_channels)
    return te.compute(shape, lambda n, s, p, w, o: sums[n, s, p, w, o], name="M")


def transform_image(domain: Domain, image: te.Tensor) -> te.Tensor:
    """Block ``V``: ``B_h^T d B_w`` for every tile and channel; block ``VR`` is ``B_h^T d``."""
    layer, rows, columns = domain.workload, domain.rows, domain.columns
    channels, across = layer.in_channels, domain.tile_columns

    def pixel(
        n: tirx.Expr, s: tirx.Expr, tile: tirx.Expr, i: int, j: tirx.Expr, c: tirx.Expr
    ) -> tirx.Expr:
        h = s * domain.strip_rows + tile // across * rows.outputs + i - layer.pad_top
        w = tile % across * columns.outputs + j - layer.pad_left
        inside = [h >= 0] * (layer.pad_top > i) + [h < layer.in_height]
        inside += [w >= 0] * (layer.pad_left > 0) + [w < layer.in_width]
        return masked(inside, image[n, h, w * layer.in_pitch + c], layer.dtype)

    n_h, n_w, strips = rows.inputs, columns.inputs, (layer.batch, domain.image_strips)

    def by_row(
        n: tirx.Expr, s: tirx.Expr, a: tirx.Expr, tile: tirx.Expr, j: tirx.Expr, c: tirx.Expr
    ) -> tirx.Expr:
        pixels = [pixel(n, s, tile, i, j, c) for i in range(n_h)]
        return select_row(rows.image, a, pixels, layer.dtype)

    by_rows = te.compute((*strips, n_h, domain.tiles, n_w, channels), by_row, name="VR")

    def point(n: tirx.Expr, s: tirx.Expr, p: tirx.Expr, tile: tirx.Expr, c: tirx.Expr) -> tirx.Expr:
        pixels = [by_rows[n, s, p // n_w, tile, j, c] for j in range(n_w)]
        return select_row(columns.image, p % n_w, pixels, layer.dtype)

    return te.compute((*strips, domain.points, domain.tiles, channels), point, name="V")


def transform_products(domain: Domain, products: te.Tensor, bias: te.Tensor) -> te.Tensor:
    """Block ``Y``: ``A_h^T M A_w``, bias and activation; block ``MR`` is ``A_h^T M``."""
    layer, rows, columns = domain.workload, domain.rows, domain.columns
    n_w, m_h, m_w = columns.inputs, rows.outputs, columns.outputs

    def by_row(
        n: tirx.Expr, s: tirx.Expr, row: tirx.Expr, across: tirx.Expr, b: tirx.Expr, o: tirx.Expr
    ) -> tirx.Expr:
        tile = row // m_h * domain.tile_columns + across
        points = [products[n, s, a * n_w + b, tile, o] for a in range(rows.inputs)]
        return select_row(rows.output, row % m_h, points, layer.dtype)

    strips, strip_rows = domain.image_strips, domain.strip_rows
    shape = (layer.batch, strips, strip_rows, domain.tile_columns, n_w, layer.out_channels)
    by_rows = te.compute(shape, by_row, name="MR")

    def pixel(n: tirx.Expr, h: tirx.Expr, w: tirx.Expr, o: tirx.Expr) -> tirx.Expr:
        points = [by_rows[n, h // strip_rows, h % strip_rows, w // m_w, b, o] for b in range(n_w)]
        return finish(select_row(columns.output, w % m_w, points, layer.dtype), bias[o], layer)

    return te.compute(layer.output_shape, pixel, name="Y")


def schedule_strips(schedule: s_tir.Schedule, domain: Domain, simd: Simd, tile: Tile) -> None:
    """Strip by strip: image to V, V to M, M to output."""
    lanes = simd.lanes(domain.workload.dtype)
    _, h, w, o = schedule.get_loops(schedule.get_sblock("Y"))
    strip, down, y = schedule.split(h, [None, domain.strip, domain.rows.outputs])
    across, x = schedule.split(w, [None, domain.columns.outputs])
    o_outer, o_lane = schedule.split(o, [None, lanes])
    schedule.reorder(strip, down, across, o_outer, y, x, o_lane)
    # From the last step to the first: each is placed where the next one needs it.
    schedule_output(schedule, simd, o_outer, (y, x, o_lane))
    if domain.workload.out_channels % lanes:
        partition(schedule, o_outer)
        partition(schedule, o_lane)
        partition(schedule, schedule.get_loops(schedule.get_sblock("MR"))[-1])
    schedule_products(schedule, domain, simd, tile, strip)
    schedule_image(schedule, domain, simd, strip)
    c_abi.mark_stage(schedule, strip)


def schedule_output(
    schedule: s_tir.Schedule, simd: Simd, vector: Any, tile: tuple[Any, Any, Any]
) -> None:
    """M to output, tile by tile, one vector of channels at a time, rows before columns."""
    y, x, o_lane = tile
    by_rows = schedule.get_sblock("MR")
    schedule.set_scope(by_rows, 0, "local")
    schedule.compute_at(by_rows, vector, preserve_unit_loops=True)
    r_y, _, r_b, r_lane = schedule.get_loops(by_rows)[-4:]
    schedule.reorder(r_b, r_y, r_lane)
    for loop in (y, r_b):
        unroll_points(schedule, simd, loop)
    unroll(schedule, [x, r_y])
    schedule.vectorize(o_lane)
    schedule.vectorize(r_lane)


def schedule_products(
    schedule: s_tir.Schedule, domain: Domain, simd: Simd, tile: Tile, strip: Any
) -> None:
    """V to M: register tiles, point by point."""
    layer = domain.workload
    products = schedule.get_sblock("M")
    schedule.compute_at(products, strip, preserve_unit_loops=True)
    point, t, o = schedule.get_loops(products)[-3:]
    t_outer, t_inner = schedule.split(t, [None, tile.columns])
    o_outer, o_vector, o_lane = schedule.split(
        o, [None, tile.panel // simd.lanes(layer.dtype), simd.lanes(layer.dtype)]
    )
    loops = {"rows": point, "columns": t_outer, "panels": o_outer}
    order = [loops[name] for name in tile.order.split(",")]
    schedule.reorder(*order, t_inner, o_vector, o_lane)
    accumulate_tile(schedule, layer, simd, tile, order[-1])
    partition(schedule, t_outer)
    if layer.out_channels % tile.panel:
        for loop in (o_outer, o_vector, o_lane):
            partition(schedule, loop)
    unroll(schedule, [t_inner, o_vector])
    schedule.vectorize(o_lane)


def schedule_image(schedule: s_tir.Schedule, domain: Domain, simd: Simd, strip: Any) -> None:
    """Image to V, tile by tile, one vector of channels at a time, rows before columns."""
    transformed, by_rows = schedule.get_sblock("V"), schedule.get_sblock("VR")
    schedule.compute_at(transformed, strip, preserve_unit_loops=True)
    point, t, c = schedule.get_loops(transformed)[-3:]
    a, b = schedule.split(point, [None, domain.columns.inputs])
    down, across = schedule.split(t, [None, domain.tile_columns])
    c_outer, c_lane = schedule.split(c, [None, simd.lanes(domain.workload.dtype)])
    schedule.reorder(down, across, c_outer, a, b, c_lane)
    schedule.set_scope(by_rows, 0, "local")
    schedule.compute_at(by_rows, c_outer, preserve_unit_loops=True)
    r_a, _, r_j, r_lane = schedule.get_loops(by_rows)[-4:]
    schedule.reorder(r_j, r_a, r_lane)
    partition(schedule, across)
    if domain.workload.in_channels % simd.lanes(domain.workload.dtype):
        for loop in (c_outer, c_lane, r_lane):
            partition(schedule, loop)
    specialize(schedule, c_outer)
    for loop in (a, r_j):
        unroll_points(schedule, simd, loop)
    unroll(schedule, [b, r_a])
    schedule.vectorize(c_lane)
    schedule.vectorize(r_lane)


def unroll_points(schedule: s_tir.Schedule, simd: Simd, loop: Any) -> None:
    """Unroll ``loop`` over rows or columns of a tile, on NEON by threes or twos, or not at all.

    A whole tile is more vectors than there are registers. On x86-64 what spills costs less than the
    loop would (5 % of the whole kernel, measured); NEON has no registers to spare for it.
    """
    if simd.fma_by_element:
        step = 1 if simd.in_order else next(n for n in (3, 2, 1) if extent(schedule, loop) % n == 0)
        loop, step_loop = schedule.split(loop, [None, step])
        c_abi.keep_rolled(schedule, loop, small=simd.in_order)
        schedule.unroll(step_loop)
    else:
        schedule.unroll(loop)
