"""What Winograd's weights take: read in the transformed domain, or transformed in the kernel.

Held transformed, all of them are read for every strip. Transformed in the kernel, they are several
times fewer, and the same work is done for every strip. Where V does not stay in the L2 cache, it is
read again for every panel then, else for every part of the output channels.
"""

from __future__ import annotations

from schedules.algorithms.winograd.domain import IN_PLACE, Domain
from schedules.kernel.costs import MOVE_COST, Work, reads
from schedules.kernel.knobs import Knobs
from schedules.kernel.packing import PackedWeights
from schedules.target.simd import Simd

#: Multiply-accumulates in the time in which one element is transformed, with its share of misses
#: of the L1 cache: measured on a Zen 4, with taps that are asked for a block ahead and without. A
#: Sapphire Rapids takes half, and so may Arm's, by a model.
PREFETCHED_COST, TRANSFORM_COST = 4, 6
#: And in that of adding one element to M, once for each block of channels.
SUM_COST = 1
#: Bytes that come from memory in the time of waiting for the first ones of a point's weights of
#: another part, which lie elsewhere: measured on a Zen 4, where two parts took up to 1.4 times as
#: long as one.
PAGE = 4096


def domain_work(domain: Domain, packed: PackedWeights, simd: Simd, knobs: Knobs) -> Work:
    """Getting at the weights of all strips, and at V and M beyond the first time."""
    layer, strips = domain.workload, domain.strips
    channels = -(-layer.out_channels // knobs["panel"]) * knobs["panel"]
    sums = domain.points * domain.tiles * strips * channels * layer.in_channels / domain.c_block
    work = Work(macs=SUM_COST * sums)
    image = domain.image_elements * layer.element_bytes
    if not domain.in_kernel:
        products = domain.product_elements * layer.element_bytes
        work += reads(packed.weight_bytes, strips, simd, beside=image + products)
        work += _again(image, domain.parts, simd) * strips
        return work + Work(memory_bytes=PAGE * domain.points * (domain.parts - 1))
    taps = layer.kernel_height * layer.kernel_width
    cost = TRANSFORM_COST if simd.fma_by_element else PREFETCHED_COST
    transformed = cost * (domain.points + taps)
    if knobs["weights"] == IN_PLACE:  # they are transposed, too
        transformed += MOVE_COST * taps
    work += Work(macs=transformed * layer.in_channels * channels * strips)
    work += reads(packed.weight_bytes, strips, simd, beside=image)
    return work + _again(image, channels // knobs["panel"], simd) * strips


def _again(image: int, times: int, simd: Simd) -> Work:
    """Reading V ``times``, which was just written: it is not memory that it comes from first."""
    again = reads(image, times, simd)
    return Work(again.macs, again.memory_bytes - image, again.l3_bytes)
