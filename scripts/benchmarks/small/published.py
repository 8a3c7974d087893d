"""What others publish of whole networks on microcontrollers: bytes of memory, int8.

Facts with their source; none was measured here. kB are of 1000 bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

MSF = "msf-CNN, planned: arXiv 2505.11483"
#: MobileNetV2 at .35 from MCUNet's model zoo on an STM32H743.
BOARD = "measured by TinyEngine's README, commit 022fc11"


@dataclass(frozen=True)
class Published:
    """Bytes, and how many times the layers' multiply-accumulates that takes, if that is told."""

    by: str
    bytes: int
    macs: float | None
    source: str


PUBLISHED: Mapping[str, tuple[Published, ...]] = {
    "mobilenet_v2_035": (
        Published("X-CUBE-AI 7.3.0", 296_000, 1.0, BOARD),
        Published("TinyEngine", 295_000, 1.0, BOARD),
        Published("msf-CNN", 194_400, 1.0, MSF),
        Published("msf-CNN", 83_133, 1.02, MSF),
        Published("msf-CNN", 67_996, 1.1, MSF),
        Published("msf-CNN", 25_803, 1.25, MSF),
        Published("msf-CNN", 8_560, 1.68, MSF),
    ),
}


def planned(network: str, most: float) -> int | None:
    """The fewest bytes that a planner publishes with so many multiply-accumulates."""
    found = [each for each in PUBLISHED.get(network, ()) if each.source == MSF]
    return min((p.bytes for p in found if p.macs and p.macs <= most), default=None)
