"""Boxes, arrows and grids of numbers, in the style of the charts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle
from numpy.typing import NDArray

from scripts.benchmarks.harness.charts import COLOURS, GREY, STYLE, svg

#: What stands on a colour.
ON_COLOUR = "#ffffff"


def sketch(width: float, height: float, draw: Callable[[Axes], None]) -> str:
    """An SVG document of ``width`` by ``height`` units, y downwards, 100 pixels a unit."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, width), ylim=(height, 0), aspect="equal")
        axes.axis("off")
        draw(axes)
    return svg(figure)


def text(axes: Axes, x: float, y: float, words: str, **style: Any) -> None:
    """Text whose left end is at ``x``, in the middle of its height at ``y``."""
    axes.text(x, y, words, **{"va": "center", "color": GREY, "linespacing": 1.4, **style})


def box(
    axes: Axes, x: float, y: float, width: float, height: float, words: str, rank: int | None = None
) -> None:
    """A box with text in its middle, framed in grey or filled with a colour of the charts."""
    colour = "none" if rank is None else COLOURS[rank]
    shape = "round,pad=0,rounding_size=0.08"
    place: dict[str, Any] = {
        "boxstyle": shape,
        "facecolor": colour,
        "edgecolor": GREY if rank is None else colour,
    }
    axes.add_patch(FancyBboxPatch((x, y), width, height, **place))
    on = GREY if rank is None else ON_COLOUR
    text(axes, x + width / 2, y + height / 2, words, ha="center", color=on)


def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    """From one point to another."""
    style = {"arrowstyle": "-|>", "color": GREY, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", xy=end, xytext=start, arrowprops=style)


def grid(
    axes: Axes,
    x: float,
    y: float,
    numbers: NDArray[Any],
    colour: Callable[[int], str],
    side: float = 0.22,
    label: Callable[[int], str] = str,
) -> None:
    """A matrix, its rows one under another: a cell for each number, which stands in it."""
    corners = [(x + c * side, y + r * side) for r, c in np.ndindex(numbers.shape)]
    values = numbers.ravel().tolist()
    cells = [Rectangle(corner, side, side) for corner in corners]
    faces = [colour(number) for number in values]
    axes.add_collection(
        PatchCollection(cells, facecolors=faces, edgecolors=ON_COLOUR, linewidths=0.6)
    )
    for (left, top), number in zip(corners, values, strict=True):
        if words := label(number):
            middle = {"ha": "center", "color": ON_COLOUR, "fontsize": 6.5}
            text(axes, left + side / 2, top + side / 2, words, **middle)


def frame(axes: Axes, x: float, y: float, width: float, height: float) -> None:
    """A thick outline around what belongs together."""
    style: dict[str, Any] = {"facecolor": "none", "edgecolor": COLOURS[3], "linewidth": 1.6}
    axes.add_patch(Rectangle((x, y), width, height, **style))
