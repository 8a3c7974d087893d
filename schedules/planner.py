"""Pick an algorithm and its knobs for a layer, and say what the choice costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tvm import s_tir

from schedules import c_abi
from schedules.algorithms import REGISTRY, Unsupported
from schedules.algorithms.base import MAX_ELEMENTS
from schedules.packing import PackedWeights
from schedules.simd import Simd
from schedules.workload import Conv2dWorkload

#: The algorithm of layers for which the user names none.
DEFAULT_ALGORITHM = "indirect"


@dataclass(frozen=True)
class Plan:
    """One layer's choice.

    ``workspace_bytes`` counts one thread; ``packed`` is how the kernel expects its weights.
    """

    workload: Conv2dWorkload
    algorithm: str
    knobs: Mapping[str, Any]
    workspace_bytes: int
    packed: PackedWeights

    def schedule(self, simd: Simd) -> s_tir.Schedule:
        """The scheduled kernel."""
        schedule = REGISTRY.get(self.algorithm).schedule(self.workload, simd, self.knobs)
        if self.workload.group_of > 1:
            c_abi.spread_output(schedule, self.workload.out_pitch)
        return schedule


def plan_layer(workload: Conv2dWorkload, simd: Simd, algorithm: str | None = None) -> Plan:
    """The plan for ``workload``, with ``algorithm`` or the default one.

    Raises
    ------
    Unsupported
        If the algorithm cannot serve the workload; the text is the reason.
    LeanconvError
        If no algorithm has that name.
    """
    chosen = REGISTRY.get(algorithm or DEFAULT_ALGORITHM)
    reason = chosen.supports(workload, simd)
    if reason is not None:
        raise Unsupported(reason)
    knobs = chosen.default_knobs(workload, simd)
    workspace = chosen.workspace_bytes(workload, knobs)
    packed = chosen.packed_weights(workload, knobs)
    for what, elements in (
        ("workspace", workspace // workload.element_bytes),
        ("packed weights", packed.elements),
    ):
        if elements > MAX_ELEMENTS:
            raise Unsupported(f"its {what} of {elements} elements needs 64-bit indices")
    return Plan(workload, chosen.name, knobs, workspace, packed)


def compile_plans(plans: Mapping[str, Plan], simd: Simd) -> c_abi.KernelObject:
    """Compile one kernel a plan, named by a C identifier, into one object."""
    return c_abi.compile_schedules(
        {name: plan.schedule(simd) for name, plan in plans.items()}, simd
    )
