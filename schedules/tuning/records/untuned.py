"""What would be compiled without records: what tuning is compared with."""

from __future__ import annotations

from collections.abc import Sequence

from tvm.target import codegen

from schedules.algorithms import Unsupported
from schedules.plan.planner import plan_kernel
from schedules.target.simd import PRESETS, TRIPLES, Simd
from schedules.tuning.records.completion import completed
from schedules.tuning.records.record import Record
from schedules.tuning.records.task import tuning_target


def untuned_record(ranking: Sequence[Record]) -> Record | None:
    """The record of the untuned candidate, if it is in a workload's ``ranking``.

    The ranking, see :func:`schedules.tuning.records.records.ranked`, is not empty. The planner
    looks at caches and cores, which a target's name does not tell: where this machine has that
    name, what was tuned for may be ``host``, and else its preset.
    """
    workload, target = ranking[0].workload, ranking[0].target
    for simd in _simds(target):
        try:
            candidate = plan_kernel(workload, simd).choice
        except Unsupported:
            continue
        whole = completed(ranking, simd)
        for record, complete in zip(ranking, whole, strict=True):
            if complete.candidate == candidate:
                return record
    return None


def _simds(target: str) -> list[Simd]:
    """What may have that name, see :func:`schedules.tuning.records.task.tuning_target`."""
    known = [Simd.named(name) for name in ("host", *PRESETS)]
    named = [simd for simd in known if tuning_target(simd) == target and not simd.android]
    if named:
        return named
    mcpu, *mattr = target.split(",")
    return [
        Simd.from_target({"kind": "llvm", "mtriple": triple, "mcpu": mcpu, "mattr": mattr})
        for (_, android), triple in TRIPLES.items()
        if not android and codegen.llvm_is_valid_cpu(mcpu, triple)
    ]
