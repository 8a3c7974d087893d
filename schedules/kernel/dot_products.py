"""The matrix product as dot products: weights read in place, vectors along the reduction.

``Y[r][o] = sum_c X[r][c] W[o][c]``: both operands are stored along the sum, as TFLite stores the
weights of CONV_2D and FULLY_CONNECTED (layout ``rows``). A register tile is a few rows of X by a
few rows of W. Each of its sums is a vector, whose lane ``l`` adds up the channels ``c = l`` modulo
the lanes; in the end the upper half of the vector is added to the lower one until a single element
is left. Nothing is packed, and no lane is spent on output channels that are not there; the price is
the additions of the halves. Of int8, channels are words, and whole words are needed.
"""

from __future__ import annotations

from typing import Any

from tvm import s_tir, te, tirx

from schedules.kernel.epilogue import finished
from schedules.kernel.patches import masked
from schedules.kernel.quantised.constants import Constants
from schedules.kernel.steps import begin_sums, cut_tails, straighten
from schedules.layer.words import WORD, in_words
from schedules.layer.workload import DTYPE_BYTES, Conv2dWorkload
from schedules.lower.integers import dot4, word
from schedules.lower.loops.prefetch import INTO_L2, prefetch_weights
from schedules.lower.memory import ALIGNMENT
from schedules.lower.stages import keep_rolled, mark_stage
from schedules.lower.steps import extent, partition, unroll
from schedules.target.simd import Simd

#: A register tile has so many vectors of sums, which hide the latency of two multiply-adds a cycle.
#: More did not gain anything, as each costs additions in the end.
SUMS = 8
#: Bytes ahead at which weights that come from memory are asked for. A core's own prefetching ends
#: with each page of a row: 151 MB came at 26 GB/s on a Zen 4, and so at 32. Nearer and further, and
#: into the L1 cache, less was gained.
AHEAD_BYTES = 1024
#: Weights that are more than this part of the third cache are taken for such, as a network has
#: others beside them. From that cache they come a fifth slower if they are asked for.
CACHED_PART = 0.4


