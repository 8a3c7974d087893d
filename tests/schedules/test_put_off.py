"""TVM that is imported when it is used, and not before."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import sys
from schedules.put_off import put_tvm_off

put_tvm_off()
from schedules.layer.workload import Conv2dWorkload
from schedules.plan.planner import best_plan
from schedules.plan.planner import NO_LIMITS
from schedules.target.simd import PRESETS

simd = PRESETS["cortex-a76"]
plan = best_plan(Conv2dWorkload(8, 8, 8, 8, 3, 3), simd, NO_LIMITS)
assert plan.cost > 0 and "tvm.runtime" not in sys.modules, "it was no more than asked for"
schedule = plan.schedule(simd)
assert "tvm.runtime" in sys.modules
import tvm
from tvm import s_tir

assert isinstance(schedule, s_tir.Schedule), "names that were there before stand for the same"
assert type(tvm).__name__ == type(s_tir).__name__ == "module", "and imports are as ever"
print(plan.algorithm)
"""


def test_kernels_are_planned_without_tvm_and_scheduled_with_it() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_who_has_tvm_already_keeps_it() -> None:
    code = "import sys, tvm\nfrom schedules.put_off import put_tvm_off\nput_tvm_off()\n"
    code += "from tvm import te\nassert te.compute and type(te).__name__ == 'module'"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
