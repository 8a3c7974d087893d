"""Charts of groups and series by matplotlib, as SVG that reads well on white and on black.

The pictures have no background, and their colours stand out from white and from near-black alike.
A series has its own pair of colour and shape, so that it can be told apart without seeing colours.
Equal data make equal files.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

#: Hues apart in every common form of colour blindness, of middling lightness.
COLOURS = ("#0077bb", "#d0661a", "#00897b", "#cc3311", "#8a63d2", "#b8467f", "#8c7a00")
SHAPES = "os^D"
#: Text and lines.
GREY = "#737a84"
STYLE = {
    "axes.edgecolor": GREY,
    "axes.labelcolor": GREY,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "grid.color": GREY,
    "grid.alpha": 0.35,
    "svg.fonttype": "none",
    "svg.hashsalt": "leanconv",
    "text.color": GREY,
    "xtick.color": GREY,
    "ytick.color": GREY,
}


def svg(figure: Figure) -> str:
    """A figure as a document that depends on nothing but what is drawn."""
    file = io.StringIO()
    with matplotlib.rc_context(STYLE):
        options: dict[str, Any] = {"transparent": True, "bbox_inches": "tight"}
        figure.savefig(file, format="svg", metadata={"Date": None}, **options)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"


def dot_chart(
    title: str,
    axis_title: str,
    groups: Sequence[str],
    series: Mapping[str, Sequence[float | None]],
    *,
    floor: float | None = None,
    baseline: float | None = None,
) -> str:
    """An SVG document: groups along x, in each a dot for every series, over a logarithmic axis.

    Parameters
    ----------
    title, axis_title : str
        Above the picture, and what is measured in which unit.
    groups : sequence of str
        Names along the x axis.
    series : mapping of str to sequence
        One value for each group; ``None``, where there is none, becomes a cross under the axis.
    floor : float, optional
        Smaller values, down to 0, are drawn here.
    baseline : float, optional
        Every dot stands at the end of a bar from this value.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9, 4.2))
        axes = figure.add_subplot()
        axes.set_yscale("log")
        for rank, (name, values) in enumerate(series.items()):
            style: dict[str, Any] = {
                "color": COLOURS[rank % len(COLOURS)],
                "marker": SHAPES[rank % len(SHAPES)],
            }
            # Side by side, so that equal values do not hide each other.
            step = (rank + 1) / (len(series) + 1)
            present = [(group + step, v) for group, v in enumerate(values) if v is not None]
            xs, ys = [x for x, _ in present], [max(v, floor or v) for _, v in present]
            axes.plot(xs, ys, linestyle="", markersize=5, label=name, gid=f"mark{rank}", **style)
            if baseline is not None:
                axes.vlines(xs, baseline, ys, color=style["color"], alpha=0.6, linewidth=4)
            absent = [group + step for group, v in enumerate(values) if v is None]
            under = axes.get_xaxis_transform()
            axes.plot(
                absent, [-0.03] * len(absent), "x", color=style["color"], markersize=4,
                transform=under, clip_on=False, gid=f"mark{rank}_none",
            )  # fmt: skip
        _finish(axes, title, axis_title, groups, baseline)
        notes = [f"less than {floor:g} is drawn at {floor:g}"] if floor is not None else []
        if any(value is None for values in series.values() for value in values):
            notes.append("×: none")
        axes.set_title("; ".join(notes), loc="right", fontsize=9)
        columns = min(len(series), 5)
        figure.legend(loc="lower left", bbox_to_anchor=(0.1, 0.98), ncols=columns, frameon=False)
    return svg(figure)


def _finish(
    axes: Any, title: str, axis_title: str, groups: Sequence[str], baseline: float | None
) -> None:
    """Names, ticks and lines."""
    axes.set_title(f"{title}\n{axis_title}", loc="left", fontsize=10)
    axes.set_xlim(0, len(groups))
    slanted = max(map(len, groups)) * len(groups) > 120
    axes.set_xticks(
        [group + 0.5 for group in range(len(groups))],
        groups,
        rotation=20 if slanted else 0,
        ha="right" if slanted else "center",
    )
    axes.tick_params(axis="x", length=0, pad=8)
    least, most = axes.get_ylim()
    steps = (1, 2, 5) if most / least < 1e3 else (1,)
    axes.yaxis.set_major_locator(LogLocator(subs=steps))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.grid(axis="y")
    for edge in range(1, len(groups)):
        axes.axvline(edge, color=GREY, alpha=0.35, linewidth=0.6)
    if baseline is not None:
        axes.axhline(baseline, color=GREY)
