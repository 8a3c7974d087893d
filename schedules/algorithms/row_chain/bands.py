"""How a chain is cut: strips of columns, a kernel for each row, and the rows that are kept.

The last layer's output is computed in strips of columns, each from top to bottom. In a strip, every
layer computes so many columns that the next one finds all that it reads; those between two strips
are computed for both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

from schedules.layer.row_chain import RowChain, reach_of
from schedules.layer.workload import Conv2dWorkload
from schedules.lower.memory import align


@dataclass(frozen=True)
class Band:
    """One layer in one strip: the columns of its input and of its output."""

    layer: Conv2dWorkload
    in_begin: int
    in_end: int
    out_begin: int
    out_end: int

    @classmethod
    def of(cls, layer: Conv2dWorkload, out_begin: int, out_end: int) -> Band:
        """What computes these columns of the output; it reads no others than it has to."""
        begin = out_begin * layer.stride_width - layer.pad_left
        end = (out_end - 1) * layer.stride_width - layer.pad_left
        end += (layer.kernel_width - 1) * layer.dilation_width + 1
        return cls(layer, max(begin, 0), min(end, layer.in_width), out_begin, out_end)

    @cached_property
    def row(self) -> Conv2dWorkload:
        """What a kernel computes: a row of the output, of as many rows of the input as it reads.

        Rows beyond the image are among these, of zeros; columns beyond it are the kernel's padding.
        """
        layer = self.layer
        before = layer.pad_left - self.out_begin * layer.stride_width + self.in_begin
        reach = (self.out_end - self.out_begin - 1) * layer.stride_width + 1
        reach += (layer.kernel_width - 1) * layer.dilation_width
        return replace(
            layer,
            in_height=reach_of(layer),
            in_width=self.in_end - self.in_begin,
            pad_top=0,
            pad_bottom=0,
            pad_left=before,
            pad_right=reach - before - (self.in_end - self.in_begin),
        )


@dataclass(frozen=True)
class Window:
    """The rows that are kept of one layer's input.

    Parameters
    ----------
    rows : int
        How many; 0 if it is read where the chain's input is.
    offset, bytes : int
        Where in a thread's workspace.
    """

    rows: int
    offset: int
    bytes: int


@lru_cache(maxsize=4096)
def strips_of(chain: RowChain, columns: int) -> tuple[tuple[Band, ...], ...]:
    """The bands of every strip of so many columns of the last layer's output, layer by layer."""
    width = chain.layers[-1].out_width
    strips = []
    for start in range(0, width, columns):
        begin, end = start, min(start + columns, width)
        bands: list[Band] = []
        for layer in reversed(chain.layers):
            band = Band.of(layer, begin, end)
            bands.append(band)
            begin, end = band.in_begin, band.in_end
        strips.append(tuple(reversed(bands)))
    return tuple(strips)


@lru_cache(maxsize=4096)
def windows_of(chain: RowChain, columns: int) -> tuple[tuple[Window, ...], int]:
    """What is kept of each layer's input, and the bytes of it all.

    A single row that is read at once lives while two layers run, and shares its memory: such rows
    lie from the bottom upwards and from the top downwards in turns.
    """
    strips = strips_of(chain, columns)
    rows = [_rows(chain, place) for place in range(len(chain.layers))]
    sizes = [
        count * _pixels(strips, place) * chain.layers[place].in_channels * chain.element_bytes
        for place, count in enumerate(rows)
    ]
    added = {source for source in chain.sources if source is not None}
    kept = {place for place, count in enumerate(rows) if count > 1 or place == 0} | added
    offsets, end = {}, 0
    for place in sorted(kept):
        offsets[place] = end
        end += align(sizes[place])
    passing = [0 if place in kept else align(size) for place, size in enumerate(sizes)]
    room = max(map(sum, zip(passing, [*passing[1:], 0], strict=True)))
    for place in range(len(sizes)):
        if place not in kept:
            offsets[place] = end if place % 2 else end + room - passing[place]
    windows = [
        Window(count, offsets[place], sizes[place] if count else 0)
        for place, count in enumerate(rows)
    ]
    return tuple(windows), end + room


def halo_bytes(chain: RowChain) -> int:
    """Of the rows of the input that the threads above and below a boundary both read."""
    rows = sum(reach_of(layer) - 1 for layer in chain.layers)
    first = chain.layers[0]
    return align(rows * first.in_width * first.in_channels * chain.element_bytes)


def columns_of(chain: RowChain) -> list[int]:
    """Widths of strips that are worth trying: all of it, a half, …."""
    width = chain.layers[-1].out_width
    return sorted({-(-width // count) for count in (1, 2, 3, 4, 6, 8)}, reverse=True)


def fewest(chain: RowChain) -> int:
    """The bytes of the narrowest of these."""
    return windows_of(chain, columns_of(chain)[-1])[1]


def _pixels(strips: Sequence[Sequence[Band]], place: int) -> int:
    """Columns of a layer's input in the widest strip."""
    return max(bands[place].in_end - bands[place].in_begin for bands in strips)


def _rows(chain: RowChain, place: int) -> int:
    """Rows of a layer's input that are needed at once.

    A residual is added when the layers from its source on have run ahead of it.
    """
    layer = chain.layers[place]
    if place == 0:
        return (
            0 if reach_of(layer) == 1 and not layer.pad_top + layer.pad_bottom else reach_of(layer)
        )
    needed = reach_of(layer)
    for reader, source in enumerate(chain.sources):
        if source == place:
            between = chain.layers[place : reader + 1]
            needed = max(needed, 1 + sum(reach_of(la) - 1 - la.pad_top for la in between))
    return needed
