"""Kernels compiled in processes; what can go wrong there is in tests of the delegate's build."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax

from schedules.lower.kernel import CKernel, KernelObject
from schedules.plan import builder as builder_module
from schedules.plan.builder import Builder
from schedules.plan.planner import plan_kernel
from schedules.relax.transform import FunctionReport, schedule_convolutions
from schedules.select.compile import ENOUGH, JOBS, compile_kernels
from schedules.select.selection import Kernel
from schedules.target.simd import Simd
from schedules.target.toolchain import Toolchain
from tests.schedules.algorithms.test_algorithms import layer
from tests.support.kernels import Case
from tests.support.relax_layers import chain_module

HOST = Simd.named("host")


def kernels(count: int) -> list[Kernel]:
    plan = plan_kernel(layer(4, (4, 4), 1), HOST, "direct")
    return [Kernel(f"kernel_{index}", plan) for index in range(count)]


@pytest.mark.usefixtures("nothing_stored")
def test_processes_give_the_same() -> None:
    one, several = (compile_kernels(kernels(3), HOST, jobs) for jobs in (1, 2))
    assert [kernel.name for kernel in several] == ["kernel_0", "kernel_1", "kernel_2"]
    assert several == one
    assert all(kernel.compiled and kernel.data for kernel in one)


@pytest.mark.parametrize("count", [0, 1, ENOUGH - 1])
def test_few_kernels_are_compiled_here(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Builder, "build", None)
    steps: list[tuple[int, int]] = []
    compile_kernels(kernels(count), HOST, progress=lambda *step: steps.append(step[:2]))
    assert steps == [(done, count) for done in range(count + 1)]


@pytest.mark.usefixtures("nothing_stored")
def test_as_many_processes_as_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    class Asked(Exception):
        """With so many processes."""

    def ask(builder: Builder, _plans: Any) -> Any:
        assert "schedules.algorithms.indirect" in builder.modules
        raise Asked(builder.jobs)

    monkeypatch.setattr(Builder, "build", ask)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(5))
    monkeypatch.delenv(JOBS, raising=False)
    with pytest.raises(Asked, match="5"):
        compile_kernels(kernels(ENOUGH), HOST)
    monkeypatch.setenv(JOBS, "3")
    with pytest.raises(Asked, match="3"):
        compile_kernels(kernels(ENOUGH), HOST)


SCRIPT = """
from schedules.select.compile import compile_kernels
from tests.schedules.select.test_compile import HOST, kernels

print("once")
compile_kernels(kernels(2), HOST, 2)
"""


@pytest.mark.usefixtures("nothing_stored")
def test_a_script_needs_no_guard(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, env=environment
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "once\n", "")


def _complain(*arguments: Any) -> KernelObject:
    os.write(2, b"LLVM has something to say\n")
    return COMPILE_PLAN(*arguments)


COMPILE_PLAN = builder_module.compile_plan


@pytest.mark.usefixtures("nothing_stored")
def test_what_processes_say_is_logged(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(builder_module, "compile_plan", _complain)
    with caplog.at_level("INFO"):
        compile_kernels(kernels(2), HOST, 2)
    assert "LLVM has something to say" in caplog.text
    assert capfd.readouterr().err == ""


# In a Relax module


def test_objects_are_linked_with_a_module(tmp_path: Path) -> None:
    workload = layer(9, (8, 8), 3, activation="relu")
    cases = [Case.random(workload, seed) for seed in (0, 1)]
    module = chain_module([workload], [cases[0].weights], [cases[0].bias])
    module["other"] = chain_module([workload], [cases[1].weights], [cases[1].bias], name="other")[
        "other"
    ]
    objects: list[Kernel] = []

    def compiler(kernels: Sequence[Kernel]) -> Mapping[str, CKernel]:
        objects.extend(compile_kernels(kernels, HOST))
        return {kernel.name: kernel.compiled for kernel in objects if kernel.compiled}

    reports: list[FunctionReport] = []
    schedule = schedule_convolutions(HOST, compile_kernels=compiler, report=reports.append)
    executable = tvm.compile(schedule(module), tvm.target.Target(HOST.target))
    paths = [tmp_path / f"{kernel.name}.o" for kernel in objects]
    for path, kernel in zip(paths, objects, strict=True):
        path.write_bytes(kernel.data)

    def link(output: str, objects: Sequence[str], **_: Any) -> None:
        Toolchain.default().link_module(objects, Path(output), HOST)

    library = str(tmp_path / "module.so")
    executable.export_library(library, fcompile=link, addons=list(map(str, paths)))
    machine = relax.VirtualMachine(tvm.runtime.load_module(library), tvm.cpu())
    for name, case, report in zip(("main", "other"), cases, reports, strict=True):
        y: np.ndarray = machine[name](tvm.runtime.tensor(case.x)).numpy()
        case.check(y, report.kernels[0].plan)


def test_interrupts_come_out_of_the_pass() -> None:
    def interrupt(_kernels: Sequence[Kernel]) -> Mapping[str, CKernel]:
        raise KeyboardInterrupt

    workload = layer(4, (4, 4), 1)
    case = Case.random(workload)
    module = chain_module([workload], [case.weights], [case.bias])
    with pytest.raises(KeyboardInterrupt):
        schedule_convolutions(HOST, compile_kernels=interrupt)(module)
