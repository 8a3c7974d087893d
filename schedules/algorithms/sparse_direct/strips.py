"""How many pixels and channels of a sparse layer are multiplied at once.

A strip of pixels is whole vectors: as many sums are in registers while the weights of one output
channel pass by, each of which is multiplied by as many vectors of the image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from schedules.kernel.knobs import Knobs
from schedules.kernel.sharing import evenness
from schedules.layer.workload import Conv2dWorkload
from schedules.target.simd import Simd

#: Vectors of a strip at most; with more, registers or caches are short.
MOST_VECTORS = {False: 8, True: 16}
#: A weight's own instructions take the time of so many multiply-adds with a vector.
WEIGHT_COST = {False: 1.5, True: 3.0}
#: And with fewer sums, multiply-adds wait for each other.
ENOUGH_SUMS = 4
#: Input channels of a block at least: a vector of any target; and at most, as indices are int16.
LEAST_BLOCK, MOST_INDEX = 16, 2**15 - 1
#: With so many zeros, in percent, adding to sums in memory for each block of channels takes longer
#: than reading twice as much of the image as the L1 cache holds.
FEW_WEIGHTS = 80


@dataclass(frozen=True)
class Strips:
    """What the loops count.

    Parameters
    ----------
    workload : Conv2dWorkload
        Of a 1x1 layer one row of pixels.
    pixels : int
        Of a strip: whole vectors.
    c_block : int
        Input channels of taps that are multiplied at once.
    """

    workload: Conv2dWorkload
    pixels: int
    c_block: int

    @classmethod
    def of(cls, layer: Conv2dWorkload, knobs: Knobs) -> Strips:
        """The loops of ``layer``, whose pixels may be an image's."""
        layer = layer.as_matrix() if layer.is_pointwise else layer
        return cls(layer, int(knobs["pixels"]), int(knobs["c_block"]))

    @property
    def count(self) -> int:
        """Strips of all pixels; the last may be filled up."""
        return -(-self.workload.pixels // self.pixels)

    @property
    def blocks(self) -> int:
        """Blocks of input channels of taps."""
        return self.workload.reduction // self.c_block

    @property
    def image_bytes(self) -> int:
        """Bytes of a block of the image, transposed."""
        return self.c_block * self.pixels * self.workload.element_bytes

    @property
    def sum_bytes(self) -> int:
        """Bytes of the sums of a strip."""
        return self.workload.out_channels * self.pixels * self.workload.element_bytes


def strip_sizes(layer: Conv2dWorkload, simd: Simd) -> tuple[int, ...]:
    """Pixels that a strip may have."""
    lanes = simd.lanes(layer.dtype)
    return tuple(range(lanes, lanes * MOST_VECTORS[simd.fma_by_element] + 1, lanes))


def default_pixels(layer: Conv2dWorkload, simd: Simd) -> int:
    """Pixels of a strip that take the least time: few fill up the last one, and cores share."""
    lanes = simd.lanes(layer.dtype)

    def cost(pixels: int) -> tuple[float, int]:
        strips = -(-layer.pixels // pixels)
        step = max(pixels // lanes, ENOUGH_SUMS) + WEIGHT_COST[simd.fma_by_element]
        return strips * step / evenness(strips, simd.cores), pixels

    return min(strip_sizes(layer, simd), key=cost)


def block_sizes(layer: Conv2dWorkload) -> tuple[int, ...]:
    """Input channels of taps that a block may have: equal ones, in vectors where there are some."""
    whole, vector = layer.reduction, math.gcd(layer.in_channels, LEAST_BLOCK)
    sizes = (whole // n for n in range(1, whole + 1) if whole % n == 0)
    blocks = (size for size in sizes if size >= LEAST_BLOCK and size % vector == 0)
    return tuple(size for size in blocks if size <= MOST_INDEX) or (whole,)


def default_block(layer: Conv2dWorkload, pixels: int, simd: Simd) -> int:
    """The most channels of which a strip of so many pixels stays in the L1 cache."""
    caches = 2 if layer.zeros >= FEW_WEIGHTS else 1
    most = caches * simd.l1_bytes // (pixels * layer.element_bytes)
    sizes = block_sizes(layer)
    return next((size for size in sizes if size <= most), sizes[-1])
