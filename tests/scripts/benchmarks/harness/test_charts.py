"""charts.py: the axis, where marks stand, and colours that can be seen."""

from __future__ import annotations

import itertools
import math
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.benchmarks.harness.charts import COLOURS, GREY, SHAPES, LogAxis, dot_chart

SVG = "{http://www.w3.org/2000/svg}"


def luminance(colour: str) -> float:
    """Relative luminance of an sRGB colour (WCAG 2)."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("background", ["#ffffff", "#0d1117"])
@pytest.mark.parametrize("colour", [*COLOURS, GREY])
def test_colours_stand_out_from_light_and_dark(colour: str, background: str) -> None:
    """WCAG 2 asks for a contrast of 3 of graphics; of grey, which text has, for nearly 4.5."""
    lighter, darker = sorted((luminance(colour), luminance(background)), reverse=True)
    assert (lighter + 0.05) / (darker + 0.05) >= (4 if colour == GREY else 3)


def test_every_series_has_its_own_colour_and_shape() -> None:
    pairs = [(rank % len(COLOURS), rank % len(SHAPES)) for rank in range(20)]
    assert len(set(pairs)) == 20


@given(
    values=st.lists(st.floats(1e-6, 1e12), min_size=1, max_size=20),
)
def test_the_axis_holds_every_value(values: list[float]) -> None:
    axis = LogAxis.around(values)
    assert all(0 <= axis.position(value) <= 1 for value in values)
    assert axis.position(axis.most) == 1
    ticks = axis.ticks()
    assert ticks
    for tick in ticks:
        exponent = math.floor(math.log10(tick) + 1e-9)
        mantissa = tick / 10.0**exponent
        allowed = (1,) if axis.decades >= 3 else (1, 2, 5)
        assert any(mantissa == pytest.approx(value) for value in allowed)


def marks(svg: str) -> dict[str, ElementTree.Element]:
    """Every mark by its title."""
    root = ElementTree.fromstring(svg)
    found = [element for element in root.iter(f"{SVG}g") if element.get("class") == "mark"]
    return {str(mark.findtext(f"{SVG}title")): mark for mark in found}


def test_marks_stand_where_their_values_are() -> None:
    series: dict[str, list[float | None]] = {"a": [1.0, 10.0, 1000.0], "b<&>": [0.0, None, 100.0]}
    svg = dot_chart("title <&>", "unit", ["x", "y", "z"], series, floor=1.0)
    found = marks(svg)
    assert list(found) == [
        "a, x: 1", "a, y: 10", "a, z: 1000", "b<&>, x: 0", "b<&>, y: none", "b<&>, z: 100",
    ]  # fmt: skip
    circles = {title: mark.find(f"{SVG}circle") for title, mark in found.items()}
    heights = [float(circles[title].get("cy", "")) for title in list(found)[:3]]  # type: ignore[union-attr]
    step = heights[0] - heights[1]
    assert heights[1] - heights[2] == pytest.approx(2 * step, abs=0.2)
    assert step > 0
    # Zero stands at the floor, where the value 1 is; shapes other than circles have points.
    points = found["b<&>, x: 0"].find(f"{SVG}polygon").get("points")  # type: ignore[union-attr]
    ys = [float(pair.split(",")[1]) for pair in str(points).split()]
    assert sum(ys) / len(ys) == pytest.approx(heights[0], abs=0.2)
    assert found["b<&>, y: none"].find(f"{SVG}path") is not None
    texts = {element.text for element in ElementTree.fromstring(svg).iter(f"{SVG}text")}
    assert {"title <&>", "unit", "x", "y", "z", "a", "b<&>"} <= texts
    assert {"1", "10", "100", "1,000"} <= texts
    assert "less than 1 is drawn at 1; ×: none" in texts


def test_bars_reach_from_the_baseline_to_the_marks() -> None:
    svg = dot_chart("t", "u", ["x", "y"], {"a": [0.5, 8.0], "b": [None, 2.0]}, baseline=1.0)
    root = ElementTree.fromstring(svg)
    bars = [rect for rect in root.iter(f"{SVG}rect") if rect.get("class") == "bar"]
    ends = [(float(b.get("y", "")), float(b.get("height", ""))) for b in bars]
    circles = [float(circle.get("cy", "")) for circle in root.iter(f"{SVG}circle")][1:]
    (below, eightfold), twofold = ends[:2], ends[2]
    baseline = below[0]  # of a value below 1, the bar hangs
    assert below[0] + below[1] == pytest.approx(circles[0], abs=0.11)
    assert eightfold[0] == pytest.approx(circles[1], abs=0.11)
    for top, height in (eightfold, twofold):
        assert top + height == pytest.approx(baseline, abs=0.11)
    assert eightfold[1] == pytest.approx(3 * below[1], abs=0.4)
    assert twofold[1] == pytest.approx(below[1], abs=0.2)


def test_no_two_marks_share_a_column() -> None:
    groups = [f"group {i}" for i in range(14)]
    series: dict[str, list[float | None]] = {f"series {i}": [2.0] * 14 for i in range(4)}
    found = marks(dot_chart("t", "u", groups, series))
    columns = []
    for mark in found.values():
        circle, polygon = mark.find(f"{SVG}circle"), mark.find(f"{SVG}polygon")
        if circle is not None:
            columns.append(float(circle.get("cx", "")))
        elif polygon is not None:
            xs = [float(pair.split(",")[0]) for pair in str(polygon.get("points")).split()]
            columns.append((min(xs) + max(xs)) / 2)
    assert len(columns) == 14 * 4
    ordered = sorted(columns)
    assert all(b - a > 5 for a, b in itertools.pairwise(ordered))
    assert 70 < ordered[0] < ordered[-1] < 890


def test_a_picture_of_nothing_is_still_one() -> None:
    assert list(marks(dot_chart("t", "u", ["x"], {"a": [None]}))) == ["a, x: none"]
