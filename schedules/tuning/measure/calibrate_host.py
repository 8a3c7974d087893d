"""Measure this machine once, when something is first compiled or tuned for it.

Two measurements have to agree: on a machine that is busy with other things they do not, and figures
of such a moment would decide about kernels for as long as they are kept.
"""

from __future__ import annotations

from collections.abc import Callable

from schedules.errors import LeanconvError
from schedules.target.host import Host, this_host
from schedules.target.simd import Simd
from schedules.target.toolchain import Toolchain
from schedules.tuning.boards.local import LocalRunner
from schedules.tuning.measure.calibrate import calibrations
from schedules.tuning.records.calibration import Calibration
from schedules.tuning.records.host_figures import HostFigures, read_figures, write_figures

#: By which part two measurements may differ: a step of what planning sees of them.
AGREEMENT = 0.1
#: After measurements that disagreed, seconds until it is worth to measure again.
RETRY_SECONDS = 3600.0


def host_calibration(
    simd: Simd, say: Callable[[str], None], toolchain: Toolchain
) -> Calibration | None:
    """The figures that are kept of this machine, else measured now; ``None`` if there are none.

    ``say`` is told, a line each, that it is measured and what is wrong; nothing is raised.
    """
    host = this_host()
    kept = _kept(host, say)
    if kept and (kept.calibration or kept.age_s < RETRY_SECONDS):
        return kept.calibration
    say("measuring what this machine's cores do in a second: once, some seconds")
    try:
        (_, first), (_, second) = calibrations(simd, LocalRunner(), toolchain, times=2)
        difference = first.difference(second)
        agreed = second if difference <= AGREEMENT else None
        if agreed is None:
            say(
                f"this machine was measured twice, {difference:.0%} apart: it is busy, and known "
                "by its table of cores only"
            )
        write_figures(host, agreed)
    except LeanconvError as error:
        say(f"this machine is known by its table of cores only: {error}")
        return None
    return agreed


def _kept(host: Host, say: Callable[[str], None]) -> HostFigures | None:
    try:
        return read_figures(host)
    except LeanconvError as error:
        say(f"{error}: it is measured again")
        return None