def tile_shape(workload: Conv2dWorkload) -> tuple[int, int]:
    """Rows of X and rows of W in a register tile: of the shapes with :data:`SUMS`, fewest loads."""
    shapes = [(SUMS // outputs, outputs) for outputs in (4, 8, 2, 1)]

    def loads(shape: tuple[int, int]) -> int:
        tiles = _tiles(workload, shape)
        return tiles[0] * tiles[1] * sum(shape)

    return min(shapes, key=loads)


def _tiles(workload: Conv2dWorkload, shape: tuple[int, int]) -> tuple[int, int]:
    """Register tiles along the rows of X and of W."""
    rows, outputs = shape
    return -(-workload.out_width // rows), -(-workload.out_channels // outputs)


def shared_tiles(workload: Conv2dWorkload) -> tuple[int, bool]:
    """Register tiles along the longer axis, which threads share, and whether it is that of W."""
    rows, outputs = _tiles(workload, tile_shape(workload))
    return max(rows, outputs), outputs >= rows


def dot_products(
    workload: Conv2dWorkload, simd: Simd, arguments: tuple[te.Tensor, te.Tensor, Constants]
) -> s_tir.Schedule:
    """The whole kernel of a pointwise ``workload`` over one row of pixels.

    ``arguments`` are image, weights in layout ``rows`` and constants.
    """
    image, weights, constants = arguments
    sums = lane_sums(workload, simd, image, weights)
    while sums.shape[-1] > 1:
        sums = add_halves(sums)
    results = finished(workload, lambda n, h, w, o: constants.unscaled(sums[w, o, 0], o), constants)
    schedule = s_tir.Schedule(te.create_prim_func([image, weights, *constants.tensors, *results]))
    schedule_tiles(schedule, workload, simd)
    return schedule


def is_asked_ahead(workload: Conv2dWorkload, simd: Simd) -> bool:
    """Whether the kernel asks for weights: for floats from memory, on x86-64."""
    kept = max(simd.l2_bytes, CACHED_PART * simd.l3_bytes)
    is_float = workload.weight_dtype == "float32"
    return is_float and workload.weight_bytes > kept and not simd.fma_by_element


def lane_sums(
    workload: Conv2dWorkload, simd: Simd, image: te.Tensor, weights: te.Tensor
) -> te.Tensor:
    """Block ``ACC``: a vector of sums for each pixel and output channel, in whole tiles."""
    layer = in_words(workload)
    channels, lanes, line = layer.in_channels, simd.lanes(layer.dtype), _line(layer)
    sizes, shape = (workload.out_width, workload.out_channels), tile_shape(workload)
    rounded = [n * size for n, size in zip(_tiles(workload, shape), shape, strict=True)]
    step = te.reduce_axis((0, -(-channels // line) * line // lanes), name="step")

    def sum_of_products(w: tirx.Expr, o: tirx.Expr, lane: tirx.Expr) -> tirx.Expr:
        c = step * lanes + lane
        mask = [i < size for i, size, end in zip((w, o), sizes, rounded, strict=True) if end > size]
        mask += [c < channels] * (channels % line > 0)
        first = w * workload.in_pitch
        if workload.is_quantised:
            places = [WORD * c + place for place in range(WORD)]
            value = dot4(
                word(*(weights[o, i] for i in places)),
                word(*(image[0, 0, first + i] for i in places)),
            )
        else:
            value = image[0, 0, first + c] * weights[o, c].astype(workload.dtype)
        return te.sum(masked(mask, value, layer.dtype), axis=step)

    return te.compute((*rounded, lanes), sum_of_products, name="ACC")


def _line(workload: Conv2dWorkload) -> int:
    """Channels that a tile takes of one row of W before the next: those of a cache line.

    Rows that lie a power of two apart evict each other, but not before their lines are used up.
    """
    return ALIGNMENT // DTYPE_BYTES[workload.weight_dtype]


def add_halves(sums: te.Tensor) -> te.Tensor:
    """Block ``ACC<lanes>``: the upper half of every vector added to the lower one."""
    *outer, lanes = (int(size) for size in sums.shape)
    half = lanes // 2
    return te.compute(
        (*outer, half),
        lambda w, o, lane: sums[w, o, lane] + sums[w, o, lane + half],
        name=f"ACC{half}",
    )


def schedule_tiles(schedule: s_tir.Schedule, workload: Conv2dWorkload, simd: Simd) -> None:
    """Schedule :func:`lane_sums` and what follows, tile by tile, as stage 0."""
    layer = in_words(workload)
    lanes = simd.lanes(layer.dtype)
    halves = [f"ACC{lanes >> level}" for level in range(1, lanes.bit_length())]
    rows, outputs = tile_shape(workload)

    # Step 1: tiles of finished sums. Those along the longer axis are outermost, for threads.
    w, o, _ = schedule.get_loops(schedule.get_sblock(halves[-1]))
    w_outer, w_inner = schedule.split(w, [None, rows])
    o_outer, o_inner = schedule.split(o, [None, outputs])
    outer, inner = sorted((o_outer, w_outer), key=lambda loop: -extent(schedule, loop))
    schedule.reorder(outer, inner, w_inner, o_inner)

    def inside(block: str) -> list[Any]:
        return list(schedule.get_loops(schedule.get_sblock(block))[2:])

    # Step 2: in each of them first the vectors, one unrolled tile inside of the reduction.
    for block in reversed(["ACC", *halves[:-1]]):
        schedule.compute_at(schedule.get_sblock(block), inner, preserve_unit_loops=True)
    w, o, lane, step = inside("ACC")
    s_outer, s_inner = schedule.split(step, [None, _line(layer) // lanes])
    schedule.reorder(s_outer, s_inner, w, o, lane)

    # Step 3: then their halves and the epilogue, while all of it is in registers.
    schedule.reverse_compute_at(schedule.get_sblock("Y"), inner, preserve_unit_loops=True)
    if workload.is_quantised and workload.out_channels % outputs == 0:
        straighten(schedule, *inside("Y"))  # elements side by side are rounded together
    else:
        unroll(schedule, inside("Y"))
    for block in halves:
        straighten(schedule, *inside(block))
    for block in ("ACC", *halves):
        schedule.set_scope(schedule.get_sblock(block), 0, "local")

    # Step 4: split border tiles from interior ones, and the tail of the sums from whole lines.
    partition(schedule, w_outer)
    partition(schedule, o_outer)
    cut_tails(schedule, (s_outer, s_inner, lane), layer.in_channels, _line(layer))

    # Step 5: straight-line code inside.
    keep_rolled(schedule, inner)
    if extent(schedule, s_outer) == 1:
        schedule.unroll(s_outer)
    else:
        keep_rolled(schedule, s_outer)
    straighten(schedule, s_inner, w, o, lane)
    if is_asked_ahead(workload, simd):
        ahead = AHEAD_BYTES // DTYPE_BYTES[workload.weight_dtype]
        prefetch_weights(schedule, s_outer, ahead, INTO_L2)
    begin_sums(schedule, schedule.get_sblock("ACC"), s_outer, unrolled=2)

    # Step 6: threads share tiles.
    mark_stage(schedule, outer)
