"""Tiles of depthwise convolutions: which avoid spills, what they cost, which to take untuned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from schedules.kernel import sharing
from schedules.kernel.knobs import Knob, by_name, never
from schedules.layer.workload import Conv2dWorkload
from schedules.target.simd import Simd

#: How products of int8 are added: in pairs in 16 bits, which fit unless both weights are -128 (with
#: NEON); or each by itself.
PAIRED, SINGLE = "paired", "single"
#: Threads share either of these: rows of tiles, or blocks of channels.
SHARED = ("rows", "channels")
#: A block of channels has at least so many bytes of a pixel, and at most twice that. These are two
#: cache lines, which many processors fetch together.
BLOCK_BYTES = 128
#: Kernels of up to so many taps have all of them unrolled; the rows of larger ones are a loop.
MAX_UNROLLED_TAPS = 25
#: Kernels of up to so many columns have these unrolled.
MAX_UNROLLED_COLUMNS = 7
#: A tile has at most so many multiply-adds; of more, LLVM's scheduler mixes so many that registers
#: spill.
MAX_MULTIPLY_ADDS = 200


@dataclass(frozen=True)
class DepthwiseTile:
    """The knobs of a depthwise kernel.

    Parameters
    ----------
    rows, columns : int
        Output pixels of a register tile, by one vector of channels.
    channels : int
        Output channels of a block, for which the whole image is done before the next; a multiple of
        the vector lanes.
    shared : str
        One of :data:`SHARED`.
    """

    rows: int
    columns: int
    channels: int
    shared: str

    @classmethod
    def of(cls, knobs: Mapping[str, Any]) -> DepthwiseTile:
        """The tile in an algorithm's knobs."""
        return cls(**{name: knobs[name] for name in cls.__dataclass_fields__})


def gathers(workload: Conv2dWorkload) -> bool:
    """Whether lanes that stand side by side read elements that do not."""
    return workload.out_channels > workload.in_channels


def unrolled_taps(workload: Conv2dWorkload) -> tuple[int, int]:
    """Kernel rows and columns that are straight-line code."""
    height, width = workload.kernel_height, workload.kernel_width
    rolled = height * width > MAX_UNROLLED_TAPS or gathers(workload)
    return 1 if rolled else height, width if width <= MAX_UNROLLED_COLUMNS else 1


def can_pair(workload: Conv2dWorkload, simd: Simd) -> bool:
    """Whether products of int8 can be added in pairs in 16 bits: with NEON, of unrolled taps."""
    if workload.dtype == "uint8" or not workload.is_quantised or simd.arch != "aarch64":
        return False
    return unrolled_taps(workload) == (workload.kernel_height, workload.kernel_width)


def vector_lanes(workload: Conv2dWorkload, simd: Simd, products: str = SINGLE) -> int:
    """Channels of a vector: with NEON, as many as of 16 bits, whose products fill two registers.

    Of products in pairs, which nothing but sums needs registers for, as many as of 8 bits.
    """
    if not workload.is_quantised:
        return simd.lanes(workload.dtype)
    return simd.lanes("int32") * sum_registers(workload, simd, products)


def sum_registers(workload: Conv2dWorkload, simd: Simd, products: str = SINGLE) -> int:
    """Registers of a vector of sums."""
    if not workload.is_quantised or simd.arch != "aarch64":
        return 1
    return 4 if products == PAIRED and workload.out_channels >= simd.lanes("int8") else 2


def window(outputs: int, taps: int, stride: int, dilation: int) -> list[int]:
    """Rows (or columns) of the image for a tile's ``outputs``, in the order in which it reads them.

    For every kernel row the rows of the tile: what one has read, the next often reads again.
    """
    return [tap * dilation + output * stride for tap in range(taps) for output in range(outputs)]


def registers(workload: Conv2dWorkload, simd: Simd, rows: int, columns: int) -> int:
    """Vectors that a tile needs at once: sums, image elements that are read again, weights."""
    w, (kernel_rows, kernel_columns) = workload, unrolled_taps(workload)
    read = window(rows, kernel_rows, w.stride_height, w.dilation_height)
    live_rows = max(len({*read[: i + 1]} & {*read[i:]}) for i in range(len(read)))
    if kernel_rows < w.kernel_height:
        live_rows = rows  # which LLVM then mixes
    live_columns = len({*window(columns, kernel_columns, w.stride_width, w.dilation_width)})
    # x86 multiplies from memory what no other row of the tile needs.
    weights = kernel_columns if rows > 1 or simd.fma_by_element else 1
    sums = rows * columns * sum_registers(workload, simd)
    return sums + live_rows * live_columns + weights


def fits(
    workload: Conv2dWorkload, simd: Simd, rows: int, columns: int, products: str = SINGLE
) -> bool:
    """Whether a tile avoids spills, and its code is not too long."""
    if products == PAIRED:  # sums in half of the registers
        sums = rows * columns * sum_registers(workload, simd, products)
        return sums <= simd.vector_registers // 2
    kernel_rows, kernel_columns = unrolled_taps(workload)
    multiply_adds = rows * columns * kernel_rows * kernel_columns
    # A border of several tiles tests every product; a vector is gathered lane by lane.
    wide_border = workload.pad_left > columns * workload.stride_width
    if multiply_adds * (4 if wide_border or gathers(workload) else 1) > MAX_MULTIPLY_ADDS:
        return rows == columns == 1
    # For the constants of the activation, and for loading ahead of use: most where it has to be.
    spare = 9 if simd.in_order else simd.vector_registers // 8
    return registers(workload, simd, rows, columns) + spare <= simd.vector_registers


