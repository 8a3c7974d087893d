"""The register-tiled matrix product under every algorithm, and its scheduling steps.

A convolution is the product of a patch matrix (one row for each output pixel, one column for each
kernel tap and input channel) with the weights. :func:`product` states it; where the patches are
read from is the algorithm.

The schedule is one register tile, ``columns`` pixels of an image row by ``panel`` output channels,
walked over the output. Borders and tails are masks in the definition. The tile loops carry
partition hints, so that TVM splits border tiles from interior ones, and unrolling then decides
every mask: interior tiles test nothing, border tiles multiply nothing that is zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tvm import s_tir, te, tirx
from tvm.tirx import Expr

from schedules.kernel import tiles
from schedules.kernel.epilogue import finished
from schedules.kernel.packing import MATRICES, PACKED, SPREAD_OUT
from schedules.kernel.pairs import UNPAIRED, pair_elements, pair_product, pixel_of, unpaired
from schedules.kernel.patches import (
    ElementPatches,
    Patches,
    Taps,
    loads_by_vectors,
    masked,
    pixel_step,
    tile_depth,
)
from schedules.kernel.quantised.constants import Constants
from schedules.kernel.quantised.pixel_sums import schedule_taken, taken_off
from schedules.kernel.steps import (
    TileLoops,
    begin_sums,
    cut_tails,
    follow,
    split_tile,
    straighten,
)
from schedules.kernel.tiles import Tile
from schedules.layer.words import PAIR, SPREAD
from schedules.layer.workload import Conv2dWorkload
from schedules.lower.integers import (
    dot4,
    negated,
    signed,
    spread_dot4,
    unsigned_dot4,
    wide_product,
)
from schedules.lower.masked_loops import branch, mark_masked
from schedules.lower.stages import keep_rolled, mark_stage
from schedules.lower.steps import extent, partition, unroll
from schedules.target.simd import Simd

#: Blocks in which spread sums are added, twice in pairs.
PAIRS = ("ACC2", "ACC1")
#: Elements of the image that lie side by side for one step of a reduction each.
GATHERED = "gathered"
#: Forms of weights whose products take whole vectors of the image.
STAGED = (SPREAD_OUT, MATRICES, GATHERED)
#: Kernels of up to so many columns have these unrolled.
MAX_UNROLLED_TAPS = 7


def patch_elements(patches: Patches, layer: str = "") -> te.Tensor:
    """Block ``A<layer>``: elements of the patch matrix, masked, up to the end of the last tile.

    Of shared taps, those of a tile are in one piece.
    """
    batch, rows, _ = patches.shape
    taps, pixels, depth = patches.taps, 1, patches.taps.depth
    if taps.shared:
        pixels = patches.tile_columns
        depth = tile_depth(patches.workload, taps, pixels)

    def element(n: Expr, h: Expr, place: Expr, kh: Expr, kw: Expr, c: Expr) -> Expr:
        return patches.masked_element(n, h, place * pixels, kh, kw, c)

    shape = (batch, rows, patches.columns // pixels, taps.rows, taps.columns, depth)
    return te.compute(shape, element, name=f"A{layer}")


def stage_image(
    schedule: s_tir.Schedule,
    simd: Simd,
    tile: Tile,
    loop: Any,
    layer: str = "",
    form: str = PACKED,
) -> None:
    """Read block ``A<layer>`` in each step of ``loop``, which counts blocks of channels.

    Vectors along the channels where the multiply-add can take one lane of them, or takes them
    whole; else scalars, which the processor broadcasts as it loads.
    """
    patches = schedule.get_sblock(f"A{layer}")
    if form not in STAGED and (not simd.fma_by_element or tile.k_block == 1):
        schedule.compute_inline(patches)
        return
    schedule.set_scope(patches, 0, "local")
    schedule.compute_at(patches, loop, preserve_unit_loops=True)
    dimensions = len(schedule.get(patches).iter_vars)
    straighten(schedule, *schedule.get_loops(patches)[-dimensions:])


def patch_sums(
    workload: Conv2dWorkload,
    patches: Patches,
    weights: te.Tensor,
    tile: Tile,
    row_depth: int = 0,
    layer: str = "",
    form: str = PACKED,
    taken: te.Tensor | None = None,
) -> te.Tensor:
    """Block ``ACC<layer>``: the product of a patch matrix with packed weights, in whole tiles.

    Parameters
    ----------
    workload : Conv2dWorkload
        Of the layer.
    patches : Patches
        The patch matrix, wherever it is; its elements become block ``A``.
    weights : te.Tensor
        Layout ``panels``.
    tile : Tile
        The sums are rounded up to whole tiles.
    row_depth : int
        Every row of pixels multiplies weights that begin so many reduction steps behind those of
        the row before.
    layer : str
        Tells the blocks of one kernel's layers apart.
    form : str
        Knob ``weights``. Of ``spread``, each output channel is :data:`SPREAD` lanes of sums, whose
        own sum it is; of ``matrices``, sums are those of :mod:`schedules.kernel.pairs`.
    taken : te.Tensor or None
        Of a pixel, and of a lane if sums are spread, of images of uint8: added to each term for
        :func:`schedules.lower.initial_sums.start_less`.
    """
    dtype = workload.dtype
    batch, rows, _ = patches.shape
    taps, columns = patches.taps, patches.columns
    element = (
        pair_elements(patches, f"A{layer}") if form == MATRICES else patch_elements(patches, layer)
    )
    if form == MATRICES:
        taps, columns = replace(taps, depth=taps.depth // PAIR), columns // PAIR
    if form == SPREAD_OUT:
        taps = replace(taps, depth=taps.depth // SPREAD)
    kh, kw, c = taps.axes()

    def sum_of_products(n: Expr, h: Expr, w: Expr, o: Expr) -> Expr:
        step = h * row_depth + (kh * taps.columns + kw) * taps.depth + c
        weight = weights[o // tile.panel, step, o % tile.panel]
        if form == MATRICES:
            value = pair_product(weight, element, (n, h, w, kh, kw), c, o, dtype)
            value = value if taken is None else value + taken[n, h, pixel_of(w, o)]
            return te.sum(value, axis=[kh, kw, c])
        if form == SPREAD_OUT:
            image = element[n, h, w, kh, kw, c * SPREAD + o % SPREAD]
            if taken is None:
                return te.sum(spread_dot4(weight, image), axis=[kh, kw, c])
            value = spread_dot4(weight, signed(image)) + taken[n, h, w, o % SPREAD]
            return te.sum(value, axis=[kh, kw, c])
        if isinstance(patches, ElementPatches):
            product = wide_product(negated(weight), element[n, h, w, kh, kw, c])
            return te.sum(product, axis=[kh, kw, c])
        if patches.in_words:
            multiply = unsigned_dot4 if dtype == "uint8" else dot4
            value = multiply(weight, element[n, h, w, kh, kw, c])
            value = value if taken is None else value + taken[n, h, w]
            return te.sum(value, axis=[kh, kw, c])
        place, first = (w // tile.columns, w % tile.columns) if taps.shared else (w, 0)
        value = element[n, h, place, kh, kw, first * pixel_step(workload) + c] * weight
        # Masked a second time: a product with a masked element is not to be computed at all.
        value = masked(patches.column_mask(w, kw, c), value, dtype)
        return te.sum(masked(patches.row_mask(h, kh), value, dtype), axis=[kh, kw, c])

    acc_shape = (batch, rows, columns, weights.shape[0] * tile.panel)
    return te.compute(acc_shape, sum_of_products, name=f"ACC{layer}")


def begins_with_bias(workload: Conv2dWorkload, simd: Simd) -> bool:
    """Whether sums begin with the bias rather than with zero.

    On Arm that is an addition less for each of them. On x86-64, which makes zeros without waiting,
    kernels of floats take 1 to 2 % longer so (measured).
    """
    if workload.is_dynamic:  # the zero point is found first
        return False
    return simd.fma_by_element or workload.is_quantised


def product(
    workload: Conv2dWorkload,
    patches: Patches,
    weights: te.Tensor,
    constants: Constants,
    tile: Tile,
    has_bias: bool = False,
    form: str = PACKED,
) -> list[te.Tensor]:
    """Argument ``R``, if there is one, and the output ``Y``, both exactly ``(*patches.shape, M)``.

    ``Y`` is :func:`patch_sums` with bias, unless these have it already, activation and residual.
    """
    taken = None
    if workload.dtype == "uint8":
        zero = constants.parameter("weight_zero")
        taken = taken_off(patches, zero, spread=form == SPREAD_OUT)
    sums = patch_sums(workload, patches, weights, tile, form=form, taken=taken)
    shape = (*patches.shape, workload.out_channels)
    if form == MATRICES:
        sums = unpaired(sums)
    if form == SPREAD_OUT:
        for block in PAIRS:
            sums = add_pairs(sums, block)
    return finished(workload, sums, constants, shape, has_bias=has_bias)


def add_pairs(sums: te.Tensor, name: str) -> te.Tensor:
    """Block ``name``: every two neighbours added."""
    *outer, size = sums.shape

    def pair(*i: Expr) -> Expr:
        *place, last = i
        return sums(*place, 2 * last) + sums(*place, 2 * last + 1)

    return te.compute((*outer, size // 2), pair, name=name)


def schedule_product(
    schedule: s_tir.Schedule,
    workload: Conv2dWorkload,
    simd: Simd,
    tile: Tile,
    taps: Taps,
    stage: int = 0,
    shared: str | None = None,
    result: str = "Y",
    form: str = PACKED,
    has_taken: bool = False,
) -> TileLoops:
    """Schedule :func:`patch_sums` and block ``result``, which stores it, as stage ``stage``.

    Threads share the tiles of the loop ``shared``, by default of :func:`tiles.shared_loops`. Output
    channels of ``workload``, ``taps`` and ``tile`` are lanes of sums if the ``form`` has these, and
    pixels perhaps pairs. Something may be taken off them
    (:mod:`schedules.kernel.quantised.pixel_sums`).
    """
    sums, lanes = schedule.get_sblock("ACC"), tile.lanes(simd, workload.dtype)

    # Step 1: register tiles. Tile loops outside, then the reduction, then one unrolled tile.
    image, h, w, o, *axes = schedule.get_loops(sums)
    loops = split_tile(schedule, tile, lanes, h, w, o)
    rolled = taps.flat or simd.fma_by_element
    # A panel that stays in a cache for one image does for the next.
    place = int(loops.order[0] is loops.panels and extent(schedule, image) > 1)
    outside = [*loops.order[:place], image, *loops.order[place:]]
    sum_tile(schedule, taps, simd, tile, outside, axes, loops.inside, rolled, form=form)

    # Step 2: the epilogue follows each tile, while its sums are in registers.
    outer = loops.order[-1]
    channels, panel = workload.out_channels, tile.panel
    if form == MATRICES:
        schedule.set_scope(schedule.get_sblock(UNPAIRED), 0, "local")
        pairs_left = follow(schedule, UNPAIRED, outer, PAIR, 0, 1)
        unroll(schedule, pairs_left[1 + len(loops.order) :])
        channels, panel = channels // PAIR, panel // PAIR
    if form == SPREAD_OUT:
        for block in PAIRS:
            schedule.set_scope(schedule.get_sblock(block), 0, "local")
            lanes_left = follow(schedule, block, outer, lanes, 0, 1)
            unroll(schedule, lanes_left[1 + len(loops.order) :])
        channels, panel = channels // SPREAD, panel // SPREAD
    together = stored_lanes(schedule, result, simd, panel, lanes)
    stored = follow(schedule, result, outer, together, channels, panel)
    unroll(schedule, stored[1 + len(loops.order) :])

    if has_taken:
        schedule_taken(schedule, loops)

    # Step 3: split border tiles from interior ones, and the last panel from full ones.
    partition(schedule, loops.columns)
    cut_tails(schedule, [loops.panels], workload.out_channels, tile.panel)

    # Step 4: threads share tiles.
    rows, columns = extent(schedule, loops.rows), extent(schedule, loops.columns)
    names = (shared,) if shared else tiles.shared_loops(workload, simd, taps, tile, rows, columns)
    among = loops.panels if len(names) > 1 and names[0] == "panels" else None
    outside, *inside = (getattr(loops, name) for name in names[among is not None :])
    mark_stage(schedule, outside, stage, next(iter(inside), None), among)
    return loops


def stored_lanes(schedule: s_tir.Schedule, result: str, simd: Simd, panel: int, lanes: int) -> int:
    """Output channels that are stored at once: what words are requantised to is narrower."""
    is_narrow = element_type(schedule, schedule.get_sblock(result)) == "int8"
    return math.gcd(panel, max(16, simd.vector_bytes)) if is_narrow else lanes


def element_type(schedule: s_tir.Schedule, block: Any) -> str:
    """The type of what ``block`` writes."""
    return str(schedule.get(block).writes[0].source.dtype)


def accumulate_tile(
    schedule: s_tir.Schedule,
    taps: Taps,
    simd: Simd,
    tile: Tile,
    loop: Any,
    layer: str = "",
    lanes: int = 0,
    form: str = PACKED,
) -> None:
    """Compute a register tile of block ``ACC<layer>`` in each step of ``loop``.

    By so many ``lanes`` at once, or those of a vector.

    For algorithms whose sums are not yet the output, but come from the registers. The sums are over
    ``taps``: over their rows and columns too if the block has these reduction axes.
    """
    sums = schedule.get_sblock(f"ACC{layer}")
    lanes = lanes or tile.lanes(simd, element_type(schedule, sums))
    schedule.compute_at(sums, loop, preserve_unit_loops=True)
    iterators = schedule.get(sums).iter_vars
    count = sum(variable.iter_type == tirx.IterVar.CommReduce for variable in iterators)
    *_, pixel, o = schedule.get_loops(sums)[:-count]
    axes = schedule.get_loops(sums)[-count:]
    inside = (pixel, *schedule.split(o, [None, lanes]))
    sum_tile(schedule, taps, simd, tile, [], axes, inside, simd.fma_by_element, layer, form)


def sum_tile(
    schedule: s_tir.Schedule,
    taps: Taps,
    simd: Simd,
    tile: Tile,
    outside: Sequence[Any],
    axes: Sequence[Any],
    inside: Sequence[Any],
    rolled: bool,
    layer: str = "",
    form: str = PACKED,
) -> None:
    """Sum up tiles of block ``ACC<layer>`` in registers, in straight-line code.

    Its loops are ``outside`` of a tile, the reduction ``axes`` (channels, or kernel rows, kernel
    columns and channels), and ``inside`` of it: pixels, vectors and lanes. Blocks of channels are
    kept a loop if that is to be ``rolled``.
    """
    sums = schedule.get_sblock(f"ACC{layer}")
    in_words = element_type(schedule, sums) == "int32"
    *tap, c = axes
    c_outer, c_inner = schedule.split(c, [None, tile.k_block])
    pixel, vector, lane = inside
    if loads_by_vectors(element_type(schedule, sums), simd):
        inside = vector, pixel, lane
    schedule.reorder(*outside, *tap, c_outer, c_inner, *inside)
    schedule.set_scope(sums, 0, "local")
    stage_image(schedule, simd, tile, c_outer, layer, form)
    if tap:
        kh, kw = tap
        (branch if in_words else mark_masked)(schedule, kh)
        # Unrolling taps decides the masks of border tiles.
        if form in STAGED and extent(schedule, c_outer) == 1:
            keep_rolled(schedule, kw)
        elif taps.columns <= MAX_UNROLLED_TAPS:
            schedule.unroll(kw)
        if taps.flat and simd.fma_by_element:
            keep_rolled(schedule, kh)
    if not taps.flat:  # masks of another form depend on c too
        cut_tails(schedule, [c_outer], taps.depth, tile.k_block)
    if extent(schedule, c_outer) == 1:
        schedule.unroll(c_outer)
    elif rolled:
        # Blocks of flat taps share elements, as neighbouring pixels do: more than registers hold.
        keep_rolled(schedule, c_outer)
    straighten(schedule, c_inner, *inside)
    begin_sums(schedule, sums, [*tap, c_outer][0], unrolled=2)
