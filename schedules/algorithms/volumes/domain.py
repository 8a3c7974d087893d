"""Winograd's domain of a layer of volumes: three transforms, one along each axis.

Depth comes first, as the layer of images that is left then has the transforms of
:mod:`schedules.algorithms.winograd.domain`. Points ``(a_d, a_h, a_w)`` are counted in this order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tvm import te, tirx

from schedules.algorithms.winograd.domain import Domain
from schedules.algorithms.winograd.linear import select_row
from schedules.kernel.epilogue import finished
from schedules.kernel.knobs import Knobs
from schedules.kernel.packing import Matrix
from schedules.kernel.patches import masked
from schedules.kernel.quantised.constants import Constants
from schedules.layer.volume import Conv3dWorkload
from schedules.transforms.cook_toom import ExactMatrix, Filtering, as_floats, filtering


@dataclass(frozen=True)
class VolumeDomain(Domain):
    """The transformed domain: strips are rows of tiles of a *slab*, ``depth.outputs`` images."""

    depth: Filtering

    @classmethod
    def of_volume(cls, layer: Conv3dWorkload, knobs: Knobs) -> VolumeDomain:
        """F(``outputs``, r) along every axis on which the kernel is longer than 1."""

        def along(taps: int) -> Filtering:
            return filtering(knobs["outputs"] if taps > 1 else 1, taps)

        _, *kernel, _ = layer.weight_shape
        depth, rows, columns = map(along, kernel)
        channels = layer.out_channels
        whole = cls(layer, rows, columns, 1, knobs["c_block"], False, channels, depth)
        return replace(whole, strip=min(knobs["strip"], whole.tile_rows))

    @property
    def layer(self) -> Conv3dWorkload:
        """What is computed."""
        assert isinstance(self.workload, Conv3dWorkload)
        return self.workload

    @property
    def points(self) -> int:
        """``n_d n_h n_w``: matrix products."""
        return self.depth.inputs * super().points

    @property
    def slabs(self) -> int:
        """Slabs of a volume; the last may reach beyond it."""
        return -(-self.layer.out_depth // self.depth.outputs)

    @property
    def images(self) -> int:
        """1: a strip is one slab's."""
        return 1

    @property
    def strip_shape(self) -> tuple[int, int]:
        """Slabs of all volumes, and the strips of one."""
        return self.layer.batch * self.slabs, self.image_strips

    @property
    def amplification(self) -> float:
        """How much larger rounding errors become."""
        return math.prod(f.amplification for f in (self.depth, self.rows, self.columns))

    def weight_transform(self) -> tuple[Matrix, Matrix]:
        """Of the rows of all images of the kernel, ``G_d (x) G_h``, and of its columns."""
        rows = _kronecker(self.depth.kernel, self.rows.kernel)
        first, last = (
            tuple(map(tuple, as_floats(matrix).tolist())) for matrix in (rows, self.columns.kernel)
        )
        return first, last


def _kronecker(a: ExactMatrix, b: ExactMatrix) -> ExactMatrix:
    return tuple(tuple(x * y for x in above for y in below) for above in a for below in b)


