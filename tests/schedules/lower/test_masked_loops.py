"""Masks leave the inner loops: interior tiles test nothing, border rows test once a kernel row."""

from __future__ import annotations

import re

import tvm
from tvm import s_tir, te, tirx

from schedules.layer.workload import Conv2dWorkload
from schedules.lower import c_abi
from schedules.lower.masked_loops import SkipMaskedIterations, mark_masked, specialize
from schedules.plan.planner import plan_kernel
from schedules.target.simd import PRESETS


def masked_sum() -> s_tir.Schedule:
    """Y[i] = sum of X[i + k - 1, j] where the row exists."""
    x = te.placeholder((8, 4), name="X")
    k, j = te.reduce_axis((0, 3), name="k"), te.reduce_axis((0, 4), name="j")
    row = tirx.const(1, "int32")

    def element(i: tirx.Expr) -> tirx.Expr:
        inside = tirx.all(i + k - row >= 0, i + k - row < 8, j < 3)
        return te.sum(tirx.if_then_else(inside, x[i + k - row, j], 0.0), axis=[k, j])

    y = te.compute((8,), element, name="Y")
    schedule = s_tir.Schedule(te.create_prim_func([x, y]))
    _, k_loop, _ = schedule.get_loops(schedule.get_sblock("Y"))
    mark_masked(schedule, k_loop)
    schedule.decompose_reduction(schedule.get_sblock("Y"), k_loop)
    return schedule


def lowered(schedule: s_tir.Schedule) -> str:
    """The script after the pass and what prepares and cleans up for it."""
    passes = [
        s_tir.transform.ConvertBlocksToOpaque(),
        s_tir.transform.LowerOpaqueBlock(),
        SkipMaskedIterations,
        s_tir.transform.StmtSimplify(),
    ]
    return tvm.ir.transform.Sequential(passes)(schedule.mod).script()


def test_invariant_conditions_stand_outside_and_others_stay_inside() -> None:
    text = lowered(masked_sum())
    loop = text[text.index("for k in") :]
    before_j, after_j = loop.split("for j in")
    assert before_j.count("if ") >= 1  # both bounds of the row, once a kernel row
    assert "i + k" in before_j
    assert "j < 3" in after_j
    assert "i + k <" not in after_j
    assert "<= i + k" not in after_j


def masked_copy() -> s_tir.Schedule:
    """Y[i, j] = X[i - 1, j], or 0 where there is no such element."""
    x = te.placeholder((8, 4), name="X")

    def element(i: tirx.Expr, j: tirx.Expr) -> tirx.Expr:
        return tirx.if_then_else(tirx.all(i >= 1, i < 7, j < 3), x[i - 1, j], 0.0)

    y = te.compute((8, 4), element, name="Y")
    schedule = s_tir.Schedule(te.create_prim_func([x, y]))
    specialize(schedule, schedule.get_loops(schedule.get_sblock("Y"))[1])
    return schedule


def test_a_specialized_loop_has_a_copy_without_its_masks() -> None:
    """Of what changes inside of it, both copies keep the mask; all iterations are done."""
    outside, inside, otherwise = re.split(r"if |else:", lowered(masked_copy()))
    assert "for i in" in outside
    assert inside.startswith("1 <= i and i < 7:")
    for copy in (inside, otherwise):
        assert copy.count("for j in range(4):") == 1
        assert copy.count("j < 3") == 1
    assert "i < 7" not in inside.partition("for j")[2]
    assert "T.if_then_else(1 <= i and i < 7 and j < 3, X[i - 1, j]" in otherwise


def test_interior_tiles_test_nothing() -> None:
    """Of a large image's lowered kernel, the innermost loops hold no condition."""
    layer = Conv2dWorkload.with_padding(
        "SAME",
        in_height=64,
        in_width=70,
        in_channels=32,
        out_channels=32,
        kernel_height=3,
        kernel_width=3,
    )
    simd = PRESETS["x86-64-v4"]
    module, _ = c_abi.lower({"kernel": plan_kernel(layer, simd, "indirect").schedule(simd)}, simd)
    text = module["kernel_stage0"].script()
    assert "if_then_else" not in text
    # One test for each bound of the row, in each of the three partitions: left, inner, right.
    assert text.count("if ") <= 6
