"""Compilers that work, crash, hang, fail or take all memory, and a pool that goes on."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import pytest

from schedules.errors import LeanconvError
from schedules.layer.workload import Conv2dWorkload
from schedules.lower.c_abi import KernelObject
from schedules.plan.builder import Builder
from schedules.plan.planner import Plan, plan_layer
from schedules.processes import ProcessLost
from schedules.target.simd import Simd

MEMORY_BYTES = 6 * 2**30
SIMD = Simd.named("x86-64-v3")
GOOD = plan_layer(Conv2dWorkload(4, 4, 4, 4, 1, 1), SIMD)


@dataclass(frozen=True)
class Faulty(Plan):
    """A plan whose compiler does something else."""

    fault: str = ""

    def schedule(self, simd: Simd) -> Any:
        if self.fault == "crash":
            os.abort()
        if self.fault == "hang":
            signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))
            time.sleep(1000)
        if self.fault == "memory":
            return bytearray(MEMORY_BYTES)
        raise ValueError("of which the first says why\nand a printed module")


def faulty(fault: str) -> Plan:
    values = {field.name: getattr(GOOD, field.name) for field in fields(GOOD)}
    return Faulty(**values, fault=fault)


@pytest.fixture(scope="module")
def builder() -> Iterator[Builder]:
    builder = Builder(SIMD, 1, timeout_s=6.0, memory_bytes=MEMORY_BYTES)
    with builder:
        yield builder


def test_the_others_of_a_batch_go_on(builder: Builder) -> None:
    plans = {
        "a": faulty("fail"),
        "b": faulty("memory"),
        "c": faulty("crash"),
        "d": GOOD,
        "e": faulty("hang"),
    }
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
        "e": "compiling took longer than 6 s",
    }


def test_processes_stay_between_batches(builder: Builder) -> None:
    dict(builder.build({"a": GOOD}))
    before = [worker.process.pid for worker in builder._workers]
    assert len(before) == 1
    assert isinstance(dict(builder.build({"a": GOOD, "b": GOOD}))["b"], KernelObject)
    assert [worker.process.pid for worker in builder._workers] == before


def test_a_process_that_died_while_idle(builder: Builder) -> None:
    dict(builder.build({"a": GOOD}))
    builder._workers[0].process.kill()
    builder._workers[0].process.join()
    first, second = dict(builder.build({"a": GOOD, "b": GOOD})).values()
    assert isinstance(first, ProcessLost)
    assert isinstance(second, KernelObject)


def test_an_interrupt_ends_all_processes(builder: Builder) -> None:
    builder.timeout_s = 100.0
    main = threading.get_ident()
    # Started in the background, this process may ignore interrupts.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Timer(0.5, signal.pthread_kill, [main, signal.SIGINT]).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            dict(builder.build({"a": faulty("hang")}))
    finally:
        signal.signal(signal.SIGINT, before)
    assert not builder._workers
    assert not multiprocessing.active_children()