def cost(workload: Conv2dWorkload, rows: int, columns: int) -> int:
    """Instructions for one vector of channels of the whole image, border tiles as if full.

    A load of the image counts twice: it may come from behind the L1 cache.
    """
    w = workload
    taps = w.kernel_height * w.kernel_width

    def tile(height: int, width: int) -> int:
        read_rows = {*window(height, w.kernel_height, w.stride_height, w.dilation_height)}
        read_columns = {*window(width, w.kernel_width, w.stride_width, w.dilation_width)}
        # A vector of sums starts as a copy, is clamped twice and stored; and the loop takes some.
        return height * width * (taps + 4) + 2 * len(read_rows) * len(read_columns) + taps + 8

    return sum(
        count_rows * count_columns * tile(height, width)
        for height, count_rows in _pieces(w.out_height, rows)
        for width, count_columns in _pieces(w.out_width, columns)
    )


def _pieces(size: int, tile: int) -> list[tuple[int, int]]:
    """Tile sizes that cover ``size``, and how many there are of each."""
    whole, rest = divmod(size, tile)
    return [(tile, whole), *([(rest, 1)] if rest else [])]


@lru_cache(maxsize=1024)
def default_tile(workload: Conv2dWorkload, simd: Simd, products: str = SINGLE) -> DepthwiseTile:
    """The tile to use untuned: of those that fit, the one of the fewest instructions.

    Blocks of channels are narrow, so that what neighbouring tiles share comes from the L1 cache.
    But images of x86-64 that the L2 cache does not hold are read with all channels, in the order of
    memory: .65 to .75 of the time from memory, .85 to .97 from the L3 cache (of smaller ones from
    the L2 cache 1.0 to 1.4), measured on a Zen 4; and 112x112x64 at stride 2 in tiles of 3x2 in .85
    of the time of 2x3. Threads share tiles, or blocks of channels, by
    :mod:`schedules.kernel.sharing`; on Arm the more even of blocks of channels and whole rows.
    """
    shapes = [
        (rows, columns)
        for rows in range(1, 5)
        for columns in range(1, 9)
        if fits(workload, simd, rows, columns, products)
    ]
    streams = workload.input_bytes > simd.l2_bytes and not simd.fma_by_element

    def key(shape: tuple[int, int]) -> tuple[int, int]:
        # Of equals, the higher one where image rows that two tiles share come from beyond the L2.
        return cost(workload, *shape), -shape[0] if streams else 0

    rows, columns = min(shapes, key=key)
    lanes = vector_lanes(workload, simd, products)
    vectors = -(-workload.out_channels // lanes)
    # Equal blocks, so that no vector is left alone: its weights would take up registers.
    least = BLOCK_BYTES // simd.vector_bytes
    equal = [size for size in range(least, 2 * least + 1) if vectors % size == 0] or [vectors]
    block = max(equal, key=lambda size: sharing.evenness(vectors // size, simd.cores))
    if simd.fma_by_element:
        # Narrow blocks in rows that threads share take registers for addresses that spill.
        by_channels = sharing.evenness(vectors // block, simd.cores)
        if by_channels >= sharing.evenness(-(-workload.out_height // rows), simd.cores):
            return DepthwiseTile(rows, columns, block * lanes, "channels")
        return DepthwiseTile(rows, columns, vectors * lanes, "rows")
    if streams:
        return DepthwiseTile(rows, columns, vectors * lanes, "rows")
    slots = vectors * cost(workload, rows, columns)
    tiles = -(-workload.out_height // rows) * -(-workload.out_width // columns)
    by_channels = sharing.loss_by_channels(workload, simd, slots, vectors // block)
    by_rows = sharing.loss_by_pixels(workload, simd, slots, tiles)
    shared = "channels" if by_channels < by_rows else "rows"
    return DepthwiseTile(rows, columns, block * lanes, shared)


def knobs(workload: Conv2dWorkload, simd: Simd, products: str = SINGLE) -> dict[str, Knob]:
    """The named choices, with :func:`default_tile` as their defaults."""
    tile = default_tile(workload, simd, products)
    lanes = vector_lanes(workload, simd, products)
    vectors = -(-workload.out_channels // lanes)
    blocks = {lanes * size for size in (1, 2, 4, 8, 16, vectors) if size <= vectors}

    def is_tile(rows: int, columns: int) -> bool:
        inside = rows <= workload.out_height and columns <= workload.out_width
        return inside and fits(workload, simd, rows, columns, products)

    return by_name(
        Knob("rows", tuple(range(1, 5)), tile.rows, tried=is_tile, beside=("columns",)),
        Knob("columns", tuple(range(1, 9)), tile.columns),
        Knob(
            "channels",
            tuple(sorted(blocks | {tile.channels})),
            tile.channels,
            feature=lambda channels: channels / lanes,
        ),
        # What threads share makes no difference for one thread, which is what is measured.
        Knob("shared", SHARED, tile.shared, tried=never),
    )
