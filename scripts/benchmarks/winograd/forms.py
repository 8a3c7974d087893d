"""Ways to convolve in float32 whose errors are compared: directly, and F(m x m, r x r)."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from schedules.algorithms.winograd.winograd import TRANSFORM_ROUNDINGS
from schedules.kernel.accuracy import relative_error
from schedules.transforms.cook_toom import Filtering, filtering, opposite
from schedules.transforms.surds import Number
from scripts.benchmarks.winograd import float32
from scripts.benchmarks.winograd.float32 import Array

_HALF = Fraction(1, 2)
#: Finite points of the literature by their number: small integers and their reciprocals.
USUAL: dict[int, tuple[Number, ...]] = {
    3: (0, *opposite(1)),
    4: (0, *opposite(1), 2),
    5: (0, *opposite(1, 2)),
    6: (0, *opposite(1, 2), _HALF),
    7: (0, *opposite(1, 2, _HALF)),
    9: (0, *opposite(1, 2, _HALF), 4, -Fraction(1, 4)),
}
#: The best small fractions for as many points as F(4, 3) has.
THIRDS = (0, *opposite(Fraction(2, 3), Fraction(3, 2)))
#: Outputs of the forms that are measured, by taps.
OUTPUTS = {3: (2, 3, 4, 5, 6, 8), 5: (2, 4)}


@dataclass(frozen=True)
class Form:
    """Direct convolution, without a ``transform``, or Winograd's; ``block`` channels in a sum."""

    transform: Filtering | None = None
    block: int | None = None

    @property
    def name(self) -> str:
        """``direct`` or ``F(m)``, with ``*`` if the points are our kernels' own."""
        if self.transform is None:
            return "direct"
        m, r = self.transform.outputs, self.transform.taps
        mark = "*" if self.transform == filtering(m, r) else ""
        return f"F({m}){mark}" + (f", sums of {self.block}" if self.block else "")

    @property
    def points(self) -> str:
        """The finite points; opposite ones, which stand side by side, as one with ``±``."""
        if self.transform is None:
            return "-"
        words: list[str] = []
        previous = None
        for point in self.transform.points:
            if previous is not None and point == -previous:
                words[-1] = f"±{previous}"
            else:
                words.append(str(point))
            previous = point
        return ", ".join(words)

    @property
    def amplification(self) -> float:
        """Of both directions together."""
        return 1.0 if self.transform is None else self.transform.amplification**2

    def expected(self, taps: int, channels: int) -> float:
        """The relative error that the model expects."""
        if self.transform is None:
            return relative_error(taps**2 * channels)
        # A running sum over a block, and one over the blocks.
        terms = self.block + channels // self.block if self.block else channels
        return relative_error(terms, self.amplification, TRANSFORM_ROUNDINGS)

    def convolve(self, image: Array, weights: Array) -> Array:
        """``(H, W, C)`` and ``(M, r, r, C)`` to ``(H - r + 1, W - r + 1, M)``."""
        if self.transform is None:
            return float32.direct(image, weights)
        return float32.winograd(image, weights, self.transform, self.block)


def forms(taps: int) -> list[Form]:
    """Direct convolution, and every F(m x m, r x r) at the usual points and at ours."""
    found = [Form()]
    for outputs in OUTPUTS[taps]:
        count = outputs + taps - 2
        sets = [USUAL[count], None] + [THIRDS] * (count == len(THIRDS))
        transforms = dict.fromkeys(filtering(outputs, taps, points) for points in sets)
        found += [Form(transform) for transform in transforms]
    return found


def candidates() -> list[Form]:
    """What else a kernel for 3x3 layers might compute: other blocks of channels."""
    return [*forms(3), *(Form(filtering(4, 3), block) for block in (32, 16))]
