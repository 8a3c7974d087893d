from __future__ import annotations

import math
from random import Random

import pytest

from schedules.kernel.costs import peak
from schedules.layer.block import workload_from_text
from schedules.plan.choice import Choice
from schedules.target.simd import Simd
from schedules.tuning.search.features import features
from schedules.tuning.search.space import Space

BLOCK = "14x14x24->96 k1x1 relu6 | 14x14x96->96 k3x3 p1,1,1,1 g96 relu6 | 14x14x96->24 k1x1 +"
WORKLOADS = (
    "14x14x64->64 k3x3 p1,1,1,1 relu",
    "32x32x3->16 k3x3 s2x2 p0,0,1,1",
    "7x7x160->64 k1x1 relu6",
    "1x1x256->100 k1x1",
    "14x14x96->96 k3x3 s2x2 p0,0,1,1 g96 relu6",
    BLOCK,
)


def named(space: Space, candidate: Choice) -> dict[str, float]:
    return features(space.plan(candidate), space.simd)


@pytest.mark.parametrize("target", ["x86-64-v4", "cortex-a53"])
@pytest.mark.parametrize("text", WORKLOADS)
def test_candidates_are_told_apart(text: str, target: str) -> None:
    space = Space(workload_from_text(text), Simd.named(target))
    random = Random(0)
    candidates = {*space.starts(), *(space.sample(random) for _ in range(30))}
    rows = {tuple(named(space, candidate).items()) for candidate in candidates}
    assert len(rows) == len(candidates)
    assert all(math.isfinite(number) for row in rows for _, number in row)


def test_numbers_are_those_of_the_plan() -> None:
    space = Space(workload_from_text(WORKLOADS[0]), Simd.named("x86-64-v4"))
    candidate = next(c for c in space if c.algorithm == "winograd" and c.knobs["outputs"] == 2)
    plan, row = space.plan(candidate), named(space, candidate)
    assert row["is_winograd"] == 1 and "is_indirect" not in row
    assert row["knob_outputs"] == 2 and "knob_solution" not in row
    assert row["knob_panel"] == candidate.knobs["panel"] / 16
    # F(2, 3): 16 products for 4 outputs of 9, and 14 rows are whole tiles.
    assert 2 ** row["macs_ratio"] == pytest.approx(16 / (4 * 9))
    at_peak_s = plan.layer.macs / peak(space.simd, "float32")
    assert 2 ** row["cost_ratio"] == pytest.approx(plan.cost / at_peak_s)
    assert 2 ** row["workspace"] * space.simd.l2_bytes == pytest.approx(plan.workspace_bytes)


def test_an_image_twice_as_high_has_the_same_ratios() -> None:
    rows = []
    for height in (14, 28):
        workload = workload_from_text(f"{height}x14x64->64 k3x3 s2x2 p0,1,0,1 relu")
        space = Space(workload, Simd.named("x86-64-v4"))
        rows.append(named(space, next(c for c in space if c.algorithm == "indirect")))
    same = ("sums", "registers", "pixels_used", "channels_used", "macs_ratio", "slots_ratio")
    assert [rows[0][name] for name in same] == pytest.approx([rows[1][name] for name in same])
    assert rows[1]["pixels"] == rows[0]["pixels"] + 1


def test_a_block_is_the_sum_of_its_layers() -> None:
    space = Space(workload_from_text(BLOCK), Simd.named("cortex-a53"))
    row = named(space, space.default)
    assert row["is_fused_block"] == 1 and "knob_columns" not in row
    assert row["knob_project_panel"] == space.default.knobs["project_panel"] / 4
    assert row["inner_channels"] == math.log2(96)
    # The depthwise layer's instructions are few beside the others', which no tile does for less.
    assert row["slots_ratio"] > 0
