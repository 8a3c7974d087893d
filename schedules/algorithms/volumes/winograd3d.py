"""``winograd3d``: Winograd's algorithm along depth, height and width.

``V = (B_d (x) B_h (x) B_w)^T d``, and likewise for weights and products: F(m x m x m, r x r x r)
has ``(m + r - 1)^3`` products for ``m^3`` outputs of an input channel, where the definition has
``m^3 r^3``: 3.4 times fewer for F(2), 3x3x3, and 8 times fewer for F(4). The literature's networks
of volumes (Budden et al., "Deep Tensor Convolution on Multicores", arXiv 1611.06565) are computed
so. Everything else is as :mod:`schedules.algorithms.winograd.winograd` has it, of weights that are
packed ``transformed``: strips are rows of tiles, of one *slab* of m images. A kernel that is 1 long
along an axis is not transformed along it.

Workspace, in elements, a thread, for the P tiles of a strip: ``n^3 (P C + L)`` and
``n^3 (P M + L)``, each behind the last cache line of the one before; L elements are a cache line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tvm import s_tir, te

from schedules.algorithms.volumes.domain import (
    VolumeDomain,
    transform_volume,
    transform_volume_products,
)
from schedules.algorithms.volumes.indirect3d import VolumeAlgorithm
from schedules.algorithms.volumes.schedule import schedule_slabs
from schedules.algorithms.winograd.domain import multiply
from schedules.algorithms.winograd.winograd import (
    MAX_INPUTS,
    c_blocks,
    default_c_block,
    fewest_rows,
    product_of,
)
from schedules.kernel import accuracy, packing, tiles
from schedules.kernel.costs import Work, reads
from schedules.kernel.knobs import NO_KNOBS, Knob, Knobs, by_name
from schedules.kernel.loop_nests import LoopNest, product_nest
from schedules.kernel.packing import PackedWeights
from schedules.kernel.quantised.constants import Constants
from schedules.kernel.sharing import Share
from schedules.kernel.tiles import Product, Tile
from schedules.layer.volume import Conv3dWorkload
from schedules.layer.workload import Conv2dWorkload
from schedules.lower.memory import join
from schedules.target.simd import Simd

#: The m of F(m, r).
FORMS = (2, 4)
#: Roundings of one product that matter: four an axis.
TRANSFORM_ROUNDINGS = 12


class Winograd3d(VolumeAlgorithm):
    """Lavin and Gray, arXiv 1509.09308, along one more axis."""

    name = "winograd3d"
    source = "Budden et al., Deep Tensor Convolution on Multicores, arXiv 1611.06565"
    workspace = "n^3 P (C + M), P tiles of a strip"
    good_for = "3x3x3 of stride 1: a fraction of the products"
    transforms = True

    def supports(self, workload: Conv2dWorkload, simd: Simd) -> str | None:
        reason = super().supports(workload, simd)
        if reason is not None or not isinstance(workload, Conv3dWorkload):
            return reason
        _, *kernel, _ = workload.weight_shape
        strides = (workload.stride_depth, workload.stride_height, workload.stride_width)
        dilations = (workload.dilation_depth, workload.dilation_height, workload.dilation_width)
        if {*strides, *dilations} != {1}:
            return "Winograd's algorithm needs stride 1 and dilation 1"
        if max(kernel) == 1:
            return "a 1x1x1 kernel has no overlapping products to save"
        if max(kernel) + max(FORMS) - 1 > MAX_INPUTS:
            return f"a kernel of {max(kernel)} needs tiles of more than {MAX_INPUTS} pixels"
        return None

    def forms(self, workload: Conv2dWorkload) -> Sequence[Knobs]:
        return tuple({"outputs": m} for m in FORMS)

    def knobs(self, workload: Conv2dWorkload, simd: Simd) -> Mapping[str, Knob]:
        return self._knobs(workload, simd, NO_KNOBS)

    def default_knobs(
        self, workload: Conv2dWorkload, simd: Simd, fixed: Knobs = NO_KNOBS
    ) -> dict[str, Any]:
        form = {name: fixed[name] for name in ("outputs", "c_block", "strip") if name in fixed}
        self.choose(workload, self._knobs(workload, simd, NO_KNOBS), form)
        return self.choose(workload, self._knobs(workload, simd, form), fixed)

    def _knobs(self, workload: Conv2dWorkload, simd: Simd, fixed: Knobs) -> dict[str, Knob]:
        outputs = fixed.get("outputs", FORMS[0])
        c_block = fixed.get("c_block") or default_c_block(workload, simd, outputs)
        form = {"outputs": outputs, "c_block": c_block, "strip": workload.out_height}
        whole = _domain(workload, form)
        strip = fixed.get("strip") or fewest_rows(whole, simd)
        choices = tiles.knobs(product_of(replace(whole, strip=strip), simd), simd)
        orders = tuple(order for order in tiles.ORDERS if order.startswith("rows"))
        strips = tuple(range(1, workload.out_height + 1))

        def is_strip(rows: int) -> bool:
            return rows in (1, 2, strip) and rows <= whole.strip

        return dict(choices) | by_name(
            replace(choices["order"], choices=orders, default=orders[1]),
            Knob("c_block", c_blocks(workload), c_block),
            Knob("outputs", FORMS, outputs),
            Knob("strip", strips, strip, tried=is_strip),
        )

    def product(self, workload: Conv2dWorkload, simd: Simd) -> Product:
        return product_of(_domain(workload, self.default_knobs(workload, simd)), simd)

    def loop_nests(self, workload: Conv2dWorkload, simd: Simd, knobs: Knobs) -> Sequence[LoopNest]:
        product = product_of(_domain(workload, knobs), simd)
        return [product_nest(product, self.macs(workload, knobs), simd, Tile.of(knobs))]

    def workspace_bytes(self, workload: Conv2dWorkload, knobs: Knobs) -> int:
        domain = _domain(workload, knobs)
        elements = (domain.image_elements, domain.product_elements)
        return join(*(count * workload.element_bytes for count in elements))

    def thread_bytes(self, workload: Conv2dWorkload, knobs: Knobs) -> int:
        # Threads share strips.
        return self.workspace_bytes(workload, knobs)

    def macs(self, workload: Conv2dWorkload, knobs: Knobs) -> int:
        domain = _domain(workload, knobs)
        products = domain.strips * domain.points * domain.tiles
        return products * workload.in_channels * workload.out_channels

    def moved_elements(self, workload: Conv2dWorkload, knobs: Knobs) -> int:
        # Three transforms where images have two; and vectors of few channels are not full.
        domain = _domain(workload, knobs)
        image = -(-workload.in_channels // domain.line) * domain.line
        points = domain.strips * domain.points * domain.tiles
        return points * (image + workload.out_channels) * 3 // 2

    def weight_work(self, workload: Conv2dWorkload, simd: Simd, knobs: Knobs) -> Work:
        """All weights are read for every strip."""
        domain = _domain(workload, knobs)
        held = (domain.image_elements + domain.product_elements) * workload.element_bytes
        packed = self.packed_weights(workload, knobs)
        return reads(packed.weight_bytes, domain.strips, simd, beside=held)

    def shares(self, workload: Conv2dWorkload, simd: Simd, knobs: Knobs) -> Sequence[Share]:
        return (Share(_domain(workload, knobs).image_strips),)

    def expected_error(self, workload: Conv2dWorkload, knobs: Knobs) -> float:
        domain = _domain(workload, knobs)
        terms = domain.c_block + workload.in_channels // domain.c_block
        return accuracy.relative_error(terms, domain.amplification, TRANSFORM_ROUNDINGS)

    def packed_weights(self, workload: Conv2dWorkload, knobs: Knobs) -> PackedWeights:
        transform = _domain(workload, knobs).weight_transform()
        return packing.winograd(workload, knobs["panel"], transform)

    def schedule(self, workload: Conv2dWorkload, simd: Simd, knobs: Knobs) -> s_tir.Schedule:
        domain, tile = _domain(workload, knobs), Tile.of(knobs)
        packed = self.packed_weights(workload, knobs)
        *shape, width, channels = domain.layer.input_shape
        image = te.placeholder((*shape, width * channels), workload.dtype, name="X")
        weights = te.placeholder(packed.shape, packed.dtype, name="W")
        constants = Constants.of(workload, packed)
        products = multiply(domain, transform_volume(domain, image), weights, tile)
        results = transform_volume_products(domain, products, constants)
        arguments = [image, weights, *constants.tensors, *results]
        schedule = s_tir.Schedule(te.create_prim_func(arguments))
        schedule_slabs(schedule, domain, simd, tile)
        return schedule


def _domain(workload: Conv2dWorkload, knobs: Knobs) -> VolumeDomain:
    assert isinstance(workload, Conv3dWorkload)
    return VolumeDomain.of_volume(workload, knobs)
