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
memory of the one before. Threads share the strips or, if there is only one, channels and points.
``B_h^T d`` and ``A_h^T M`` of one tile and one vector of channels are on the stack.

Workspace: ``n_h n_w P (C + M)`` elements a thread, for the P tiles of a strip; behind V rounded up
to a cache line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tvm import s_tir, te, tirx

from schedules import accuracy, c_abi, packing, tiles
from schedules.algorithms.base import Algorithm
from schedules.cook_toom import Filtering, as_floats, filtering
from schedules.epilogue import finish
from schedules.knobs import NO_KNOBS, Knob, Knobs
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
#: And with so many, it is near that of the definition: the default.
ACCURATE_INPUTS = 6
#: Image pixels of a tile along one axis that are still unrolled on x86-64.
MAX_UNROLLED_INPUTS = 6
#: Roundings of one product that matter: of the transformed image, weight and output.
TRANSFORM_ROUNDINGS = 8
#: Channels of a running sum at most. Shorter sums err less, which Winograd's transforms magnify. On
#: NEON each sum costs about 60 instructions a register tile, 3 % of 64 channels.
SUM, NEON_SUM = 16, 64
#: Tiles of a strip: with fewer, each weight is loaded for too few products.
ENOUGH_TILES = 4


class Winograd(Algorithm):
    """Lavin and Gray, arXiv 1509.09308."""

    name = "winograd"
    source = "Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, arXiv 1509.09308"
    transforms = True

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

    def forms(self, workload: Conv2dWorkload) -> Sequence[Knobs]:
        return [{"outputs": m} for m in outputs_of(workload)]

    def knobs(self, workload: Conv2dWorkload, simd: Simd) -> Mapping[str, Knob]:
        return self._knobs(workload, simd, NO_KNOBS)

    def default_knobs(
        self, workload: Conv2dWorkload, simd: Simd, fixed: Knobs = NO_KNOBS
    ) -> dict[str, Any]:
        # The best tile of the products depends on how many there are.
        super().default_knobs(workload, simd, fixed)
        knobs = self._knobs(workload, simd, fixed)
        return {name: fixed.get(name, knob.default) for name, knob in knobs.items()}

    def _knobs(self, workload: Conv2dWorkload, simd: Simd, fixed: Knobs) -> dict[str, Knob]:
        forms = outputs_of(workload)
        kernel = max(workload.kernel_height, workload.kernel_width)
        accurate = [m for m in forms if m + kernel - 1 <= ACCURATE_INPUTS]
        outputs = fixed.get("outputs", max(accurate, default=forms[0]))
        strip = fixed.get("strip", default_strip(workload, outputs))
        c_block = fixed.get("c_block", default_c_block(workload, simd))
        domain = Domain.of(workload, {"outputs": outputs, "strip": strip, "c_block": c_block})
        choices = tiles.knobs(domain.products, simd, domain.taps, domain.tiles)
        # A point's matrices stay in the cache until all of its products are done.
        orders = tuple(order for order in tiles.ORDERS if order.startswith("rows"))
        return {
            **choices,
            "order": Knob(orders, orders[1]),
            "c_block": Knob(c_blocks(workload), c_block),
            "outputs": Knob(forms, outputs),
            "strip": Knob(tuple(sorted({1, 2, 4, 8, strip})), strip),
        }

    def workspace_bytes(self, workload: Conv2dWorkload, knobs: Knobs) -> int:
        domain = Domain.of(workload, knobs)
        points = domain.points * domain.tiles * workload.element_bytes
        return align(points * workload.in_channels) + points * workload.out_channels

    def macs(self, workload: Conv2dWorkload, knobs: Knobs) -> int:
        domain = Domain.of(workload, knobs)
        products = domain.strips * domain.points * domain.tiles
        return products * workload.in_channels * workload.out_channels

    def moved_elements(self, workload: Conv2dWorkload, knobs: Knobs) -> int:
        domain = Domain.of(workload, knobs)
        channels = workload.in_channels + workload.out_channels
        return domain.strips * domain.points * domain.tiles * channels

    def expected_error(self, workload: Conv2dWorkload, knobs: Knobs) -> float:
        domain = Domain.of(workload, knobs)
        return accuracy.relative_error(
            # A running sum over a block, and one over the blocks.
            domain.c_block + workload.in_channels // domain.c_block,
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


def c_blocks(workload: Conv2dWorkload) -> tuple[int, ...]:
    """Numbers of channels that divide them all."""
    channels = workload.in_channels
    return tuple(size for size in range(1, channels + 1) if channels % size == 0)


def default_c_block(workload: Conv2dWorkload, simd: Simd) -> int:
    """Channels whose products are summed in registers before they are added to M."""
    most = NEON_SUM if simd.fma_by_element else SUM
    largest = max(size for size in c_blocks(workload) if size <= most)
    return largest if 2 * largest >= min(most, workload.in_channels) else workload.in_channels


def default_strip(workload: Conv2dWorkload, outputs: int) -> int:
    """The fewest rows of tiles that hold enough of them to fill a register tile."""
    domain = Domain.of(workload, {"outputs": outputs, "strip": 1, "c_block": 1})
    return min(-(-ENOUGH_TILES // domain.tile_columns), domain.tile_rows)


def outputs_of(workload: Conv2dWorkload) -> tuple[int, ...]:
    """The m of F(m, r) to choose from."""
    kernel = max(workload.kernel_height, workload.kernel_width)
    return tuple(m for m in (2, 4, 6) if m + kernel - 1 <= MAX_INPUTS)


def _floats(filtering: Filtering) -> Matrix:
    return tuple(map(tuple, as_floats(filtering.kernel).tolist()))


@dataclass(frozen=True)
class Domain:
    """The transformed domain of one layer: its points, and how tiles make up strips."""

    workload: Conv2dWorkload
    rows: Filtering
    columns: Filtering
    strip: int
    c_block: int

    @classmethod
    def of(cls, workload: Conv2dWorkload, knobs: Knobs) -> Domain:
        """F(``outputs``, r) along every axis on which the kernel is longer than 1."""

        def along(taps: int) -> Filtering:
            return filtering(knobs["outputs"] if taps > 1 else 1, taps)

        rows, columns = along(workload.kernel_height), along(workload.kernel_width)
        whole = cls(workload, rows, columns, 1, knobs["c_block"])
        return replace(whole, strip=min(knobs["strip"], whole.tile_rows))

    @property
    def points(self) -> int:
        """``n_h n_w``: matrix products."""
        return self.rows.inputs * self.columns.inputs

    @property
    def blocked(self) -> bool:
        """Whether there are several blocks of channels."""
        return self.c_block < self.workload.in_channels

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
        """Of a block of the matrix products: nothing but channels."""
        return Taps(1, 1, self.c_block, flat=False)

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

    It is the sum over blocks of channels of block ``ACC``, which is rounded up to whole register
    tiles; elements of V are block ``A``.
    """
    layer, columns = domain.workload, tile.rounded(domain.tiles)
    size = domain.c_block
    count = layer.in_channels // size
    k = te.reduce_axis((0, size), name="c")

    def inside(w: tirx.Expr) -> list[tirx.Expr]:
        return [w < domain.tiles] * (columns > domain.tiles)

    strips = (layer.batch, domain.image_strips, domain.points)
    element = te.compute(
        (*strips, columns, layer.in_channels),
        lambda n, s, p, w, c: masked(inside(w), transformed[n, s, p, w, c], layer.dtype),
        name="A",
    )

    def sum_of_products(
        b: tirx.Expr, n: tirx.Expr, s: tirx.Expr, p: tirx.Expr, w: tirx.Expr, o: tirx.Expr
    ) -> tirx.Expr:
        c = b * size + k
        value = element[n, s, p, w, c] * weights[p, o // tile.panel, c, o % tile.panel]
        return te.sum(masked(inside(w), value, layer.dtype), axis=[k])

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
    """Image to V, V to M, M to output: strip by strip, or, if there is but one, in three stages."""
    lanes, channels = simd.lanes(domain.workload.dtype), domain.workload.out_channels
    whole = domain.strips == 1
    _, h, w, o = schedule.get_loops(schedule.get_sblock("Y"))
    strip, down, y = schedule.split(h, [None, domain.strip, domain.rows.outputs])
    across, x = schedule.split(w, [None, domain.columns.outputs])
    o_outer, o_lane = schedule.split(o, [None, lanes])
    walk = (o_outer, down, across) if whole else (down, across, o_outer)
    schedule.reorder(strip, *walk, y, x, o_lane)
    if channels % lanes:
        for loop in (o_outer, o_lane):
            partition(schedule, loop)
    # From the last step to the first: each is placed where the next one needs it.
    schedule_output(schedule, domain, simd, walk[-1], (y, x, o_lane))
    point = schedule_products(schedule, domain, simd, tile, None if whole else strip)
    vector = schedule_image(schedule, domain, simd, None if whole else strip)
    if whole:
        # Channels before, points, channels again.
        for stage, loop in enumerate((vector, point, o_outer)):
            c_abi.mark_stage(schedule, loop, stage)
    else:
        c_abi.mark_stage(schedule, strip)


def schedule_output(
    schedule: s_tir.Schedule, domain: Domain, simd: Simd, vector: Any, tile: tuple[Any, Any, Any]
) -> None:
    """M to output: for each step of ``vector``, one vector of channels of a tile, rows first."""
    y, x, o_lane = tile
    by_rows = schedule.get_sblock("MR")
    schedule.set_scope(by_rows, 0, "local")
    schedule.compute_at(by_rows, vector, preserve_unit_loops=True)
    r_y, _, r_b, r_lane = schedule.get_loops(by_rows)[-4:]
    schedule.reorder(r_b, r_y, r_lane)
    if domain.workload.out_channels % simd.lanes(domain.workload.dtype):
        partition(schedule, r_lane)
    for loop in (y, r_b):
        unroll_points(schedule, simd, loop)
    unroll(schedule, [x, r_y])
    schedule.vectorize(o_lane)
    schedule.vectorize(r_lane)


def schedule_products(
    schedule: s_tir.Schedule, domain: Domain, simd: Simd, tile: Tile, strip: Any | None
) -> Any:
    """V to M in register tiles, in each step of ``strip``; returns the loop over points."""
    layer = domain.workload
    products = schedule.get_sblock("M")
    if strip is not None:
        schedule.compute_at(products, strip, preserve_unit_loops=True)
    point, t, o, *blocks = schedule.get_loops(products)[-3 - domain.blocked :]
    t_outer, t_inner = schedule.split(t, [None, tile.columns])
    lanes = simd.lanes(layer.dtype)
    o_outer, o_vector, o_lane = schedule.split(o, [None, tile.panel // lanes, lanes])
    loops = {"rows": point, "columns": t_outer, "panels": o_outer}
    order = [loops[name] for name in tile.order.split(",")]
    schedule.reorder(*order, *blocks, t_inner, o_vector, o_lane)
    block_products = replace(domain.products, in_channels=domain.c_block)
    accumulate_tile(schedule, block_products, simd, tile, [*order, *blocks][-1])
    partition(schedule, t_outer)
    if layer.out_channels % tile.panel:
        for loop in (o_outer, o_vector, o_lane):
            partition(schedule, loop)
    unroll(schedule, [t_inner, o_vector])
    schedule.vectorize(o_lane)
    if blocks:
        schedule.decompose_reduction(products, blocks[0])
    return point


def schedule_image(schedule: s_tir.Schedule, domain: Domain, simd: Simd, strip: Any | None) -> Any:
    """Image to V, a vector of channels of a tile at a time, rows first; returns that loop."""
    lanes = simd.lanes(domain.workload.dtype)
    transformed, by_rows = schedule.get_sblock("V"), schedule.get_sblock("VR")
    if strip is not None:
        schedule.compute_at(transformed, strip, preserve_unit_loops=True)
    point, t, c = schedule.get_loops(transformed)[-3:]
    a, b = schedule.split(point, [None, domain.columns.inputs])
    down, across = schedule.split(t, [None, domain.tile_columns])
    c_outer, c_lane = schedule.split(c, [None, lanes])
    walk = (c_outer, down, across) if strip is None else (down, across, c_outer)
    schedule.reorder(*walk, a, b, c_lane)
    schedule.set_scope(by_rows, 0, "local")
    schedule.compute_at(by_rows, walk[-1], preserve_unit_loops=True)
    r_a, _, r_j, r_lane = schedule.get_loops(by_rows)[-4:]
    schedule.reorder(r_j, r_a, r_lane)
    partition(schedule, across)
    if domain.workload.in_channels % lanes:
        for loop in (c_outer, c_lane, r_lane):
            partition(schedule, loop)
    specialize(schedule, walk[-1])
    for loop in (a, r_j):
        unroll_points(schedule, simd, loop)
    unroll(schedule, [b, r_a])
    schedule.vectorize(c_lane)
    schedule.vectorize(r_lane)
    return c_outer


def unroll_points(schedule: s_tir.Schedule, simd: Simd, loop: Any) -> None:
    """Unroll ``loop`` over rows or columns of a tile: whole, by threes or twos, or not at all.

    A whole tile is more vectors than there are registers. On x86-64 what spills costs less than the
    loop would (5 % of the whole kernel, measured), if the tile is not too large to compile; NEON
    has no registers to spare for it.
    """
    size = extent(schedule, loop)
    if simd.fma_by_element or size > MAX_UNROLLED_INPUTS:
        step = 1 if simd.in_order else next(n for n in (3, 2, 1) if size % n == 0)
        loop, step_loop = schedule.split(loop, [None, step])
        c_abi.keep_rolled(schedule, loop, small=simd.in_order)
        schedule.unroll(step_loop)
    else:
        schedule.unroll(loop)
