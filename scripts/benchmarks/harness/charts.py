"""Dot charts over a logarithmic axis, as SVG: groups along x, in each a dot for every series.

Of ratios, the dots may stand at the ends of bars that start at 1.

The picture has no background, and its colours stand out from white and from near-black alike. A
series has its own pair of colour and shape, so that it can be told apart without seeing colours.
Everything is a plain element with attributes, which any viewer of SVG draws.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

#: Hues apart in every common form of colour blindness, of middling lightness.
COLOURS = ("#0077bb", "#d0661a", "#00897b", "#cc3311", "#8a63d2", "#b8467f", "#8c7a00")
#: As points around the centre, in units of the dot's radius; none: a circle.
SHAPES: tuple[tuple[tuple[float, float], ...], ...] = (
    (),
    ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
    ((0, -1.2), (1.1, 0.9), (-1.1, 0.9)),
    ((0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)),
)
#: Text and lines.
GREY = "#737a84"

WIDTH, PLOT_HEIGHT = 900, 380
LEFT, RIGHT, BOTTOM = 70, 10, 70
LEGEND_TOP, LEGEND_ROW, LEGEND_COLUMNS = 42, 20, 5
RADIUS = 3.4


@dataclass(frozen=True)
class LogAxis:
    """A logarithmic axis between two round values."""

    least: float
    most: float

    @classmethod
    def around(cls, values: Sequence[float]) -> LogAxis:
        """From the last of 1, 2, 5, 10, 20, … below all values to the first above them."""
        least, most = min(values), max(values)
        first, last = math.floor(math.log10(least)) - 1, math.ceil(math.log10(most)) + 1
        steps = [m * 10.0**e for e in range(first, last + 1) for m in _STEPS]
        below = max(step for step in steps if step <= least)
        return cls(below, min(step for step in steps if step > most))

    @property
    def decades(self) -> float:
        """How many powers of ten it spans."""
        return math.log10(self.most / self.least)

    def position(self, value: float) -> float:
        """0 at the least value, 1 at the most."""
        return math.log10(value / self.least) / self.decades

    def ticks(self) -> list[float]:
        """Powers of ten; with 2 and 5 of each where those alone would be few."""
        exponents = range(math.floor(math.log10(self.least)), math.ceil(math.log10(self.most)) + 1)
        multiples = _STEPS if self.decades < 3 else _STEPS[:1]
        ticks = [multiple * 10.0**exponent for exponent in exponents for multiple in multiples]
        slack = 1 + 1e-9  # of the logarithms
        return [tick for tick in ticks if self.least / slack <= tick <= self.most * slack]


_STEPS = (1, 2, 5)


def dot_chart(
    title: str,
    axis_title: str,
    groups: Sequence[str],
    series: Mapping[str, Sequence[float | None]],
    *,
    floor: float | None = None,
    baseline: float | None = None,
) -> str:
    """An SVG document.

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
    shown = {
        name: [None if v is None else v if floor is None else max(v, floor) for v in values]
        for name, values in series.items()
    }
    present = [value for values in shown.values() for value in values if value is not None]
    axis = LogAxis.around([*present, *([baseline] if baseline else [])] or [1.0])
    rows = -(-len(series) // LEGEND_COLUMNS)
    top = LEGEND_TOP + rows * LEGEND_ROW + 24
    height = top + PLOT_HEIGHT + BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'height="{height}" font-family="sans-serif" font-size="13" fill="{GREY}">',
        f"<title>{escape(title)}</title>",
        _text(LEFT, 20, title, size=16),
        *_legend(list(series)),
        _text(LEFT, top - 10, axis_title),
        _text(WIDTH - RIGHT, top - 10, _note(present, series, floor), anchor="end"),
        *_scale(axis, top),
        *_group_labels(groups, top),
    ]
    for rank, (name, values) in enumerate(shown.items()):
        for group, value in enumerate(values):
            x = _dot_x(group, rank, len(groups), len(series))
            described = f"{name}, {groups[group]}: "
            if value is None:
                y = top + PLOT_HEIGHT + 9.0
                described += "none"
            else:
                y = _y(axis, value, top)
                described += f"{series[name][group]:.4g}"
                if baseline:
                    parts.append(_bar(rank, x, _y(axis, baseline, top), y))
            parts.append(_mark(rank, x, y, value is not None, described))
    if baseline:
        y = _y(axis, baseline, top)
        parts.append(_line(LEFT, y, WIDTH - RIGHT, y, 1))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _note(
    present: Sequence[float], series: Mapping[str, Sequence[float | None]], floor: float | None
) -> str:
    """What a reader must know who meets a value that is not there, or one that is too small."""
    notes = []
    if floor is not None and floor in present:
        notes.append(f"less than {floor:g} is drawn at {floor:g}")
    if any(value is None for values in series.values() for value in values):
        notes.append("×: none")
    return "; ".join(notes)


