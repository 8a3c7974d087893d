"""The way from a .tflite file to a delegate, or to a module for TVM."""

from __future__ import annotations

from matplotlib.axes import Axes

from scripts.pictures.sketch import arrow, box, sketch, text

WIDTH, HEIGHT, BOX = 9.0, 2.5, (1.35, 0.72)
MIDDLE, ABOVE, BELOW = 1.1, 0.45, 1.75
#: Left edges of the columns.
COLUMNS = (0.05, 1.9, 3.75, 5.6, 7.45)


def picture() -> str:
    """Boxes from left to right."""
    return sketch(WIDTH, HEIGHT, _draw)


def _draw(axes: Axes) -> None:
    first, second, third, fourth, last = COLUMNS
    box(axes, first, MIDDLE, *BOX, "model.tflite")
    box(axes, second, MIDDLE, *BOX, "layers,\nwith what they\ntake in")
    box(axes, third, MIDDLE, *BOX, "one algorithm\nfor each layer", 0)
    box(axes, fourth, MIDDLE, *BOX, "compiled kernels,\nworkspace\nplanned", 0)
    for left, right in ((first, second), (second, third), (third, fourth)):
        arrow(axes, _right(left, MIDDLE), (right - 0.04, MIDDLE + BOX[1] / 2))
    centre = third + BOX[0] / 2
    text(axes, centre, 0.22, "limits of bytes and error", ha="center")
    arrow(axes, (centre, 0.38), (centre, MIDDLE - 0.04))
    text(axes, centre, 2.28, "records of tuning on the board", ha="center")
    arrow(axes, (centre, 2.12), (centre, MIDDLE + BOX[1] + 0.04))
    box(axes, last, ABOVE, *BOX, "delegate .so\nfor TFLite", 2)
    box(axes, last, BELOW, *BOX, "module .so, .tar\nfor TVM", 4)
    for top in (ABOVE, BELOW):
        arrow(axes, _right(fourth, MIDDLE), (last - 0.04, top + BOX[1] / 2))


def _right(left: float, top: float) -> tuple[float, float]:
    """The middle of a box's right edge, and a little beyond."""
    return left + BOX[0] + 0.04, top + BOX[1] / 2
