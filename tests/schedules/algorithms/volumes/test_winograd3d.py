"""``winograd3d``: exact matrices, errors, workspace, kernels on this machine and on boards."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from schedules.algorithms import Unsupported
from schedules.algorithms.volumes.domain import VolumeDomain
from schedules.layer.volume import Conv3dWorkload
from schedules.plan.plan import Plan
from schedules.plan.planner import plan_kernel
from schedules.target.simd import PRESETS, Simd
from schedules.transforms.cook_toom import as_floats
from schedules.tuning.search.space import Space
from tests.support.assembly import assembly_of, inner_loops
from tests.support.kernels import Case, HostKernel, run_on_board
from tests.support.volumes import Volume

HOST = Simd.named("host")
#: Borders, tails, odd channels and kernels that are transformed along two axes or one.
LAYERS: dict[str, Conv3dWorkload] = {
    "odd": Volume(7, activation="relu").workload((2, 5, 9, 11, 5)),
    "blocks": Volume(33).workload((1, 4, 8, 6, 32)),
    "valid": Volume(24, (3, 3, 1), padding="VALID").workload((1, 6, 7, 6, 20)),
    "images": Volume(16, (1, 3, 3), activation="relu6").workload((1, 3, 9, 9, 16)),
    "stack": Volume(8, (3, 1, 1)).workload((1, 9, 3, 5, 12)),
    "five": Volume(16, (2, 5, 3), bias=False).workload((1, 4, 7, 8, 8)),
}
LAYERS["residual"] = replace(LAYERS["blocks"], residual=True, output_activation="relu")


def plans(simd: Simd) -> dict[str, Plan]:
    """Both forms, which take turns."""
    forms = itertools.cycle((2, 4))
    return {
        f"{name}_{m}": plan_kernel(layer, simd, f"winograd3d:outputs={m}")
        for (name, layer), m in zip(LAYERS.items(), forms, strict=False)
    }


@pytest.mark.parametrize("name", plans(HOST))
def test_agrees_with_float64(name: str, tmp_path: Path) -> None:
    plan = plans(HOST)[name]
    kernel, case = HostKernel(plan, HOST, tmp_path), Case.random(plan.layer)
    assert kernel.kernel.workspace_bytes == plan.workspace_bytes
    for threads, pieces in ((1, 1), (2, 5)):
        y = kernel(case, threads, pieces)
        case.check(y, plan)
    error = np.sqrt(np.mean(np.square(y - case.expected)) / np.mean(np.square(case.expected)))
    if plan.layer.activation == "none" and not plan.layer.residual:
        assert plan.expected_error / 4 < error < 1.5 * plan.expected_error


@pytest.mark.parametrize("knobs", ["strip=2", "c_block=8:strip=3", "order=rows,columns,panels"])
def test_other_knobs_agree(knobs: str, tmp_path: Path) -> None:
    plan = plan_kernel(LAYERS["blocks"], HOST, f"winograd3d:outputs=2:{knobs}")
    kernel, case = HostKernel(plan, HOST, tmp_path), Case.random(plan.layer)
    assert kernel.kernel.workspace_bytes == plan.workspace_bytes
    case.check(kernel(case, 2, 3), plan)


def test_agrees_with_float64_on_a_board(tmp_path: Path) -> None:
    simd = PRESETS["cortex-a76"]
    found = plans(simd)
    cases = {name: Case.random(plan.layer) for name, plan in found.items()}
    outputs = run_on_board("cortex-a76", found, cases, tmp_path)
    for name, case in cases.items():
        case.check(outputs[name], found[name])


@pytest.mark.parametrize("outputs", [2, 4])
def test_matrices_compute_a_correlation(outputs: int) -> None:
    """By all outputs of one tile, in float64, of every tap and place alone."""
    layer = Volume(1).workload((1, 8, 8, 8, 1))
    domain = VolumeDomain.of_volume(layer, {"outputs": outputs, "strip": 1, "c_block": 1})
    axes = (domain.depth, domain.rows, domain.columns)
    rows, columns = domain.weight_transform()
    n, m = outputs + 2, outputs
    random = np.random.default_rng(0)
    tile, taps = random.standard_normal((n, n, n)), random.standard_normal((3, 3, 3))
    u = np.array(rows) @ taps.reshape(9, 3) @ np.array(columns).T
    b = [as_floats(t.image) for t in axes]
    a = [as_floats(t.output) for t in axes]
    v = np.einsum("ai,bj,ck,ijk->abc", *b, tile)
    y = np.einsum("pa,qb,rc,abc->pqr", *a, v * u.reshape(n, n, n))
    for p, q, r in np.ndindex(m, m, m):
        assert y[p, q, r] == pytest.approx(np.sum(tile[p : p + 3, q : q + 3, r : r + 3] * taps))
    assert domain.points == n**3


@pytest.mark.parametrize("cpu", ["cortex-a53", "cortex-a76"])
def test_inner_loops_of_products_do_not_spill(cpu: str) -> None:
    simd, layer = PRESETS[cpu], Volume(64).workload((1, 8, 28, 28, 64))
    plan = plan_kernel(layer, simd, "winograd3d:outputs=4")
    products = [loop for loop in inner_loops(assembly_of(plan, simd)) if loop.multiply_adds]
    assert products and not any(loop.spills for loop in products)


def test_is_chosen_where_it_is_faster() -> None:
    layer = Volume(64).workload((1, 8, 28, 28, 64))
    few = Volume(64).workload((1, 16, 56, 56, 3))
    assert plan_kernel(layer, HOST).algorithm == "winograd3d"
    assert plan_kernel(few, HOST).algorithm == "indirect3d"
    tried = {choice.algorithm for choice in Space(few, HOST).starts()}
    assert tried == {"indirect3d", "winograd3d"}
    assert plan_kernel(layer, HOST, "winograd3d:outputs=2").macs * 27 == layer.macs * 8


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (Volume(8, stride=(1, 2, 1)), "needs stride 1"),
        (Volume(8, dilation=(2, 1, 1)), "needs stride 1"),
        (Volume(8, (1, 1, 1)), "no overlapping products"),
        (Volume(8, (7, 8, 3)), "tiles of more than"),
    ],
)
def test_refuses_what_gains_nothing(layer: Volume, reason: str) -> None:
    with pytest.raises(Unsupported, match=reason):
        plan_kernel(layer.workload((1, 9, 9, 9, 4)), HOST, "winograd3d")
