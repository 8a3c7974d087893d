"""Integer operations that schedules vectorise like any other, lowered for each instruction set.

A compute definition multiplies integers by *words*: four of eight bits side by side, as one int32.
``dot4(w, x)`` is the sum of their four products, ``word(a, b, c, d)`` makes a word of four
elements, and ``requantised(v, zero, low, high)`` rounds a real number to an element. Where nothing
but the sum of four lanes matters, ``spread_dot4`` may put any products into each. ``unsigned_dot4``
is for images of uint8, and ``matrix_dot8`` multiplies two rows of two words by two others.
``scaled`` multiplies a sum by a ratio and rounds it by a rule's name, and ``narrowed`` makes an
element of the result. TVM vectorises them without knowing what they do; :func:`lower_integers` then
writes the instructions of the target for them, so that none is used which the target lacks.

Where an instruction set has no products of unsigned bytes that are of use, uint8 less 128 is int8
(``signed``).

Sums are exact, for all values of both operands: products are never added in 16 bits where two of
them may not fit. Only ``spread_dot4`` adds those of elements eight apart, which fit unless all four
factors are -128: whoever uses it has no weights like that.
"""

from schedules.lower.integers.lowering import lower_integers
from schedules.lower.integers.operations import (
    dot4,
    image_offset,
    matrix_dot8,
    narrowed,
    negated,
    product16,
    requantised,
    scaled,
    signed,
    spread_dot4,
    unsigned_dot4,
    weight_offset,
    wide_product,
    word,
)

__all__ = [
    "dot4",
    "image_offset",
    "lower_integers",
    "matrix_dot8",
    "narrowed",
    "negated",
    "product16",
    "requantised",
    "scaled",
    "signed",
    "spread_dot4",
    "unsigned_dot4",
    "weight_offset",
    "wide_product",
    "word",
]
