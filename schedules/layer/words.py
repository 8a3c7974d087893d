"""Integers of eight bits, four side by side as one *word* of 32 bits.

A product of words sums four products of elements, so a convolution of int8 is one of words with a
quarter of the input channels. What stands side by side in the image is a *run*: the channels of a
pixel, or, of few channels, those of all kernel columns. The last word of a run is filled up.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from schedules.layer.workload import Conv2dWorkload

#: Elements of eight bits in a word.
WORD = 4
#: Lanes that a *spread* sum has its parts in, each of a word: a vector of 16 elements.
SPREAD = 4
#: Words of a row of matrices that are multiplied at once, and rows of each of both.
PAIR = 2


def words(elements: int) -> int:
    """Words that so many elements fill up, the last perhaps in part."""
    return -(-elements // WORD)


def steps(layer: Conv2dWorkload) -> int:
    """Products summed for one output element: of words if the layer is quantised."""
    if not layer.is_quantised:
        return layer.reduction
    run = run_of(layer)
    return layer.reduction // run * words(run)


def step_bytes(layer: Conv2dWorkload) -> int:
    """Bytes of the image that one step of a sum multiplies: of a word, or of an element."""
    return WORD if layer.is_quantised else layer.element_bytes


def patch_bytes(layer: Conv2dWorkload) -> int:
    """Bytes of a patch that is stored: the last word of every run is filled up."""
    return steps(layer) * step_bytes(layer)


def in_words(layer: Conv2dWorkload) -> Conv2dWorkload:
    """A quantised layer as the convolution of words that tiles are chosen for; others as is."""
    if not layer.is_quantised:
        return layer
    return replace(
        layer,
        in_channels=words(layer.in_channels),
        dtype="int32",
        weight_dtype="int32",
        rounding="",
    )


def in_spread_words(layer: Conv2dWorkload) -> Conv2dWorkload:
    """A quantised layer as the convolution whose output channels are the lanes of spread sums."""
    whole = in_words(layer)
    return replace(
        whole, in_channels=whole.in_channels // SPREAD, out_channels=SPREAD * whole.out_channels
    )


def in_elements(layer: Conv2dWorkload) -> Conv2dWorkload:
    """A quantised layer as the convolution of single elements of 16 bits that tiles are for."""
    return replace(layer, dtype="int16", weight_dtype="int16", rounding="")


def fills_vectors(layer: Conv2dWorkload) -> bool:
    """Whether the runs of a quantised layer are whole vectors of :data:`SPREAD` words."""
    return layer.is_quantised and run_of(layer) % (SPREAD * WORD) == 0


def fills_pairs(layer: Conv2dWorkload) -> bool:
    """Whether the channels of a quantised layer are whole rows of :data:`PAIR` words."""
    return layer.is_quantised and layer.in_channels % (PAIR * WORD) == 0


def run_of(layer: Conv2dWorkload) -> int:
    """Elements of a run: the channels, or, if they do not fill up two words, of all columns."""
    few = layer.in_channels < 2 * WORD and layer.kernel_width > 1
    contiguous = layer.dilation_width == 1 and layer.group_of == 1
    return layer.in_channels * (layer.kernel_width if few and contiguous else 1)


def pairs_overflow(stored: np.ndarray, workload: Conv2dWorkload) -> bool:
    """Whether two weights of -128, or of uint8 0, are eight apart in one of the vectors of 16.

    Of a depthwise ``workload``, whether they are those of two taps that follow each other. Weights
    are OHWI, those of depthwise ones HWO.
    """
    apart = workload.out_channels if workload.is_depthwise else SPREAD * WORD // 2
    flat = stored.reshape(-1)
    pairs = flat[: flat.size // (2 * apart) * (2 * apart)].reshape(-1, 2, apart)
    return bool((pairs == np.iinfo(stored.dtype).min).all(axis=1).any())
