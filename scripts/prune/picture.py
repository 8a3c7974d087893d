"""Accuracy against zeros: a line for each way of pruning, the unpruned network as a level."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.figure import Figure

#: Text and lines, on white and on black.
GREY = "#737a84"
STYLE = {
    **dict.fromkeys(("axes.edgecolor", "axes.labelcolor", "text.color", "grid.color"), GREY),
    **dict.fromkeys(("xtick.color", "ytick.color"), GREY),
    **dict.fromkeys(("axes.spines.right", "axes.spines.top"), False),
    "font.size": 9,
    "grid.alpha": 0.35,
    "svg.fonttype": "none",
    "svg.hashsalt": "leanconv",
}
SHAPES = "os^Dv"
#: (zeros, accuracy, spread), parts of 1.
Point = tuple[float, float, float]


def accuracy_chart(title: str, dense: float, lines: Mapping[str, Sequence[Point]]) -> str:
    """An SVG document.

    Parameters
    ----------
    dense : float
        Accuracy of the unpruned network, a part of 1.
    lines : mapping of str to sequence of Point
        By the name of the way; a spread of 0 is not drawn.
    """
    file = io.StringIO()
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6, 3.6))
        axes = figure.add_subplot()
        axes.axhline(100 * dense, color=GREY, linestyle="--", linewidth=1, label="unpruned")
        for shape, (name, points) in zip(SHAPES, lines.items(), strict=False):
            values = [[100 * value for value in column] for column in zip(*points, strict=True)]
            spread = values[2] if any(values[2]) else None
            axes.errorbar(values[0], values[1], spread, marker=shape, capsize=3, label=name)
        axes.set(title=title, xlabel="zeros in the Winograd domain, %", ylabel="accuracy, %")
        axes.grid(True)
        axes.legend(frameon=False)
        options: dict[str, Any] = {"transparent": True, "bbox_inches": "tight"}
        figure.savefig(file, format="svg", metadata={"Date": None}, **options)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"
