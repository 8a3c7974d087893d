"""This machine's figures for commands that plan for it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from schedules.target.simd import Simd

if TYPE_CHECKING:
    from schedules.tuning.records.calibration import Calibration

#: Set to ``off``, commands measure nothing by themselves and know this machine by its core only.
SWITCH = "LEANCONV_CALIBRATION"


def host_figures(cc: str | None = None) -> Callable[[Simd], Calibration | None] | None:
    """What tells the figures of this machine, which it measures if need be, with a compiler."""
    if os.environ.get(SWITCH) == "off":
        return None

    def figures(simd: Simd) -> Calibration | None:
        from schedules.target.toolchain import Toolchain
        from schedules.tuning.measure.calibrate_host import host_calibration

        return host_calibration(simd, _say, Toolchain.named(cc))

    return figures


def _say(line: str) -> None:
    print(f"tvmc: {line}", file=sys.stderr, flush=True)
