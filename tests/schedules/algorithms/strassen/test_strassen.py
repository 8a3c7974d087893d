"""Seven products of quadrants: results, their error, workspace and where they are chosen."""

from __future__ import annotations

import platform
import re
from pathlib import Path

import numpy as np
import pytest

from schedules.algorithms import REGISTRY, Unsupported
from schedules.kernel.accuracy import STRASSEN_GROWTH, definition_error
from schedules.layer.workload import Conv2dWorkload
from schedules.plan.choice import Choice
from schedules.plan.plan import Plan
from schedules.plan.planner import Limits, plan_kernel
from schedules.target.simd import PRESETS, Simd
from tests.support.assembly import assembly_of
from tests.support.kernels import Case, HostKernel

HOST = Simd.named("host")
IS_X86 = platform.machine() == "x86_64"
TWO = Limits(threads=2)
#: An innermost loop in x86-64 assembly.
_LOOP = re.compile(r"^(\.LBB\w+):.*\n((?:(?!\.LBB).*\n)*?)\s+j\w+\s+\1$", re.MULTILINE)

#: One tile, one panel of each half, or several; batches; tiles of every size; all that may follow.
LAYERS = {
    "2x7x32->32 k1x1": "order=panels",
    "2x5x32->64 k1x1 relu6": "order=rows",
    "7x8x64->96 k1x1 n2 relu": "order=panels",
    "6x10x96->64 k1x1 + relu": "order=rows",
    "6x6x64->64 k1x1 relu6 +": "order=panels:panel=32",
    "10x5x32->128 k1x1 hard_swish wfloat16": "order=rows:panel=16",
    "8x14x32->64 k1x1 s2x2 relu6": "order=rows",
    "12x10x64->64 k1x1 n2 s3x2": "order=panels",
    "4x5x64->32 k1x1 n3 swish wint8": "order=panels",
}


def planned(text: str, knobs: str = "", simd: Simd = HOST) -> Plan:
    choice = Choice.parse(f"strassen{knobs and ':'}{knobs}")
    return Plan.of(choice, Conv2dWorkload.from_text(text), simd)


@pytest.mark.parametrize(("text", "knobs"), LAYERS.items() if IS_X86 else ())
def test_layers_are_computed_as_defined(text: str, knobs: str, tmp_path: Path) -> None:
    kernel = HostKernel(planned(text, knobs), HOST, tmp_path)
    assert kernel.kernel.workspace_bytes == kernel.plan.workspace_bytes
    case = Case.random(kernel.plan.layer)
    case.check(kernel(case), kernel.plan)
    case.check(kernel(case, threads=2, pieces=3), kernel.plan)


@pytest.mark.parametrize("text", ["14x14x256->64 k1x1"] if IS_X86 else ())
def test_the_error_grows_as_expected(text: str, tmp_path: Path) -> None:
    """Against that of the definition, which every estimate is relative to."""
    layer = Conv2dWorkload.from_text(text)
    case, plans = Case.random(layer), [planned(layer.to_text()), plan_kernel(layer, HOST, "dense")]
    errors = []
    for plan in plans:
        (tmp_path / plan.algorithm).mkdir()
        y = HostKernel(plan, HOST, tmp_path / plan.algorithm)(case)
        errors.append(
            float(np.sqrt(np.mean((y.reshape(case.expected.shape) - case.expected) ** 2)))
        )
    assert errors[0] / errors[1] == pytest.approx(STRASSEN_GROWTH, rel=0.1)
    assert plans[0].expected_error / definition_error(layer) == pytest.approx(2.2, rel=0.02)


@pytest.mark.parametrize("target", ["x86-64-v4", "x86-64-v3"])
@pytest.mark.parametrize("order", ["panels", "rows"])
def test_inner_loops_do_not_spill(target: str, order: str) -> None:
    """Of the seven products; with panels, those of the first tile make four sums besides."""
    simd = PRESETS[target]
    plan = planned("14x14x512->512 k1x1 relu", f"order={order}", simd)
    loops = [loop for _, loop in _LOOP.findall(assembly_of(plan, simd)) if "vfmadd" in loop]
    assert len(loops) == (14 if order == "panels" else 7)
    assert not [loop for loop in loops if "%rsp" in loop]


@pytest.mark.parametrize(
    ("text", "target", "reason"),
    [
        ("14x14x64->64 k3x3 p1,1,1,1", "x86-64-v4", "it computes layers of 1x1 kernels"),
        ("7x7x64->64 k1x1", "x86-64-v4", "halves need an even number of pixels"),
        ("14x14x64->48 k1x1", "x86-64-v4", "channels in multiples of 32"),
        ("15x14x64->64 k1x1 s2x2", "x86-64-v4", "halves need an even number of pixels"),
        ("2x11x64->64 k1x1", "x86-64-v4", "no register tile divides 11 pixels"),
        ("14x14x64->64 k1x1", "cortex-a76", "which is for x86-64"),
    ],
)
def test_what_has_no_quadrants_is_told(text: str, target: str, reason: str) -> None:
    with pytest.raises(Unsupported, match=reason):
        planned(text, simd=PRESETS[target])


def test_large_layers_are_computed_by_it() -> None:
    """Of the layers of MobileNetV1 and ResNet50; not on Arm, and not where little is multiplied."""
    simd = PRESETS["x86-64-v4"]

    def chosen(text: str, simd: Simd = simd) -> str:
        return plan_kernel(Conv2dWorkload.from_text(text), simd).algorithm

    for text in ("14x14x512->512", "28x28x256->256", "14x14x256->1024", "28x28x512->256"):
        assert chosen(f"{text} k1x1") == "strassen"
        assert chosen(f"{text} k1x1", PRESETS["cortex-a72"]) == "indirect"
    assert chosen("56x56x256->512 k1x1 s2x2") == "strassen"
    shared = plan_kernel(Conv2dWorkload.from_text("14x14x512->512 k1x1"), simd, limits=TWO)
    assert shared.algorithm == "indirect"
    assert chosen("56x56x32->64 k1x1") == "indirect"
    assert chosen("7x7x512->512 k1x1") == "indirect"
    assert chosen("8x8x1280->448 k1x1") == "indirect"


def test_it_holds_what_indirect_holds() -> None:
    layer = Conv2dWorkload.from_text("14x14x512->512 k1x1 + relu")
    plan = planned(layer.to_text(), simd=PRESETS["x86-64-v4"])
    other = plan_kernel(layer, PRESETS["x86-64-v4"], "indirect")
    assert plan.packed.bytes == other.packed.bytes
    assert plan.workspace_bytes == 4 * 512 * (14 * 14 + 2 * plan.knobs["panel"])
    assert plan.macs == other.macs * 7 // 8
    assert plan.overwrites == "residual"
    assert REGISTRY.get("strassen").transforms