def _legend(names: Sequence[str]) -> list[str]:
    parts = []
    column_width = (WIDTH - LEFT - RIGHT) / LEGEND_COLUMNS
    for rank, name in enumerate(names):
        x = LEFT + rank % LEGEND_COLUMNS * column_width
        y = LEGEND_TOP + rank // LEGEND_COLUMNS * LEGEND_ROW
        parts += [_shape(rank, x + 5, y, RADIUS * 1.4), _text(x + 16, y + 4.5, name)]
    return parts


def _scale(axis: LogAxis, top: float) -> list[str]:
    parts = []
    for tick in axis.ticks():
        y = _y(axis, tick, top)
        parts.append(_line(LEFT, y, WIDTH - RIGHT, y, 0.35))
        parts.append(_text(LEFT - 8, y + 4.5, f"{tick:,.10g}", anchor="end"))
    return parts


def _group_labels(groups: Sequence[str], top: float) -> list[str]:
    """Names under their groups, slanted if one is too long, and lines between the groups."""
    step, bottom = _group_step(len(groups)), top + PLOT_HEIGHT
    slanted = max(map(len, groups)) * 8 > step
    parts = []
    for group, name in enumerate(groups):
        edge, y = LEFT + group * step, bottom + 32
        parts.append(_line(edge, top, edge, bottom + 18, 0.35))
        if slanted:
            x = edge + 0.8 * step
            turn = f' transform="rotate(-20 {x:.1f} {y:.1f})"'
            parts.append(_text(x, y, name, anchor="end", more=turn))
        else:
            parts.append(_text(edge + step / 2, y, name, anchor="middle"))
    return parts


def _group_step(groups: int) -> float:
    return (WIDTH - LEFT - RIGHT) / groups


def _dot_x(group: int, rank: int, groups: int, series: int) -> float:
    """Dots of a group stand side by side, so that equal values do not hide each other."""
    return LEFT + _group_step(groups) * (group + (rank + 1) / (series + 1))


def _y(axis: LogAxis, value: float, top: float) -> float:
    return top + PLOT_HEIGHT * (1 - axis.position(value))


def _mark(rank: int, x: float, y: float, present: bool, described: str) -> str:
    drawn = _shape(rank, x, y, RADIUS) if present else _cross(rank, x, y)
    return f'<g class="mark"><title>{escape(described)}</title>{drawn}</g>'


def _shape(rank: int, x: float, y: float, radius: float) -> str:
    colour, shape = COLOURS[rank % len(COLOURS)], SHAPES[rank % len(SHAPES)]
    if not shape:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="{colour}"/>'
    points = " ".join(f"{x + dx * radius:.1f},{y + dy * radius:.1f}" for dx, dy in shape)
    return f'<polygon points="{points}" fill="{colour}"/>'


def _bar(rank: int, x: float, start: float, end: float) -> str:
    colour = COLOURS[rank % len(COLOURS)]
    low, high = sorted((start, end))
    place = f'x="{x - RADIUS:.1f}" y="{low:.1f}" width="{2 * RADIUS:.1f}"'
    return f'<rect class="bar" {place} height="{high - low:.1f}" fill="{colour}" opacity="0.6"/>'


def _cross(rank: int, x: float, y: float) -> str:
    colour, arm = COLOURS[rank % len(COLOURS)], 2.2
    path = " ".join(
        f"M{x - arm:.1f} {y - slope * arm:.1f}L{x + arm:.1f} {y + slope * arm:.1f}"
        for slope in (1, -1)
    )
    return f'<path d="{path}" stroke="{colour}" stroke-width="1.2" fill="none"/>'


def _line(x1: float, y1: float, x2: float, y2: float, opacity: float) -> str:
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="{GREY}" stroke-opacity="{opacity}"/>'


def _text(
    x: float, y: float, text: str, *, size: int | None = None, anchor: str = "start", more: str = ""
) -> str:
    font = f' font-size="{size}"' if size else ""
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f"<text {place}{font}{more}>{escape(text)}</text>"
