"""How far apart two cores are: the time in which a cache line goes from one to the other and back.

Virtual machines move, within minutes, between cores that share a last cache and cores that do not.
What threads scale by differs so much between the two that figures of one must not be mixed with the
other's.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from schedules.target.simd import Simd
from schedules.target.toolchain import Toolchain

_SOURCE = "round_trip.c"
#: Cores whose round trip takes longer do not share a cache: 50 to 70 ns were measured on a Zen 4 of
#: those that do, and 330 to 360 ns of others.
NEAR_SECONDS = 150e-9
NEAR, FAR = "near", "far"


class RoundTrip:
    """A program, built into ``folder``, that measures it in some milliseconds."""

    def __init__(self, folder: Path) -> None:
        self.program = folder / "round_trip"
        (folder / _SOURCE).write_bytes(Path(__file__).with_name(_SOURCE).read_bytes())
        simd, toolchain = Simd.named("host"), Toolchain.default()
        objects = toolchain.compile_objects(folder, [_SOURCE], simd)
        toolchain.link_program(folder, objects, self.program, simd)

    def seconds(self) -> float:
        """Of one round trip, now."""
        done = subprocess.run([self.program], capture_output=True, text=True, check=True)
        return float(done.stdout) * 1e-9


def distance(seconds: float) -> str:
    """The name of cores of such a round trip."""
    return NEAR if seconds < NEAR_SECONDS else FAR
