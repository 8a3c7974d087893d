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
from dataclasses import replace
from typing import Any

from tvm import s_tir, te

from schedules.algorithms.base import LayerAlgorithm
from schedules.algorithms.winograd.cook_toom import ExactMatrix, as_floats
from schedules.algorithms.winograd.domain import (
    Domain,
    multiply,
    transform_image,
    transform_products,
)
from schedules.algorithms.winograd.schedule import schedule_strips
from schedules.kernel import accuracy, packing, tiles
from schedules.kernel.knobs import NO_KNOBS, Knob, Knobs, by_name
from schedules.kernel.loop_nests import LoopNest, product_nest
from schedules.kernel.packing import Matrix, PackedWeights
from schedules.kernel.patches import placeholders
from schedules.kernel.tiles import Product, Tile
from schedules.layer.workload import Conv2dWorkload
from schedules.lower.memory import align
from schedules.target.simd import Simd

#: Image pixels of a tile along one axis, at most: with more, the rounding error is out of hand.
MAX_INPUTS = 10
#: The m of F(m, r).
FORMS = (2, 4, 6)
#: And with so many, it is near that of the definition: the default.
ACCURATE_INPUTS = 6
#: Roundings of one product that matter: of the transformed image, weight and output.
TRANSFORM_ROUNDINGS = 8
#: Channels of a running sum at most. Shorter sums err less, which Winograd's transforms magnify. On
#: NEON another sum costs 60 instructions a register tile: 8 % at 64 channels, measured.
SUM, NEON_SUM = 16, 64
#: Channels of a sum that is tried: with fewer, adding up the sums takes too long; with more, if not
#: all, no time is saved, but accuracy lost.
MIN_SUM_CHANNELS, MAX_SUM_CHANNELS = 8, 64
#: Tiles of a strip: with fewer, each weight is loaded for too few products.
ENOUGH_TILES = 4


class Winograd(LayerAlgorithm):
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
        choices = tiles.knobs(product_of(domain), simd)
        strips = tuple(sorted({1, 2, 4, 8, strip}))

        def is_sum(size: int) -> bool:
            in_between = MIN_SUM_CHANNELS <= size <= MAX_SUM_CHANNELS
            return in_between or size == workload.in_channels

        def is_strip(rows: int) -> bool:
            # No strip has more rows of tiles than the image: of those that reach it, the shortest.
            return not any(domain.tile_rows <= other < rows for other in strips)

        # A point's matrices stay in the cache until all of its products are done.
        orders = tuple(order for order in tiles.ORDERS if order.startswith("rows"))
        return choices | by_name(
            replace(choices["order"], choices=orders, default=orders[1]),
            Knob("c_block", c_blocks(workload), c_block, tried=is_sum),
            Knob("outputs", forms, outputs),
            Knob("strip", strips, strip, tried=is_strip),
        )

    def product(self, workload: Conv2dWorkload, simd: Simd) -> Product:
        return product_of(Domain.of(workload, self.default_knobs(workload, simd)))

    def loop_nests(self, workload: Conv2dWorkload, simd: Simd, knobs: Knobs) -> Sequence[LoopNest]:
        product = product_of(Domain.of(workload, knobs))
        return [product_nest(product, self.macs(workload, knobs), simd, Tile.of(knobs))]

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
        transform = (floats(domain.rows.kernel), floats(domain.columns.kernel))
        return packing.winograd(workload, knobs["panel"], transform)

    def schedule(self, workload: Conv2dWorkload, simd: Simd, knobs: Knobs) -> s_tir.Schedule:
        domain, tile = Domain.of(workload, knobs), Tile.of(knobs)
        image, weights, bias = placeholders(workload, self.packed_weights(workload, knobs))
        transformed = transform_image(domain, image)
        products = multiply(domain, transformed, weights, tile)
        results = transform_products(domain, products, bias)
        schedule = s_tir.Schedule(te.create_prim_func([image, weights, bias, *results]))
        schedule_strips(schedule, domain, simd, tile)
        return schedule


def product_of(domain: Domain) -> Product:
    """What the micro-kernel multiplies in each point."""
    return Product(domain.products, domain.taps, domain.tiles)


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
    return tuple(m for m in FORMS if m + kernel - 1 <= MAX_INPUTS)


def floats(matrix: ExactMatrix) -> Matrix:
    """The matrix as packed weights take it."""
    return tuple(map(tuple, as_floats(matrix).tolist()))