def transform_volume(domain: VolumeDomain, image: te.Tensor) -> te.Tensor:
    """Block ``V``, for every tile and channel; blocks ``VD`` and ``VR`` are those before it."""
    layer, across = domain.layer, domain.tile_columns
    axes = (domain.depth, domain.rows, domain.columns)
    n_d, n_h, n_w = (axis.inputs for axis in axes)
    slabs, strips, tiles, channels = *domain.strip_shape, domain.tiles, layer.in_channels
    dtype = layer.dtype

    def pixel(
        place: Sequence[tirx.Expr], z: int, i: tirx.Expr, j: tirx.Expr, c: tirx.Expr
    ) -> tirx.Expr:
        slab, s, tile = place
        d = slab % domain.slabs * domain.depth.outputs + z - layer.pad_front
        h = s * domain.strip_rows + tile // across * domain.rows.outputs + i - layer.pad_top
        w = tile % across * domain.columns.outputs + j - layer.pad_left
        inside = [d >= 0] * (layer.pad_front > z) + [d < layer.in_depth]
        inside += [h >= 0] * (layer.pad_top > 0) + [h < layer.in_height]
        inside += [w >= 0] * (layer.pad_left > 0) + [w < layer.in_width]
        element = image[slab // domain.slabs, d, h, w * channels + c]
        return masked(inside, element, dtype)

    def by_depth(
        n: tirx.Expr, s: tirx.Expr, a: tirx.Expr, t: tirx.Expr, *rest: tirx.Expr
    ) -> tirx.Expr:
        pixels = [pixel((n, s, t), z, *rest) for z in range(n_d)]
        return select_row(domain.depth.image, a, pixels, dtype)

    stacks = te.compute((slabs, strips, n_d, tiles, n_h, n_w, channels), by_depth, name="VD")

    def by_row(
        n: tirx.Expr, s: tirx.Expr, a: tirx.Expr, b: tirx.Expr, t: tirx.Expr, *rest: tirx.Expr
    ) -> tirx.Expr:
        pixels = [stacks(n, s, a, t, i, *rest) for i in range(n_h)]
        return select_row(domain.rows.image, b, pixels, dtype)

    rows = te.compute((slabs, strips, n_d, n_h, tiles, n_w, channels), by_row, name="VR")

    def point(n: tirx.Expr, s: tirx.Expr, p: tirx.Expr, t: tirx.Expr, c: tirx.Expr) -> tirx.Expr:
        a, b = p // (n_h * n_w), p // n_w % n_h
        pixels = [rows[n, s, a, b, t, j, c] for j in range(n_w)]
        return select_row(domain.columns.image, p % n_w, pixels, dtype)

    return te.compute((slabs, strips, domain.points, tiles, channels), point, name="V")


def transform_volume_products(
    domain: VolumeDomain, products: te.Tensor, constants: Constants
) -> list[te.Tensor]:
    """Argument ``R``, if there is one, and block ``Y``; ``MD`` and ``MR`` are those before it."""
    layer, across, strip_rows = domain.layer, domain.tile_columns, domain.strip_rows
    depth, rows, columns = domain.depth, domain.rows, domain.columns
    n_h, n_w, m_h, m_w = rows.inputs, columns.inputs, rows.outputs, columns.outputs
    slabs, strips = domain.strip_shape
    channels, dtype = layer.out_channels, layer.dtype

    def by_depth(
        n: tirx.Expr,
        s: tirx.Expr,
        z: tirx.Expr,
        t: tirx.Expr,
        a: tirx.Expr,
        b: tirx.Expr,
        o: tirx.Expr,
    ) -> tirx.Expr:
        place = a * n_w + b
        points = [products[n, s, k * n_h * n_w + place, t, o] for k in range(depth.inputs)]
        return select_row(depth.output, z, points, dtype)

    shape: tuple[int, ...] = (slabs, strips, depth.outputs, domain.tiles, n_h, n_w, channels)
    stacks = te.compute(shape, by_depth, name="MD")

    def by_row(
        n: tirx.Expr,
        s: tirx.Expr,
        z: tirx.Expr,
        row: tirx.Expr,
        x: tirx.Expr,
        b: tirx.Expr,
        o: tirx.Expr,
    ) -> tirx.Expr:
        points = [stacks[n, s, z, row // m_h * across + x, a, b, o] for a in range(n_h)]
        return select_row(rows.output, row % m_h, points, dtype)

    shape = (slabs, strips, depth.outputs, strip_rows, across, n_w, channels)
    by_rows = te.compute(shape, by_row, name="MR")

    def pixel(n: tirx.Expr, d: tirx.Expr, h: tirx.Expr, w: tirx.Expr, o: tirx.Expr) -> tirx.Expr:
        slab, z = n * domain.slabs + d // depth.outputs, d % depth.outputs
        place = (slab, h // strip_rows, z, h % strip_rows, w // m_w)
        points = [by_rows(*place, b, o) for b in range(n_w)]
        return select_row(columns.output, w % m_w, points, dtype)

    return finished(layer, pixel, constants)
