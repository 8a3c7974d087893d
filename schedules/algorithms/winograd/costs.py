"""Whether to hold transformed weights, several times as large, or to transform them in the kernel.

Elements are counted in multiply-accumulates. With ``w`` for an element that comes from beyond the
caches, ``s`` strips and ``t`` for transforming one element, each pair of an input and an output
channel takes ``n_h n_w w s`` if its weights are held transformed and do not stay in a cache, and
``t (n_h n_w + r_h r_w) s`` if they are transformed in the kernel. Where V does not stay in the L2
cache, it is read again for every panel then.
"""

from __future__ import annotations

from schedules.algorithms.winograd.domain import IN_PLACE, Domain
from schedules.kernel.costs import MOVE_COST, WEIGHT_COST
from schedules.kernel.knobs import Knobs
from schedules.kernel.tiles import stay_in_l2
from schedules.target.simd import Simd

#: Of transforming one element: 2 to 3 were measured on a Sapphire Rapids and on a Zen 4, 2 to 3.4
#: are modelled for a Cortex-A76 and a Cortex-A53.
TRANSFORM_COST = 3
#: Of an element from beyond the L2 cache, the first time and again for another strip, on cores that
#: wait for it: a Sapphire Rapids, measured, and a Cortex-A76, modelled. A Zen 4, with half of the
#: arithmetic for the same bytes, does not, and in-order cores would wait for V instead.
#: Those on Arm have an L3 cache beside the core.
X86_COSTS, NEON_COSTS = (25, 9), (4, 4)


def weight_cost(domain: Domain, simd: Simd, knobs: Knobs) -> int:
    """Modelled time of getting at the weights of all strips, in multiply-accumulates."""
    layer, strips = domain.workload, domain.strips
    pairs = layer.in_channels * -(-layer.out_channels // knobs["panel"]) * knobs["panel"]
    if not domain.in_kernel:
        first, again = _costs_of_waiting(simd)
        elements = domain.points * pairs
        size = elements * layer.element_bytes
        if size <= simd.l2_bytes:
            return 0
        if simd.fma_by_element and size <= simd.l2_bytes + simd.l3_bytes:
            return WEIGHT_COST * elements
        return elements * (first + again * (strips - 1))
    taps = layer.kernel_height * layer.kernel_width
    cost = TRANSFORM_COST * (domain.points + taps) * pairs * strips
    if knobs["weights"] == IN_PLACE:  # they are transposed, too
        cost += MOVE_COST * taps * pairs * strips
    if taps * pairs * layer.element_bytes > simd.l2_bytes:
        cost += WEIGHT_COST * taps * pairs
    if not stay_in_l2(domain.image_elements * layer.element_bytes, simd):
        panels = pairs // layer.in_channels // knobs["panel"]
        cost += WEIGHT_COST * domain.image_elements * (panels - 1) * strips
    return cost


def _costs_of_waiting(simd: Simd) -> tuple[int, int]:
    """Of an element from beyond the L2 cache, the first time and for each further strip."""
    if simd.fma_by_element and not simd.in_order:
        return NEON_COSTS
    if not simd.fma_by_element and simd.vector_registers == 32 and simd.loads_per_fma == 1:
        return X86_COSTS
    return WEIGHT_COST, 0
