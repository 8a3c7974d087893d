"""The register-tiled matrix product under every algorithm, and its scheduling steps.

A convolution is the product of a patch matrix (one row for each output pixel, one column for each
kernel tap and input channel) with the weights. :func:`product` states it; where the patches are
read from is the algorithm.

The schedule is one register tile, ``columns`` pixels of an image row by ``panel`` output channels,
walked over the output. Borders and tails are masks in the definition. The tile loops carry partition
hints, so that TVM splits border tiles from interior ones, and unrolling then decides every mask:
interior tiles test nothing, border tiles multiply nothing that is zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tvm import s_tir, te, tirx

from schedules import c_abi
from schedules.epilogue import ACCUMULATOR_DTYPE, finish
from schedules.knobs import Knob
from schedules.masked_loops import mark_masked
from schedules.patches import Patches, Taps, masked
from schedules.simd import Simd
from schedules.steps import partition, unroll
from schedules.workload import Conv2dWorkload

#: Loop orders, outermost first: pixels of a tile stay in cache across panels, or a panel across
#: tiles, of one image row or of the whole image.
ORDERS = ("rows,columns,panels", "rows,panels,columns", "panels,rows,columns")


@dataclass(frozen=True)
class Tile:
    """The knobs of the micro-kernel.

    Parameters
    ----------
    columns : int
        Output pixels of a register tile, side by side in one image row.
    panel : int
        Output channels of a register tile; a multiple of the vector lanes.
    k_block : int
        Reduction steps unrolled together; on targets with a multiply-add by element, also the
        elements of one image load.
    order : str
        One of :data:`ORDERS`.
    """

    columns: int
    panel: int
    k_block: int
    order: str

    def rounded(self, pixels: int) -> int:
        """``pixels`` rounded up to whole tiles."""
        return -(-pixels // self.columns) * self.columns

    @classmethod
    def of(cls, knobs: Mapping[str, Any]) -> Tile:
        """The tile in an algorithm's knobs."""
        return cls(**{name: knobs[name] for name in cls.__dataclass_fields__})


#: Kernel columns that are still unrolled.
MAX_UNROLLED_TAPS = 7
#: Where scalars are broadcast from memory: sums that hide the latency of the multiply-adds (4 or 5
#: cycles on two pipes) without holding back the next tile; more were 2 to 20 % slower.
MAX_BROADCAST_SUMS = 16
#: And pixels: the rows of eight lie a power of two apart and compete for the same cache sets.
MAX_BROADCAST_COLUMNS = 7


def unrolled_depth(simd: Simd) -> int:
    """Elements of flat taps that are still unrolled: more code than that makes NEON spill."""
    return 12 if simd.fma_by_element else 64


def fits_registers(
    columns: int, vectors: int, simd: Simd, taps: Taps, dtype: str = "float32"
) -> bool:
    """Whether a tile of ``columns`` pixels by ``vectors`` vectors of channels avoids spills."""
    sums = columns * vectors
    if not simd.fma_by_element:
        if columns > MAX_BROADCAST_COLUMNS or sums > MAX_BROADCAST_SUMS:
            return False
        return sums + vectors + 3 <= simd.vector_registers
    # One vector a pixel for the image, one a vector of weights, and what LLVM's scheduler takes to
    # load ahead: more for in-order cores, and for blocks of code in which taps share elements.
    if taps.flat:
        spare = 14
    elif simd.in_order or taps.depth % simd.lanes(dtype):
        spare = 10
    else:
        spare = 1
    return sums + columns + vectors + spare <= simd.vector_registers


