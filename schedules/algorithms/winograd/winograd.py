"""``winograd``: products in a transformed domain, fewer than the definition has.

Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (arXiv 1509.09308). The output
is computed in tiles of ``m_h x m_w`` pixels, each from ``n_h x n_w`` image pixels, where
``n = m + r - 1`` for kernels of ``r_h x r_w``::

    V = B_h^T d B_w,    M[a, b] = sum_c U[a, b, c] V[a, b, c],    Y = A_h^T M A_w

The sums over channels are ``n_h n_w`` matrix products, all tiles by all output channels, of
``n_h n_w / (m_h m_w)`` multiplications an output element and channel where the definition has
``r_h r_w``. A kernel that is 1 high or wide is transformed along the other axis alone.

The weights ``U = G_h g G_w^T`` are several times as large as ``g``. Knob ``weights`` says who
makes them:

``transformed``
    whoever packs the weights, once;
``panels``
    the kernel, of ``c_block`` channels and one panel at a time, before they are multiplied; ``g``
    lies in panels, all taps of a channel side by side;
``in_place``
    likewise, where and as the model holds ``g``: not a byte is packed.

Tiles are taken in strips, ``strip`` rows of tiles across the image; a strip's V and M take the
memory of the one before. M is computed for one of ``parts`` of the output channels, or for one
panel, at a time: threads share these, of all strips, and each computes the V that it needs.
``B_h^T d`` and ``A_h^T M`` of one tile and one vector of channels are on the stack.

Workspace, in elements, for the P tiles of a strip, c channels of a block and p of a part or panel::

    V    n_h n_w (P C + L C/c)    M    n_h n_w (P p + L)

each behind the last cache line of the one before; L elements are a cache line, by which points lie
further apart than they have to. V has C/c blocks if c is whole cache lines, else one. Weights are
transformed into U, and before that, if they are ``in_place``, brought into WT::

    U    n_h n_w (c p + L)        WT    r_h r_w c p

All of it is a thread's own. Layers of int8 are computed exactly, by F(2, r) in integers: see
:mod:`schedules.algorithms.winograd.integers`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from tvm import s_tir, te

from schedules.algorithms.base import FLOAT, INT8, LayerAlgorithm, converts
from schedules.algorithms.winograd import integers
from schedules.algorithms.winograd.costs import domain_work
from schedules.algorithms.winograd.domain import (
    IN_PLACE,
    TRANSFORMED,
    WEIGHTS,
    Domain,
    multiply,
    transform_image,
    transform_products,
)
from schedules.algorithms.winograd.panels import schedule_panels
from schedules.algorithms.winograd.parts import default_parts
from schedules.algorithms.winograd.schedule import schedule_strips
from schedules.algorithms.winograd.weights import by_channels, transform_weights
from schedules.kernel import accuracy, packing, sharing, tiles
from schedules.kernel.costs import Work
from schedules.kernel.knobs import NO_KNOBS, Knob, Knobs, by_name, never
from schedules.kernel.loop_nests import LoopNest, product_nest
from schedules.kernel.packing import PackedWeights
from schedules.kernel.patches import placeholders
from schedules.kernel.sharing import Share
from schedules.kernel.tiles import Product, Tile
from schedules.layer.workload import DTYPE_BYTES, Conv2dWorkload
from schedules.lower.memory import join
from schedules.target.simd import Simd

#: Image pixels of a tile along one axis, at most: with more, the rounding error is out of hand.
MAX_INPUTS = 10
#: The m of F(m, r).
FORMS = (2, 4, 5, 6)
#: F(5, r) errs twice as much as F(4, r), and is considered where it has at most this part of its
#: products: three tiles across 13 to 15 pixels, where F(4, r) takes four.
FEWER_PRODUCTS = 0.85
#: And with so many, it is near that of the definition: the default.
ACCURATE_INPUTS = 6
#: Roundings of one product that matter: of the transformed image, weight and output.
TRANSFORM_ROUNDINGS = 8
#: And of a weight that the kernel transforms: one row of a sum of products after the other.
KERNEL_ROUNDINGS = 4
#: Channels of a running sum at most. Shorter sums err less, which Winograd's transforms magnify. On
#: NEON another sum costs 60 instructions a register tile: 8 % at 64 channels, measured.
SUM, NEON_SUM = 16, 64
#: Channels of a sum that is tried: with fewer, adding up the sums takes too long; with more, if not
#: all, no time is saved, but accuracy lost.
MIN_SUM_CHANNELS, MAX_SUM_CHANNELS = 8, 64
#: Tiles of a strip: with fewer, each weight is loaded for too few products; from the L2 cache, and
#: from behind it, where threads share what can be read.
ENOUGH_TILES, ENOUGH_TILES_BEHIND_L2 = 4, 7
#: More rows of tiles are a strip if that takes at most this part of the time, by the model.
FASTER = 0.95
#: And with fewer, transforming each weight in the kernel takes too long beside its products: where
#: scalars are broadcast, and where a multiply-add takes them by element.
ENOUGH_TILES_IN_KERNEL = (28, 96)
#: With fewer tiles of an image, weights are transformed once for all of them.
FEW_TILES = 50
#: Vectors of a panel at most, where its weights are transformed in the kernel: where scalars are
#: broadcast, and where a multiply-add takes them by element.
PANEL_VECTORS = (2, 4)


#: Types of a layer that has its weights in Winograd's domain.
WINOGRADS = ("float32", "Winograd's")
#: The knobs that depend on all others.
TILE = tuple(Tile.__dataclass_fields__)


class Winograd(LayerAlgorithm):
    """Lavin and Gray, arXiv 1509.09308."""

    name = "winograd"
    source = "Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, arXiv 1509.09308"
    workspace = "n^2 P (C + M), P tiles of a strip"
    good_for = "3x3 and 5x5 of stride 1: a fraction of the products"
    types = FLOAT | INT8 | {WINOGRADS}
    transforms = True
    writes_once = True

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
        reason = integers.unsupported(workload) if workload.is_quantised else None
        if reason is not None:
            return reason
        return super().supports(workload, simd)

    def forms(self, workload: Conv2dWorkload) -> Sequence[Knobs]:
        outputs = [m for m in outputs_of(workload) if m != 5 or is_fitting(workload)]
        is_transformed = workload.domain or workload.dtype != "float32"
        sources = (TRANSFORMED,) if is_transformed else WEIGHTS
        forms: list[Knobs] = [{"outputs": m, "weights": w} for w in sources for m in outputs]
        # The least workspace, where that is limited.
        return forms + [{"outputs": m, "weights": TRANSFORMED, "strip": 1} for m in outputs]

    def knobs(self, workload: Conv2dWorkload, simd: Simd) -> Mapping[str, Knob]:
        return _untuned(self, workload, simd)

    def default_knobs(
        self, workload: Conv2dWorkload, simd: Simd, fixed: Knobs = NO_KNOBS
    ) -> dict[str, Any]:
        # The best tile of the products depends on how many there are.
        form = {name: value for name, value in fixed.items() if name not in TILE}
        # Of which parts there may be depends on the others.
        others = {name: value for name, value in form.items() if name != "parts"}
        super().default_knobs(workload, simd, others)
        return self.choose(workload, self._knobs(workload, simd, form), fixed)

    def _knobs(self, workload: Conv2dWorkload, simd: Simd, fixed: Knobs) -> dict[str, Knob]:
        forms = outputs_of(workload)
        kernel = max(workload.kernel_height, workload.kernel_width)
        accurate = [m for m in forms if m + kernel - 1 <= ACCURATE_INPUTS]
        outputs = fixed.get("outputs", max(accurate, default=forms[0]))
        weights = fixed.get("weights", TRANSFORMED)
        c_block = fixed.get("c_block") or default_c_block(workload, simd, outputs)
        form = {"outputs": outputs, "weights": weights, "c_block": c_block}
        whole = Domain.of(workload, {**form, "strip": workload.out_height})
        strip = fixed.get("strip") or self.default_strip(whole, simd, form)
        domain = Domain.of(workload, {**form, "strip": strip})
        product = product_of(domain, simd)
        own = integers.product_tile(product, simd) if workload.is_quantised else None
        choices = tiles.knobs(product, simd, own)
        converted = workload.weight_dtype != "int8" and converts(workload, simd)
        converted = converted and not workload.domain and workload.dtype == "float32"
        sources = WEIGHTS if converted else (TRANSFORMED,)
        panel = choices["panel"].default
        parts = 1 if domain.in_kernel else default_parts(domain, simd, panel)
        few = {1, 2, 4, 8, whole.strip, strip}
        strips = tuple(sorted({*few, *range(1, workload.out_height + 1)}))

        def is_sum(size: int) -> bool:
            in_between = MIN_SUM_CHANNELS <= size <= MAX_SUM_CHANNELS
            return in_between or size == workload.in_channels

        def is_strip(rows: int) -> bool:
            # No strip has more rows of tiles than the image: of those that reach it, the shortest.
            return rows in few and not any(whole.strip <= other < rows for other in few)

        # A point's matrices stay in the cache until all of its products are done.
        orders = tuple(order for order in tiles.ORDERS if order.startswith("rows"))
        return choices | by_name(
            replace(choices["order"], choices=orders, default=orders[1]),
            Knob("c_block", c_blocks(workload), c_block, tried=is_sum),
            Knob("outputs", forms, outputs),
            # Threads share them: for one, which is what is measured, they make little difference.
            Knob("parts", tuple(sorted({1, 2, 4, 8, parts})), parts, tried=never),
            Knob("strip", strips, strip, tried=is_strip),
            Knob("weights", sources, weights, tried=never),
        )

    def default_strip(self, whole: Domain, simd: Simd, form: Knobs) -> int:
        """Rows of tiles: :func:`fewest_rows`; of transformed weights more, if the model says so.

        All strips are full then. Where the weights come from behind the L2 cache, for every strip,
        more rows may be faster although V and M leave the cache. These are never more than the
        weights, though: memory is what devices have little of.
        """
        fewest = fewest_rows(whole, simd)
        if whole.in_kernel:
            return fewest

        def seconds(rows: int) -> float:
            domain = replace(whole, strip=rows)
            product = product_of(domain, simd)
            panel = tiles.knobs(product, simd)["panel"].default
            parts = default_parts(domain, simd, panel)
            knobs = {**form, "strip": rows, "panel": panel, "parts": parts}
            return self.cost(whole.workload, simd, knobs)

        layer = whole.workload
        weights = whole.points * layer.in_channels * layer.out_channels

        def is_worth_trying(rows: int) -> bool:
            domain = replace(whole, strip=rows)
            held = domain.image_elements + domain.product_elements
            return whole.strip % rows == 0 and held <= weights

        more = filter(is_worth_trying, range(fewest + 1, whole.strip + 1))
        best = min(more, key=seconds, default=fewest)
        return best if seconds(best) <= FASTER * seconds(fewest) else fewest

    def _domain(self, workload: Conv2dWorkload, knobs: Knobs) -> Domain:
        return Domain.of(workload, knobs)

    def product(self, workload: Conv2dWorkload, simd: Simd) -> Product:
        return product_of(self._domain(workload, self.default_knobs(workload, simd)), simd)

    def loop_nests(self, workload: Conv2dWorkload, simd: Simd, knobs: Knobs) -> Sequence[LoopNest]:
        product = product_of(self._domain(workload, knobs), simd)
        return [product_nest(product, self.macs(workload, knobs), simd, Tile.of(knobs))]

    def workspace_bytes(self, workload: Conv2dWorkload, knobs: Knobs) -> int:
        domain = self._domain(workload, knobs)
        image, products = domain.image_elements, domain.product_elements
        elements = [image, products]
        sizes = [DTYPE_BYTES[dtype] for dtype in domain.types]
        if domain.in_kernel:
            size = domain.c_block * knobs["panel"]
            inner = [domain.points * (size + domain.line)]
            if knobs["weights"] == IN_PLACE:
                inner.insert(0, size * workload.kernel_height * workload.kernel_width)
            # In the order of the loops that allocate them: M is first where it is a running sum.
            elements = [image, products, *inner] if domain.blocked else [image, *inner, products]
            sizes = [workload.element_bytes] * len(elements)
        return join(*(count * size for count, size in zip(elements, sizes, strict=True)))

    def thread_bytes(self, workload: Conv2dWorkload, knobs: Knobs) -> int:
        # Threads share strips, and parts of them.
        return self.workspace_bytes(workload, knobs)

    def macs(self, workload: Conv2dWorkload, knobs: Knobs) -> int:
        domain = self._domain(workload, knobs)
        products = domain.strips * domain.points * domain.tiles
        channels = workload.out_channels
        if knobs.get("weights") == IN_PLACE:  # of others, the bias tells how many there are
            channels = -(-channels // knobs["panel"]) * knobs["panel"]
        return products * workload.in_channels * channels

    def weight_work(self, workload: Conv2dWorkload, simd: Simd, knobs: Knobs) -> Work:
        packed = self.packed_weights(workload, knobs)
        return domain_work(self._domain(workload, knobs), packed, simd, knobs)

    def moved_elements(self, workload: Conv2dWorkload, knobs: Knobs) -> int:
        domain = self._domain(workload, knobs)
        channels = workload.in_channels + workload.out_channels
        return domain.strips * domain.points * domain.tiles * channels

    def shares(self, workload: Conv2dWorkload, simd: Simd, knobs: Knobs) -> Sequence[Share]:
        domain = self._domain(workload, knobs)
        # Of a single strip, threads share the channels alone.
        others = sharing.tensor_bytes(workload) if domain.image_strips == 1 else 0
        return (Share(domain.image_strips * domain.parts, others),)

    def stages(self, workload: Conv2dWorkload, simd: Simd, knobs: Knobs) -> Sequence[Work]:
        works = super().stages(workload, simd, knobs)
        times = integers.macs_of_bytes(simd) if workload.is_quantised else 1.0
        return [replace(work, macs=work.macs * times) for work in works]

    def expected_error(self, workload: Conv2dWorkload, knobs: Knobs) -> float:
        if workload.is_quantised:
            return super().expected_error(workload, knobs)
        domain = self._domain(workload, knobs)
        return accuracy.relative_error(
            # A running sum over a block, and one over the blocks.
            domain.c_block + workload.in_channels // domain.c_block,
            domain.rows.amplification * domain.columns.amplification,
            TRANSFORM_ROUNDINGS + KERNEL_ROUNDINGS * domain.in_kernel,
            accuracy.UNIT_ROUNDOFFS[workload.dtype],
        )

    def packed_weights(self, workload: Conv2dWorkload, knobs: Knobs) -> PackedWeights:
        domain = self._domain(workload, knobs)
        if domain.in_kernel:
            if knobs["weights"] == IN_PLACE:
                return packing.rows(workload)
            return packing.channels(workload, knobs["panel"])
        if workload.is_quantised:
            whole = (integers.whole(domain.rows), integers.whole(domain.columns))
            return packing.winograd(workload, knobs["panel"], whole)
        transform = (domain.rows.transform, domain.columns.transform)
        if workload.domain:
            return packing.winograd(workload, knobs["panel"], None)
        return packing.winograd(workload, knobs["panel"], transform)

    def schedule(self, workload: Conv2dWorkload, simd: Simd, knobs: Knobs) -> s_tir.Schedule:
        domain, tile = self._domain(workload, knobs), Tile.of(knobs)
        image, weights, constants = placeholders(workload, self.packed_weights(workload, knobs))
        in_place = knobs.get("weights") == IN_PLACE
        taps = by_channels(domain, weights, tile.panel) if in_place else weights
        transformed = transform_weights(domain, taps) if domain.in_kernel else weights
        products = multiply(domain, transform_image(domain, image, constants), transformed, tile)
        results = transform_products(domain, products, constants)
        arguments = [image, weights, *constants.tensors, *results]
        schedule = s_tir.Schedule(te.create_prim_func(arguments))
        if domain.in_kernel:
            schedule_panels(schedule, domain, simd, tile, in_place)
        else:
            schedule_strips(schedule, domain, simd, tile)
        return schedule


@lru_cache(maxsize=1024)
def _untuned(algorithm: Winograd, workload: Conv2dWorkload, simd: Simd) -> Mapping[str, Knob]:
    """All knobs, which every form of the layer is checked against."""
    return algorithm._knobs(workload, simd, NO_KNOBS)


def product_of(domain: Domain, simd: Simd) -> Product:
    """What the micro-kernel multiplies in each point.

    Of weights that the kernel transforms, only those of a small panel, which stay in a near cache.
    """
    products = domain.products
    if domain.in_kernel:
        most = PANEL_VECTORS[simd.fma_by_element] * simd.lanes(products.dtype)
        products = replace(products, out_channels=min(most, products.out_channels))
    return Product(products, domain.taps, domain.tiles)


def c_blocks(workload: Conv2dWorkload) -> tuple[int, ...]:
    """Numbers of channels that divide them all."""
    channels = workload.in_channels
    return tuple(size for size in range(1, channels + 1) if channels % size == 0)


def default_c_block(workload: Conv2dWorkload, simd: Simd, outputs: int) -> int:
    """Channels whose products are summed in registers before they are added to M.

    In F(5, r) half of all at most, so that it errs little more than F(4, r).
    """
    if workload.is_quantised:  # which rounds nothing
        return workload.in_channels
    most = NEON_SUM if simd.fma_by_element else SUM
    if outputs == 5:
        most = min(most, max(workload.in_channels // 2, 1))
    largest = max(size for size in c_blocks(workload) if size <= most)
    return largest if 2 * largest >= min(most, workload.in_channels) else workload.in_channels


def fewest_rows(whole: Domain, simd: Simd) -> int:
    """Rows of tiles: of weights at hand the fewest that fill a register tile.

    A kernel that transforms the weights does so once for all rows, if they have few tiles or V
    stays in the L2 cache; else for the fewest equal strips of enough tiles.
    """
    rows = whole.strip
    image_bytes = whole.image_elements * whole.workload.element_bytes
    if whole.in_kernel and (whole.tiles < FEW_TILES or tiles.stay_in_l2(image_bytes, simd)):
        return rows
    enough = ENOUGH_TILES
    if whole.in_kernel:
        enough = ENOUGH_TILES_IN_KERNEL[simd.fma_by_element]
    elif streams(whole, simd):
        enough = ENOUGH_TILES_BEHIND_L2
    strip = min(-(-enough // whole.tile_columns), rows)
    return -(-rows // (rows // strip)) if whole.in_kernel else strip


def streams(whole: Domain, simd: Simd) -> bool:
    """Whether transformed weights come from behind the L2 cache, and V of a strip stays in it."""
    layer = whole.workload
    weights = whole.points * layer.in_channels * layer.out_channels
    rows = -(-ENOUGH_TILES_BEHIND_L2 // whole.tile_columns)
    strip = replace(whole, strip=min(rows, whole.strip))
    stays = tiles.stay_in_l2(strip.image_elements * layer.element_bytes, simd)
    return stays and weights * layer.element_bytes > simd.l2_bytes


def outputs_of(workload: Conv2dWorkload) -> tuple[int, ...]:
    """The m of F(m, r) to choose from."""
    if workload.domain:
        return (workload.domain.outputs,)
    kernel = max(workload.kernel_height, workload.kernel_width)
    # What the transforms of larger tiles add up and multiply is too much for 11 bits, and no
    # integers.
    forms = FORMS[:1] if workload.dtype != "float32" else FORMS
    return tuple(m for m in forms if m + kernel - 1 <= MAX_INPUTS)


def is_fitting(workload: Conv2dWorkload) -> bool:
    """Whether F(5, r) has few enough products beside F(4, r)."""

    def products(m: int) -> int:
        sizes = (
            (workload.out_height, workload.kernel_height),
            (workload.out_width, workload.kernel_width),
        )
        return math.prod(-(-size // m) * (m + taps - 1) for size, taps in sizes if taps > 1)

    return products(5) <= FEWER_PRODUCTS * products(4)
