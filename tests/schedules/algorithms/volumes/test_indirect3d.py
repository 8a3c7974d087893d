"""``indirect3d`` on this machine and on boards, its assembly, and what the planner makes of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from schedules.algorithms import Unsupported
from schedules.layer.volume import Conv3dWorkload
from schedules.plan.planner import plan_kernel
from schedules.target.simd import PRESETS, Simd
from schedules.tuning.search.space import Space
from tests.support.assembly import assembly_of, inner_loops
from tests.support.kernels import Case, HostKernel, run_on_board
from tests.support.tflite_writer import Conv
from tests.support.volumes import VOLUMES, Volume

HOST = Simd.named("host")
LAYERS: dict[str, Conv3dWorkload] = {
    name.replace(" ", "_"): replace(layer.workload(shape), batch=1 + index % 2)
    for index, (name, (shape, layer)) in enumerate(VOLUMES.items())
}
LAYERS["residual"] = replace(LAYERS["odd"], residual=True, output_activation="relu6")


@pytest.mark.parametrize("name", LAYERS)
def test_agrees_with_float64(name: str, tmp_path: Path) -> None:
    plan, case = plan_kernel(LAYERS[name], HOST, "indirect3d"), Case.random(LAYERS[name])
    kernel = HostKernel(plan, HOST, tmp_path)
    assert kernel.kernel.workspace_bytes == plan.workspace_bytes == 0
    for threads, pieces in ((1, 1), (2, 5)):
        case.check(kernel(case, threads, pieces), plan)


@pytest.mark.parametrize("order", ["panels,rows,columns", "rows,panels,columns"])
def test_every_order_agrees(order: str, tmp_path: Path) -> None:
    layer = LAYERS["strides"]
    plan, case = plan_kernel(layer, HOST, f"indirect3d:order={order}"), Case.random(layer)
    case.check(HostKernel(plan, HOST, tmp_path)(case, 2, 3), plan)


def test_agrees_with_float64_on_a_board(tmp_path: Path) -> None:
    simd = PRESETS["cortex-a76"]
    plans = {name: plan_kernel(layer, simd) for name, layer in LAYERS.items()}
    cases = {name: Case.random(layer) for name, layer in LAYERS.items()}
    outputs = run_on_board("cortex-a76", plans, cases, tmp_path)
    for name, case in cases.items():
        case.check(outputs[name], plans[name])


@pytest.mark.parametrize("cpu", ["cortex-a53", "cortex-a76"])
def test_inner_loops_do_not_spill(cpu: str) -> None:
    simd, layer = PRESETS[cpu], Volume(64).workload((1, 8, 28, 28, 64))
    loops = inner_loops(assembly_of(plan_kernel(layer, simd), simd))
    products = [loop for loop in loops if loop.multiply_adds]
    assert products and not any(loop.spills for loop in products)


def test_only_volumes_and_all_of_them() -> None:
    with pytest.raises(Unsupported, match="computes layers of volumes"):
        plan_kernel(Conv(8).workload((1, 8, 8, 8)), HOST, "indirect3d")
    with pytest.raises(Unsupported, match="computes single layers, of images"):
        plan_kernel(LAYERS["odd"], HOST, "indirect")
    assert {choice.algorithm for choice in Space(LAYERS["odd"], HOST).starts()} == {"indirect3d"}
