"""What the algorithms do to memory, on one image of 4x4 pixels and a kernel of 3x3, a row each.

One channel in and one out, no padding: 2x2 outputs. The numbers in the cells are those of the
pixels, so that one sees which of them an algorithm copies, and how often.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from scripts.benchmarks.harness.charts import COLOURS, GREY
from scripts.pictures.sketch import arrow, frame, grid, sketch, text

SIZE, TAPS = 4, 3
OUT = SIZE - TAPS + 1
IMAGE = np.arange(SIZE * SIZE).reshape(SIZE, SIZE)
SIDE, TOP, PITCH = 0.22, 0.75, 1.3
#: Left edges of what is drawn.
NAME, INPUT, WORKSPACE, NOTE = 0.1, 1.45, 2.9, 6.3

Pixels = NDArray[np.int64]


@dataclass(frozen=True)
class Row:
    """One algorithm: matrices of pixels' numbers in its workspace, and what is to be said of it."""

    name: str
    workspace: tuple[Pixels, ...]
    note: str
    patch: int = 0
    """So many cells at the start of the first line are the patch of the first output."""
    mixed: bool = False
    """Whether cells hold sums and products rather than pixels."""

    @property
    def numbers(self) -> int:
        """How many the workspace holds."""
        return sum(part.size for part in self.workspace)


def patch_matrix() -> Pixels:
    """im2col's: a row for each output pixel, its patch."""
    windows = np.lib.stride_tricks.sliding_window_view(IMAGE, (TAPS, TAPS))
    return windows.reshape(OUT * OUT, TAPS * TAPS)


def compact_matrix() -> Pixels:
    """MEC's: a row for each output column, the image columns under it."""
    return np.array([IMAGE[:, w : w + TAPS].ravel() for w in range(OUT)])


ROWS = (
    Row("direct, indirect", (), "each patch is read where it lies"),
    Row(
        "im2col",
        (patch_matrix(),),
        "a row for each output pixel:\na pixel up to 4 times",
        TAPS * TAPS,
    ),
    Row(
        "mec",
        (compact_matrix(),),
        "a row for each output column:\npatches overlap in it",
        TAPS * TAPS,
    ),
    Row(
        "kn2row",
        (IMAGE,) * (TAPS * TAPS),
        "the image times each tap of the\nkernel, then shifted and added",
        mixed=True,
    ),
    Row("kn2row_aa", (), "the same, each product added\nto the output where it belongs"),
    Row(
        "winograd, F(2x2, 3x3)",
        (IMAGE, IMAGE),
        "a tile transformed, and products:\n16 multiplications instead of 36,\nbut weights of 16",
        mixed=True,
    ),
)


def picture() -> str:
    """All rows under one another."""
    return sketch(9, TOP + PITCH * len(ROWS), _draw)


def _draw(axes: Axes) -> None:
    head = {"fontsize": 10, "weight": "bold"}
    text(axes, INPUT, 0.3, "image, 4x4", **head)
    text(axes, WORKSPACE, 0.3, "workspace: what is held besides", **head)
    for place, row in enumerate(ROWS):
        _draw_row(axes, TOP + place * PITCH, row)


def _draw_row(axes: Axes, top: float, row: Row) -> None:
    middle = top + 2 * SIDE
    text(axes, NAME, middle, row.name.replace(", ", ",\n"), fontsize=10)
    grid(axes, INPUT, top, IMAGE, _colour, SIDE)
    frame(axes, INPUT, top, TAPS * SIDE, TAPS * SIDE)
    if row.workspace:
        arrow(axes, (INPUT + 4.3 * SIDE, middle), (WORKSPACE - 0.12, middle))
    left = WORKSPACE
    # Many matrices stand in two lines of small cells.
    lines, side = (1, SIDE) if len(row.workspace) < TAPS else (2, SIDE / 2)
    for number, part in enumerate(row.workspace):
        across, down = divmod(number, lines)
        x = left + across * (part.shape[1] + 1) * side
        y = middle + (down - lines / 2) * (part.shape[0] + 0.6) * side + 0.3 * side
        grid(axes, x, y, part, _mixed if row.mixed else _colour, side, _none if row.mixed else str)
        if row.patch:
            frame(axes, x, y, row.patch * side, side)
    text(axes, NOTE, middle, f"{row.numbers} numbers: {row.note}", fontsize=9)


def _colour(pixel: int) -> str:
    """A hue for each row of the image."""
    return COLOURS[(0, 1, 2, 4)[pixel // SIZE]]


def _mixed(_pixel: int) -> str:
    return GREY


def _none(_pixel: int) -> str:
    return ""
