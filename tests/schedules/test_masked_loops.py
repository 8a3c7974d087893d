"""Masks leave the inner loops: interior tiles test nothing, border rows test once a kernel row."""

from __future__ import annotations

import tvm
from tvm import s_tir, te, tirx

from schedules import c_abi
from schedules.masked_loops import SkipMaskedIterations, mark_masked
from schedules.planner import plan_layer
from schedules.simd import PRESETS
from schedules.workload import Conv2dWorkload


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


def test_invariant_conditions_stand_outside_and_others_stay_inside() -> None:
    passes = [
        s_tir.transform.ConvertBlocksToOpaque(),
        s_tir.transform.LowerOpaqueBlock(),
        SkipMaskedIterations,
        s_tir.transform.StmtSimplify(),
    ]
    text = tvm.ir.transform.Sequential(passes)(masked_sum().mod).script()
    loop = text[text.index("for k in") :]
    before_j, after_j = loop.split("for j in")
    assert before_j.count("if ") >= 1  # both bounds of the row, once a kernel row
    assert "i + k" in before_j
    assert "j < 3" in after_j
    assert "i + k <" not in after_j
    assert "<= i + k" not in after_j


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
    module, _ = c_abi.lower({"kernel": plan_layer(layer, simd, "indirect").schedule(simd)}, simd)
    text = module["kernel_stage0"].script()
    assert "if_then_else" not in text
    # One test for each bound of the row, in each of the three partitions: left, inner, right.
    assert text.count("if ") <= 6