def tile_cost(
    workload: Conv2dWorkload, simd: Simd, row_pixels: int, columns: int, vectors: int
) -> float:
    """Modelled issue slots for a row of pixels in tiles of ``columns`` by ``vectors``.

    With a multiply-add by element, a reduction step costs its instructions: in-order cores issue
    little beside a multiply-add, and the others are as fast with any tile. Elsewhere it takes as
    long as its multiply-adds or its loads, plus a little for every further instruction, most for
    the weights, which come from the L2 cache. The last tile of a row computes only the pixels that
    are there; the last panel is full.
    """
    lanes = simd.lanes(workload.dtype)

    def step(pixels: int) -> float:
        sums = pixels * vectors
        if simd.fma_by_element:  # a pixel's vector lasts for as many steps; weights load in pairs
            return sums + pixels / lanes + vectors / 2 + 1
        # A scalar that is used once is broadcast by the multiply-add itself.
        broadcasts = pixels if vectors > 1 else 0
        slots = max(sums, (pixels + vectors) / simd.loads_per_fma)
        return slots + (broadcasts + 4 * vectors + 2) / 4

    def tile(pixels: int) -> float:
        return workload.reduction * step(pixels) + 4 * pixels * vectors

    whole, rest = divmod(row_pixels, columns)
    panels = -(-workload.out_channels // (vectors * lanes))
    return panels * (whole * tile(columns) + (tile(rest) if rest else 0))


def default_tile(workload: Conv2dWorkload, simd: Simd, taps: Taps, row_pixels: int) -> Tile:
    """The tile to use untuned for rows of ``row_pixels``: the cheapest by :func:`tile_cost`.

    Its order keeps in cache what is used again. A panel that is used for every tile of the image
    before the next one is loaded is best where there are enough panels for every core, or where
    the weights are too many for the cache and more than the image; else image rows are outermost,
    with all panels for a tile if the weights stay in the cache, or all tiles of a row for a panel.
    """
    lanes = simd.lanes(workload.dtype)
    shapes = [
        (columns, vectors)
        for columns in range(1, simd.vector_registers)
        for vectors in range(1, simd.vector_registers)
        if fits_registers(columns, vectors, simd, taps)
    ]
    columns, vectors = min(
        shapes, key=lambda shape: (tile_cost(workload, simd, row_pixels, *shape), shape[0] * shape[1])
    )
    rows_columns_panels, rows_panels_columns, panels_rows_columns = ORDERS
    panels = -(-workload.out_channels // (vectors * lanes))
    fits = workload.weight_bytes <= simd.l2_bytes // 2
    smaller_image = workload.input_bytes <= workload.weight_bytes
    if panels % simd.cores == 0 or panels >= 8 * simd.cores or (smaller_image and not fits):
        order = panels_rows_columns
    elif fits:
        order = rows_columns_panels
    else:
        order = rows_panels_columns
    return Tile(columns, vectors * lanes, default_k_block(simd, taps, lanes), order)


def default_k_block(simd: Simd, taps: Taps, lanes: int) -> int:
    """One vector of channels a step where a multiply-add takes any lane of it, else one scalar.

    Flat taps are one block if they are unrolled, else equal blocks.
    """
    if not simd.fma_by_element:
        return 1
    if not taps.flat:
        return min(lanes, taps.depth)
    if taps.depth <= unrolled_depth(simd):
        return taps.depth
    return max(block for block in range(1, lanes + 1) if taps.depth % block == 0)


def knobs(workload: Conv2dWorkload, simd: Simd, taps: Taps, row_pixels: int) -> dict[str, Knob]:
    """The micro-kernel's named choices, with :func:`default_tile` as their defaults."""
    lanes = simd.lanes(workload.dtype)
    tile = default_tile(workload, simd, taps, row_pixels)
    return {
        "columns": Knob(tuple(range(1, 17)), tile.columns),
        "panel": Knob(tuple(lanes * vectors for vectors in range(1, 7)), tile.panel),
        "k_block": Knob(tuple(sorted({1, 2, 4, 8, tile.k_block})), tile.k_block),
        "order": Knob(ORDERS, tile.order),
    }


def product(
    workload: Conv2dWorkload,
    patches: Patches,
    weights: te.Tensor,
    bias: te.Tensor,
    tile: Tile,
) -> te.Tensor:
    """The product of a patch matrix with packed weights, bias and activation fused.

    Parameters
    ----------
    workload : Conv2dWorkload
        Of the layer.
    patches : Patches
        The patch matrix, wherever it is.
    weights, bias : te.Tensor
        Layout ``panels``.
    tile : Tile
        The sums are rounded up to whole tiles; the output ``(*patches.shape, M)`` is exact.

    Returns
    -------
    te.Tensor
        The output ``Y``, computed from blocks ``A`` (patch elements) and ``ACC`` (sums).
    """
    dtype, sums = workload.dtype, ACCUMULATOR_DTYPE[workload.dtype]
    batch, rows, columns = patches.shape
    taps = patches.taps
    columns = tile.rounded(columns)
    element = te.compute(
        (batch, rows, columns, taps.rows, taps.columns, taps.depth),
        lambda n, h, w, kh, kw, c: masked(
            patches.row_mask(h, kh) + patches.column_mask(w, kw, c),
            patches.element(n, h, w, kh, kw, c),
            dtype,
        ),
        name="A",
    )
    kh = te.reduce_axis((0, taps.rows), name="kh")
    kw = te.reduce_axis((0, taps.columns), name="kw")
    c = te.reduce_axis((0, taps.depth), name="c")

    def sum_of_products(n: tirx.Expr, h: tirx.Expr, w: tirx.Expr, o: tirx.Expr) -> tirx.Expr:
        step = (kh * taps.columns + kw) * taps.depth + c
        weight = weights[o // tile.panel, step, o % tile.panel]
        value = element[n, h, w, kh, kw, c].astype(sums) * weight.astype(sums)
        # Masked a second time: a product with a masked element is not to be computed at all.
        value = masked(patches.column_mask(w, kw, c), value, sums)
        return te.sum(masked(patches.row_mask(h, kh), value, sums), axis=[kh, kw, c])

    acc_shape = (batch, rows, columns, weights.shape[0] * tile.panel)
    acc = te.compute(acc_shape, sum_of_products, name="ACC")
    return te.compute(
        (*patches.shape, workload.out_channels),
        lambda n, h, w, o: finish(acc[n, h, w, o], bias[o], workload),
        name="Y",
    )


def schedule_product(
    schedule: s_tir.Schedule,
    workload: Conv2dWorkload,
    simd: Simd,
    tile: Tile,
    taps: Taps,
    stage: int = 0,
) -> dict[str, Any]:
    """Schedule the blocks of :func:`product` as stage ``stage`` of the kernel.

    Returns the loops ``rows``, ``columns`` and ``panels``, each of which counts tiles.
    """
    sums, output = schedule.get_sblock("ACC"), schedule.get_sblock("Y")
    lanes = simd.lanes(workload.dtype)

    # Step 1: register tiles. Tile loops outside, then the reduction, then one unrolled tile.
    batch, h, w, o, kh, kw, c = schedule.get_loops(sums)
    w_outer, w_inner = schedule.split(w, [None, tile.columns])
    o_outer, o_vector, o_lane = schedule.split(o, [None, tile.panel // lanes, lanes])
    c_outer, c_inner = schedule.split(c, [None, tile.k_block])
    loops = {"rows": h, "columns": w_outer, "panels": o_outer}
    order = [loops[name] for name in tile.order.split(",")]
    schedule.reorder(batch, *order, kh, kw, c_outer, c_inner, w_inner, o_vector, o_lane)
    schedule.set_scope(sums, 0, "local")

    # Step 2: the epilogue follows each tile, while its sums are in registers.
    schedule.reverse_compute_at(output, order[-1], preserve_unit_loops=True)
    y_w, y_o = schedule.get_loops(output)[-2:]
    y_vector, y_lane = schedule.split(y_o, [None, lanes])

    # Step 3: the image. Vectors along the channels where the multiply-add can take one lane of
    # them; else scalars, which the processor broadcasts as it loads.
    patches = schedule.get_sblock("A")
    if simd.fma_by_element and tile.k_block > 1:
        schedule.set_scope(patches, 0, "local")
        schedule.compute_at(patches, c_outer, preserve_unit_loops=True)
        *a_loops, a_lane = schedule.get_loops(patches)[-6:]
        unroll(schedule, a_loops)
        schedule.vectorize(a_lane)
    else:
        schedule.compute_inline(patches)

    # Step 4: split border tiles from interior ones, and the tails of M and K from whole blocks.
    mark_masked(schedule, kh)
    partition(schedule, w_outer)
    if workload.out_channels % tile.panel:
        for loop in (o_outer, y_vector, y_lane):
            partition(schedule, loop)
    if taps.depth % tile.k_block and not taps.flat:  # flat: masks of another form depend on c too
        partition(schedule, c_outer)

    # Step 5: straight-line code inside. Taps too, which decides the masks of border tiles.
    if taps.columns <= MAX_UNROLLED_TAPS:
        schedule.unroll(kw)
    if taps.flat and taps.depth <= unrolled_depth(simd):
        schedule.unroll(c_outer)
    elif simd.fma_by_element:
        c_abi.keep_rolled(schedule, c_outer)
    if taps.flat and simd.fma_by_element:
        c_abi.keep_rolled(schedule, kh)
    unroll(schedule, [c_inner, w_inner, o_vector, y_w, y_vector])
    schedule.vectorize(o_lane)
    schedule.vectorize(y_lane)
    i_w, i_vector, i_lane = schedule.get_loops(schedule.decompose_reduction(sums, kh))[-3:]
    unroll(schedule, [i_w, i_vector])
    schedule.vectorize(i_lane)

    # Step 6: threads share the outermost tiles.
    c_abi.mark_stage(schedule, order[0], stage)
    return loops
