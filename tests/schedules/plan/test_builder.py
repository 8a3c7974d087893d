"""Compilers that work, crash, fail or take all memory."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from typing import Any

from schedules.errors import LeanconvError
from schedules.layer.workload import Conv2dWorkload
from schedules.lower.kernel import KernelObject
from schedules.plan.builder import Builder
from schedules.plan.plan import Plan
from schedules.plan.planner import plan_kernel
from schedules.target.simd import Simd

MEMORY_BYTES = 6 * 2**30
SIMD = Simd.named("x86-64-v3")
GOOD = plan_kernel(Conv2dWorkload(4, 4, 4, 4, 1, 1), SIMD)


@dataclass(frozen=True)
class Faulty(Plan):
    """A plan whose compiler does something else."""

    fault: str = ""

    def schedule(self, simd: Simd) -> Any:
        if self.fault == "crash":
            os.abort()
        if self.fault == "memory":
            return bytearray(MEMORY_BYTES)
        raise ValueError("of which the first says why\nand a printed module")


def faulty(fault: str) -> Plan:
    values = {field.name: getattr(GOOD, field.name) for field in fields(GOOD)}
    return Faulty(**values, fault=fault)


def test_the_others_of_a_batch_go_on() -> None:
    plans = {"a": faulty("fail"), "b": faulty("memory"), "c": faulty("crash"), "d": GOOD}
    with Builder(SIMD, 1, memory_bytes=MEMORY_BYTES) as builder:
        results = dict(builder.build(plans))
    assert list(results) == list(plans)
    kernels = results.pop("d")
    assert isinstance(kernels, KernelObject)
    assert list(kernels.kernels) == ["d"]
    assert kernels.data.startswith(b"\x7fELF")
    assert all(isinstance(result, LeanconvError) for result in results.values())
    assert {name: str(result) for name, result in results.items()} == {
        "a": "cannot be compiled: of which the first says why",
        "b": "cannot be compiled: MemoryError",
        "c": "crashed while compiling",
    }
