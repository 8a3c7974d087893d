"""What there is to tune in a model."""

from __future__ import annotations

from dataclasses import dataclass

from schedules.layer.block import Workload
from schedules.target.simd import Simd


@dataclass(frozen=True)
class Task:
    """One distinct workload of one or several models.

    Parameters
    ----------
    workload : Conv2dWorkload or Block
        What one kernel computes: batch 1, one group. A block competes with one kernel for each of
        ``workload.layers``, which are tasks of their own.
    count : int
        How often the models compute it.
    """

    workload: Workload
    count: int

    @property
    def is_block(self) -> bool:
        """Whether it is several layers in one kernel."""
        return len(self.workload.layers) > 1


def tuning_target(simd: Simd) -> str:
    """The name under which records for ``simd`` are kept: its processor and extra features.

    The same for ``host`` and the preset that this machine fulfils, for Linux and Android: the
    kernels are the same.
    """
    return ",".join([simd.mcpu, *sorted(simd.mattr)])
