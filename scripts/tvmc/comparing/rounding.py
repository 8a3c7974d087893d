"""How far rounding takes a float32 sum, and which of Winograd's transforms a layer goes through.

Rounding errors of a sum are random: with probability 1 - d each, they add up to less than
sqrt(2 ln(2 / d)) sqrt(K) u of the sum of magnitudes, K the number of terms and u = 2^-24 the unit
roundoff (Higham and Mary 2019, theorem 2.4). Two implementations differ by twice that. d is 1e-9.
For Winograd's algorithm, sqrt(K) becomes the amplification of its transforms times sqrt(C + 16):
the errors of its sums over C channels, and of 8 roundings on either side of them. For Strassen's,
sqrt(K) grows by what its products of sums do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from schedules.kernel.accuracy import STRASSEN_GROWTH

#: Algorithms that multiply sums.
OF_SUMS = ("winograd", "strassen")
FAILURE_PROBABILITY = 1e-9
#: So many deviations a sum of many random errors exceeds with that probability.
SPREAD = math.sqrt(2 * math.log(2 / FAILURE_PROBABILITY))


def root_of_terms(
    kernel: Sequence[int], channels: int, outputs: int | None = None, is_strassen: bool = False
) -> float:
    """The square root of how many terms a convolution's sums have, or what takes its place.

    Parameters
    ----------
    kernel : (int, int)
        K_h and K_w.
    channels : int
        Of the image, that one output sums over.
    outputs : int, optional
        m of Winograd's F(m, r), if it is computed with that.
    is_strassen : bool
        Whether it is computed by Strassen's algorithm.
    """
    if outputs is None:
        growth = STRASSEN_GROWTH if is_strassen else 1.0
        return growth * math.sqrt(math.prod(kernel) * channels)
    from schedules.transforms.cook_toom import filtering

    transforms = (filtering(outputs if taps > 1 else 1, taps) for taps in kernel)
    amplification = math.prod(transform.amplification for transform in transforms)
    return amplification * math.sqrt(channels + 16)


def winograd_outputs(entry: Mapping[str, Any]) -> int | None:
    """m of the F(m, r) of a layer, if its report says that it is Winograd's."""
    return int(entry["knobs"]["outputs"]) if entry["algorithm"] == "winograd" else None
