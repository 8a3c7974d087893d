"""Parts of the output channels, which threads share beside strips."""

from __future__ import annotations

from dataclasses import replace

from schedules.algorithms.winograd.domain import Domain
from schedules.kernel import sharing, tiles
from schedules.layer.workload import DTYPE_BYTES, Conv2dWorkload
from schedules.target.simd import Simd

#: Strips of which threads use their time to this part are shared as they are. V is computed again
#: for every part of the channels: in two parts, 27x27x32->128 took longer on one thread of a Zen 4,
#: and as long on two.
EVEN_STRIPS = 0.85


def default_parts(domain: Domain, simd: Simd, panel: int) -> int:
    """Parts of the output channels: the fewest with which threads have even shares of all strips.

    They are of equally many panels. Of integers, whose M is twice as wide as V, V and M stay in the
    L2 cache if they can.
    """

    def even(count: int) -> float:
        return min(sharing.evenness(domain.strips * count, simd.cores), EVEN_STRIPS)

    def stays(count: int) -> bool:
        channels = -(-domain.workload.out_channels // count)
        elements = domain.image_elements, replace(domain, panel=channels).product_elements
        sizes = (DTYPE_BYTES[dtype] for dtype in domain.types)
        held = sum(n * size for n, size in zip(elements, sizes, strict=True))
        return tiles.stay_in_l2(held, simd)

    counts = parts_of(domain.workload, panel)
    if domain.workload.is_quantised:
        counts = tuple(filter(stays, counts)) or counts
    return max(counts, key=even)


def parts_of(workload: Conv2dWorkload, panel: int) -> tuple[int, ...]:
    """Numbers of equal parts of all panels."""
    panels = -(-workload.out_channels // panel)
    return tuple(count for count in range(1, panels + 1) if panels % count == 0)
