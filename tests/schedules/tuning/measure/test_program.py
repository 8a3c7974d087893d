"""Kernels that do what they must not, planted beside a right one in one program."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from schedules.layer.workload import Conv2dWorkload
from schedules.lower.kernel import CKernel, PlannedBuffer, Stage
from schedules.plan.plan import Plan
from schedules.plan.planner import plan_kernel
from schedules.plan.stored_kernels import compile_plans
from schedules.target.simd import Simd
from schedules.target.toolchain import Toolchain
from schedules.tuning.boards.local import LocalRunner
from schedules.tuning.measure.problem import Problem
from schedules.tuning.measure.program import SOURCES, Compiled, ProgramWriter, Tensors
from schedules.tuning.measure.settings import Settings

HOST = Simd.named("host")
LAYER = Conv2dWorkload(4, 4, 6, 6, 1, 1, group_of=3)
QUICK = Settings(number=3, repeat=2, min_repeat_ms=0.1, timeout_s=1.0)

FAULTS = {
    "crash": "*(volatile int *)0 = 1;",
    "input": "*(volatile float *)x = 1;",
    "forever": "for (volatile int i = 0; ; i++);",
    "nothing": "",
    "wrong": "for (int p = 0; p < 16; p++) for (int c = 0; c < 6; c++) y[p * 18 + c] = 1e3f;",
    "status": "return 7;",
    "exit": "_exit(3);",
    "outside": (
        "for (int p = 0; p < 16; p++) for (int c = 0; c < 6; c++) { y[p * 18 + c] = 0; y[-1] = 0; }"
    ),
    "huge": "",
}


def c_kernel(name: str, body: str, folder: Path, plan: Plan) -> Compiled:
    """A stage written in C."""
    (folder / f"{name}.c").write_text(
        f"""
        #include <stdint.h>
        #include <unistd.h>
        int32_t {name}_stage0(const float *x, const float *r, const float *w, const float *b,
                              float *y, uint8_t *workspace, int32_t thread, int32_t begin,
                              int32_t end) {{
            {body}
            return 0;
        }}
        """
    )
    (compiled,) = Toolchain.default().compile_objects(folder, [f"{name}.c"], HOST)
    buffers = (PlannedBuffer("huge", 0, 2**50, False),) if name == "huge" else ()
    kernel = CKernel(name, (Stage(f"{name}_stage0", 1),), buffers)
    return Compiled(plan, kernel, (folder / compiled).read_bytes())


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What the program says of each kernel, by name."""
    folder = tmp_path_factory.mktemp("program")
    plan = plan_kernel(LAYER, HOST)
    right = compile_plans({"right": plan}, HOST)
    kernels = [c_kernel(name, body, folder, plan) for name, body in FAULTS.items()]
    kernels.insert(3, Compiled(plan, right.kernels["right"], right.data))
    writer = ProgramWriter(folder, HOST, Toolchain.default())
    batch = writer.write(Tensors(folder, Problem.of(LAYER), HOST), kernels, QUICK)
    printed = LocalRunner().run(batch)
    assert "board" in printed[0]
    assert printed[-1] == {"done": True}
    assert len(printed) == len(kernels) + 2
    names = [compiled.kernel.name for compiled in kernels]
    return {names[line["kernel"]]: line for line in printed[1:-1]}


def test_a_right_kernel_beside_them_is_timed(lines: dict[str, dict[str, Any]]) -> None:
    assert lines["right"]["error"] is None
    assert len(lines["right"]["samples_s"]) == QUICK.repeat


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("crash", "crashed: signal 11"),
        ("input", "crashed: signal 11"),
        ("forever", "took longer than 1 s"),
        ("nothing", "wrong: outputs that are not numbers"),
        ("status", "failed: it returned 7"),
        ("exit", "crashed: status 3"),
        ("outside", "wrong: writes to another group's channels"),
    ],
)
def test_errors(lines: dict[str, dict[str, Any]], name: str, error: str) -> None:
    assert lines[name]["error"] == error
    assert lines[name]["samples_s"] == []


def test_a_wrong_output_says_by_how_much(lines: dict[str, dict[str, Any]]) -> None:
    before, after = lines["wrong"]["error"].split(" where ")
    assert before == "wrong: off by 1e+03"
    allowed, rest = after.split(" is ")
    assert 1e-7 < float(allowed) < 1e-4
    assert rest == "allowed"


def test_a_workspace_that_no_machine_has(lines: dict[str, dict[str, Any]]) -> None:
    assert lines["huge"]["error"].startswith("needs 1048576.0 GiB of workspace; ")
    assert lines["huge"]["error"].endswith(" GiB are free")


def test_the_sources_compile_without_warnings(tmp_path: Path) -> None:
    strict = ("-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion", "-Werror")
    command = (*Toolchain.default().command, *strict)
    for name in ("x86-64-v3", "cortex-a53-android"):
        folder = tmp_path / name
        folder.mkdir()
        writer = ProgramWriter(folder, Simd.named(name), Toolchain(command, is_zig=True))
        assert [Path(path).stem for path in writer.objects] == [
            Path(source).stem for source in SOURCES
        ]
