"""``strassen``: 1x1 layers as seven products of quadrants instead of eight.

Strassen, "Gaussian Elimination is not Optimal" (Numerische Mathematik 13, 1969), one level of it,
by Winograd's form of fifteen additions. Pixels, input channels and output channels are halved, so
that the image and the weights are 2 x 2 quadrants each. Four factors of the seven products are sums
of quadrants of the image, four are sums of those of the weights; what is added up of the products
stays in registers, tile by tile (:mod:`schedules.algorithms.strassen.kernel`). Weights are packed
as for ``indirect``, which several threads run instead: their sums are made in the kernel.

Knob ``order``: with ``panels``, the sums of the image are made first and those of the weights
panel by panel, while the first tile is multiplied by them; with ``rows``, those of the weights
first and those of the image tile by tile.

Products of sums are larger than what is left of them in the end: the error is 2.2 times that of the
definition. A NaN or an infinity gets from a pixel to that of the other half.

Workspace, in elements, of H W pixels, c of a tile, and panels of p output channels; what is made
as it goes, each thread has for itself::

    panels    H W C, 2 C p    rows    C M, 2 C c
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tvm import s_tir

from schedules.algorithms.base import FLOAT32, LayerAlgorithm, is_one_by_one
from schedules.algorithms.indirect import Indirect
from schedules.algorithms.strassen.kernel import schedule_quadrants
from schedules.algorithms.strassen.quadrants import (
    PANELS,
    ROWS,
    Quadrants,
    has_halves,
    line_of,
    tiles_of,
)
from schedules.kernel import accuracy
from schedules.kernel.costs import Work, moves
from schedules.kernel.knobs import Knob, Knobs, by_name
from schedules.kernel.packing import PACKED
from schedules.kernel.sharing import Share, tensor_bytes
from schedules.layer.workload import Conv2dWorkload
from schedules.lower.memory import join
from schedules.target.simd import Simd

#: Products, and those of the definition.
PRODUCTS, ALL_PRODUCTS = 7, 8
#: Elements copied as :mod:`schedules.kernel.costs` knows it, for each of the output: sums of
#: products are kept and added to others. Layers of 14x14 to 56x56 pixels took .89 to .96 of the
#: time of ``indirect`` on a Zen 4, of which the model says .92 to .99.
KEPT = 1.2
#: How many times as long as modelled it takes where threads share it, as sums of one are read by
#: all: on two of a Zen 4, MobileNetV1 took 1.11 of the time that it takes by ``indirect``.
SHARED_COST = 1.3
#: Roundings of the factors that befall a product: by the reckoning of
#: :data:`schedules.kernel.accuracy.STRASSEN_GROWTH`, 35 h where sums have squares of 9.75 h^2.
FACTOR_ROUNDINGS = 3.6
#: What several threads run.
_THREADS = Indirect()


class Strassen(LayerAlgorithm):
    """Strassen 1969, by Winograd's form."""

    name = "strassen"
    source = "Strassen, Gaussian Elimination is not Optimal, 1969, by Winograd's 15 additions"
    workspace = "H W C + 2 C p, or C M + 2 C c: p channels, c pixels of a tile"
    good_for = "1x1 layers of many channels, on x86-64: seven eighths of the products"
    transforms = True
    types = FLOAT32
    kind = "pointwise"
    shared_as = Indirect.name
    writes_once = True

    @property
    def computes(self) -> str:
        return "float32, 1x1 layers"

    def supports(self, workload: Conv2dWorkload, simd: Simd) -> str | None:
        if not is_one_by_one(workload):
            return "it multiplies matrices: 1x1 kernels without padding"
        if simd.fma_by_element:
            return "its tiles broadcast scalars from memory, which is for x86-64"
        if workload.group_of > 1:
            return "pixels of a group have others between them"
        lanes = simd.lanes(workload.dtype)
        if not has_halves(workload, lanes):
            return f"halves need an even number of pixels, and channels in multiples of {2 * lanes}"
        if not tiles_of(workload, simd):
            return f"no register tile divides {line_of(workload)} pixels"
        return super().supports(workload, simd)

    def knobs(self, workload: Conv2dWorkload, simd: Simd) -> Mapping[str, Knob]:
        tiles, lanes = tiles_of(workload, simd), simd.lanes(workload.dtype)
        # Threads run ``indirect`` with this panel: its own is better for it, and no worse here.
        best = _THREADS.default_knobs(workload, simd, {"weights": PACKED})["panel"]
        columns, panel = min(tiles, key=lambda tile: tile[1] != best)
        # What is held at once is to be the smaller one of both.
        is_wide = workload.pixels < workload.out_channels
        return by_name(
            Knob("columns", tuple(sorted({c for c, _ in tiles})), columns),
            Knob(
                "panel",
                tuple(sorted({p for _, p in tiles})),
                panel,
                tried=lambda *tile: tile[::-1] in tiles,
                beside=("columns",),
                feature=lambda size: size / lanes,
            ),
            Knob("order", (PANELS, ROWS), PANELS if is_wide else ROWS),
        )

    def workspace_bytes(self, workload: Conv2dWorkload, knobs: Knobs) -> int:
        loops = Quadrants.of(workload, knobs)
        shared, own = loops.image_bytes, loops.weight_bytes
        return join(own, shared) if loops.order == ROWS else join(shared, own)

    def thread_bytes(self, workload: Conv2dWorkload, knobs: Knobs) -> int:
        loops = Quadrants.of(workload, knobs)
        return loops.image_bytes if loops.order == ROWS else loops.weight_bytes

    def macs(self, workload: Conv2dWorkload, knobs: Knobs) -> int:
        return workload.macs * PRODUCTS // ALL_PRODUCTS

    def stages(self, workload: Conv2dWorkload, simd: Simd, knobs: Knobs) -> Sequence[Work]:
        loops, size = Quadrants.of(workload, knobs), workload.element_bytes
        image = moves(workload.pixels * workload.in_channels, simd, size, loops.image_bytes)
        weights = workload.in_channels * workload.out_channels
        packed = moves(weights, simd, size, loops.weight_bytes)
        kept = moves(KEPT * workload.pixels * workload.out_channels, simd, size, 0)
        first, then = (packed, image) if loops.order == ROWS else (image, packed)
        products = Work(self.macs(workload, knobs)) + self.weight_work(workload, simd, knobs)
        return first, products + then + kept

    def cost(self, workload: Conv2dWorkload, simd: Simd, knobs: Knobs, threads: int = 1) -> float:
        seconds = super().cost(workload, simd, knobs, threads)
        return seconds * SHARED_COST if threads > 1 else seconds

    def shares(self, workload: Conv2dWorkload, simd: Simd, knobs: Knobs) -> Sequence[Share]:
        loops = Quadrants.of(workload, knobs)
        if loops.order == ROWS:
            return Share(loops.panels), Share(loops.tiles)
        return Share(loops.pixels), Share(loops.panels, tensor_bytes(workload))

    def expected_error(self, workload: Conv2dWorkload, knobs: Knobs) -> float:
        del knobs
        growth = accuracy.STRASSEN_GROWTH
        return accuracy.relative_error(workload.in_channels, growth, FACTOR_ROUNDINGS)

    def schedule(self, workload: Conv2dWorkload, simd: Simd, knobs: Knobs) -> s_tir.Schedule:
        return schedule_quadrants(Quadrants.of(workload, knobs), simd.lanes(workload.dtype))
