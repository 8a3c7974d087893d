"""How far a float32 or float16 result is expected to be from the exact one.

Figures are relative: the root mean square of an output's error over that of the output, for
independent, normally distributed inputs and weights. They are estimates for choosing between
algorithms, not bounds; ``scripts/benchmarks/winograd/error.py`` prints them beside measured ones.

They are for finite numbers. A NaN or an infinity in the image comes out of a sum of products where
the sum reads it, as in TFLite. Winograd's transforms subtract: an infinity becomes NaN, and both
spread over the outputs of every tile that reads them. Reports say so of each such layer. Kernels
that read the image where it lies skip its border: an infinite weight makes no NaN there, as in
TFLite's depthwise convolution; its other one multiplies zeros by it.
"""

from __future__ import annotations

import math

from schedules.layer.workload import Conv2dWorkload

#: The unit roundoff of float32.
UNIT_ROUNDOFF = 2.0**-24
#: That of each type that sums are computed in.
UNIT_ROUNDOFFS = {"float32": UNIT_ROUNDOFF, "float16": 2.0**-11}
#: The mean square of one rounding's relative error, in squares of the unit roundoff. Errors are
#: taken as uniform within half a unit in the last place, and logarithms of mantissas as uniform.
ROUNDING = 0.18
#: How the errors of sums of products grow in Strassen's algorithm, by Winograd's form. Of
#: independent elements of variance one, with h steps in half a sum, the partial sums of quadrants
#: C11, C12, C22 and C21 add up to squares of 2, 10, 13 and 14 h^2; by the definition, of 2 h^2.
STRASSEN_GROWTH = math.sqrt((2 + 10 + 13 + 14) / (4 * 2))


def relative_error(
    terms: int,
    amplification: float = 1.0,
    roundings: float = 0.0,
    unit_roundoff: float = UNIT_ROUNDOFF,
) -> float:
    """Expected relative error of sums of ``terms`` products.

    The partial sums of a running sum grow with the square root of their length, and each is
    rounded, so that the mean square is ``ROUNDING terms / 2`` squares of the unit roundoff.
    ``roundings`` more befall each product by itself, and both grow by ``amplification``.
    """
    return amplification * unit_roundoff * math.sqrt(ROUNDING * (terms / 2 + roundings))


def definition_error(layer: Conv2dWorkload) -> float:
    """Expected relative error of ``layer`` by the sums of the definition, in its type.

    Weights that the model has in more bits are rounded first. Integers are summed exactly.
    """
    unit = UNIT_ROUNDOFFS.get(layer.dtype, UNIT_ROUNDOFF)
    is_rounded = layer.dtype == "float16" and layer.weight_dtype != layer.dtype
    return relative_error(layer.reduction, roundings=int(is_rounded), unit_roundoff=unit)
