"""charts.py: equal files of equal data, marks where values are, colours that can be seen."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from scripts.benchmarks.harness.charts import COLOURS, GREY, SHAPES, dot_chart

SVG = "{http://www.w3.org/2000/svg}"
SERIES: dict[str, list[float | None]] = {"a": [1.0, 10.0, 1000.0], "b<&>": [0.0, None, 100.0]}


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


def test_marks_texts_and_notes() -> None:
    svg = dot_chart("title <&>", "unit", ["x", "y", "z"], SERIES, floor=1.0)
    root = ElementTree.fromstring(svg)
    texts = {str(element.text) for element in root.iter(f"{SVG}text")}
    assert {"x", "y", "z", "a", "b<&>", "1", "10", "100", "1,000"} <= texts
    assert any("title <&>" in text for text in texts)
    assert "less than 1 is drawn at 1; ×: none" in texts
    places = [
        [(float(use.get("x", "")), float(use.get("y", ""))) for use in group.iter(f"{SVG}use")]
        for group in root.iter(f"{SVG}g")
        if str(group.get("id")).startswith("mark")
    ]
    a, _, b, none = places[:4]
    assert (len(a), len(b), len(none)) == (3, 2, 1)
    decade = a[0][1] - a[1][1]
    assert a[1][1] - a[2][1] == pytest.approx(2 * decade, rel=1e-3)
    assert b[0][1] == pytest.approx(a[0][1])  # 0 stands where 1 does
    assert a[0][0] < b[0][0] < a[1][0] < none[0][0] < a[2][0] < b[1][0]


def test_a_picture_has_no_background_and_no_date() -> None:
    first = dot_chart("t", "u", ["x", "y", "z"], SERIES, floor=1.0, baseline=1.0)
    assert dot_chart("t", "u", ["x", "y", "z"], SERIES, floor=1.0, baseline=1.0) == first
    assert "<dc:date>" not in first and "fill: #ffffff" not in first


def test_a_picture_of_nothing_is_still_one() -> None:
    assert "×: none" in dot_chart("t", "u", ["x"], {"a": [None]})
