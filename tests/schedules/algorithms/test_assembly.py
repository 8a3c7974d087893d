"""The inner loops that the default knobs give on every Arm preset."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest

from schedules.algorithms import REGISTRY
from schedules.layer.workload import Conv2dWorkload
from schedules.lower import c_abi
from schedules.plan.planner import plan_kernel
from schedules.target.simd import PRESETS
from tests.support.assembly import assembly_of, inner_loops, vectors_stored_on_x86_stack
from tests.support.kernels import serves
from tests.support.targets import ARM
from tests.support.turns import TURNS, of_turn

#: The others are like the Cortex-A76 in all but their caches.
DIFFERENT = [name for name in ARM if name not in ("neoverse-n1", "apple-m1")]

X86 = ("x86-64-v3", "x86-64-v4")
#: Algorithms with loops of their own.
CHOSEN = ("indirect", "winograd", "dense", "depthwise")

#: (image, C, M, kernel, stride): a layer of each kind in MobileNets, ResNets and VGG.
LAYERS = [
    (56, 64, 64, 3, 1),
    (28, 128, 128, 3, 1),
    (14, 256, 256, 3, 1),
    (7, 512, 512, 3, 1),
    (56, 128, 128, 3, 2),
    (112, 32, 64, 1, 1),
    (56, 24, 144, 1, 1),
    (14, 96, 576, 1, 1),
    (7, 960, 160, 1, 1),
    (14, 1024, 255, 1, 1),
    (28, 256, 512, 1, 2),
    (224, 3, 32, 3, 2),
    (224, 3, 64, 7, 2),
    (96, 3, 8, 3, 2),
]
#: (image, C, kernel, stride): depthwise layers of MobileNets and EfficientNets.
DEPTHWISE_LAYERS = [
    (112, 32, 3, 1),
    (112, 96, 3, 2),
    (56, 144, 3, 1),
    (28, 192, 3, 2),
    (14, 576, 3, 1),
    (7, 960, 3, 1),
    (56, 144, 5, 2),
    (28, 240, 5, 1),
    (14, 672, 5, 2),
    (7, 1152, 5, 1),
    (14, 256, 7, 1),
]


def workload(
    image: int, channels: int, outputs: int, kernel: int, stride: int, groups: int = 1
) -> Conv2dWorkload:
    return Conv2dWorkload.with_padding(
        "SAME",
        in_height=image,
        in_width=image,
        in_channels=channels,
        out_channels=outputs,
        kernel_height=kernel,
        kernel_width=kernel,
        stride_height=stride,
        stride_width=stride,
        groups=groups,
        activation="relu",
    )


WORKLOADS = [workload(*layer) for layer in LAYERS] + [
    workload(image, channels, channels, kernel, stride, groups=channels)
    for image, channels, kernel, stride in DEPTHWISE_LAYERS
]


#: Shapes of matrices of few rows: rows, inputs, outputs.
MATRICES = list(itertools.product((1, 2, 5), (96, 1001), (1, 24, 1001)))


@pytest.mark.parametrize("algorithm", REGISTRY.names())
@pytest.mark.parametrize("target", DIFFERENT)
def test_inner_loops_do_not_spill(target: str, algorithm: str) -> None:
    """Each layer for one of the targets, which take turns.

    So every algorithm meets every target, and every layer every target. Of algorithms that share
    the loops of `indirect`, each meets half of the layers.
    """
    row = REGISTRY.names().index(algorithm)
    turns = len(DIFFERENT) if algorithm in CHOSEN else 2 * len(DIFFERENT)
    first = (DIFFERENT.index(target) + row * (turns // len(DIFFERENT))) % turns
    served = [la for la in WORKLOADS if serves(algorithm, la, PRESETS[target])]
    check_layers(target, algorithm, served[first % len(served) :: turns])


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", REGISTRY.names())
@pytest.mark.parametrize("target", ARM)
def test_no_inner_loop_spills(target: str, algorithm: str) -> None:
    check_layers(target, algorithm, WORKLOADS)


def check_layers(target: str, algorithm: str, layers: Sequence[Conv2dWorkload]) -> None:
    simd = PRESETS[target]
    name = algorithm.partition(":")[0]
    served = [layer for layer in layers if serves(name, layer, simd)]
    assert served
    for layer in served:
        plan = plan_kernel(layer, simd, algorithm)
        loops = list(inner_loops(assembly_of(plan, simd)))
        assert any(loop.multiply_adds for loop in loops), layer
        # Of flat taps, masks cut the vectors of border tiles into pieces: one tile in twenty.
        is_flat = layer.in_channels < simd.lanes(layer.dtype)
        most = max(loop.multiply_adds for loop in loops)
        checked = [loop for loop in loops if loop.multiply_adds >= (most if is_flat else 1)]
        spilling = [loop for loop in checked if loop.spills]
        assert not spilling, f"{plan.describe()} {plan.knobs}: {spilling[0].instructions}"


@pytest.mark.parametrize(
    ("target", "weights", "turns"),
    [
        ("cortex-a53", "panels", True),
        ("cortex-a76", "in_place", True),
        pytest.param("cortex-a53", "in_place", False, marks=pytest.mark.slow),
        pytest.param("cortex-a76", "panels", False, marks=pytest.mark.slow),
    ],
)
def test_transforms_of_weights_do_not_spill(target: str, weights: str, turns: bool) -> None:
    layers = WORKLOADS[2:3] if target == "cortex-a53" else WORKLOADS[1:2]
    check_layers(target, f"winograd:weights={weights}", layers if turns else WORKLOADS[:4])


@pytest.mark.parametrize("weights", ["packed", "in_place"])
@pytest.mark.parametrize("target", DIFFERENT)
def test_matrices_of_few_rows_do_not_spill(target: str, weights: str) -> None:
    """Each for one of the targets."""
    check_matrices(target, weights, MATRICES[DIFFERENT.index(target) :: len(DIFFERENT)])


@pytest.mark.slow
@pytest.mark.parametrize("weights", ["packed", "in_place"])
@pytest.mark.parametrize("target", ARM)
def test_no_matrix_of_few_rows_spills(target: str, weights: str) -> None:
    check_matrices(target, weights, MATRICES)


def check_matrices(target: str, weights: str, matrices: Sequence[tuple[int, int, int]]) -> None:
    simd = PRESETS[target]
    for rows, channels, outputs in matrices:
        layer = Conv2dWorkload(1, rows, channels, outputs, 1, 1)
        plan = plan_kernel(layer, simd, f"dense:weights={weights}")
        loops = list(inner_loops(assembly_of(plan, simd)))
        assert any(loop.multiply_adds for loop in loops), layer
        spilling = [loop for loop in loops if loop.spills]
        assert not spilling, f"{layer.describe()} {plan.knobs}: {spilling[0].instructions}"


@TURNS
@pytest.mark.parametrize("target", X86)
def test_depthwise_does_not_spill_on_x86(target: str, turns: bool) -> None:
    simd = PRESETS[target]
    depthwise = [layer for layer in WORKLOADS if layer.is_depthwise]
    for layer in of_turn(depthwise, target, X86, turns):
        plan = plan_kernel(layer, simd)
        spills = vectors_stored_on_x86_stack(assembly_of(plan, simd))
        assert spills == 0, f"{layer.describe()} {plan.knobs}"
    large = {**plan.knobs, "rows": 4, "columns": 8}  # spills are seen
    schedule = REGISTRY.get("depthwise").schedule(plan.layer, simd, large)
    assert vectors_stored_on_x86_stack(c_abi.assembly(schedule, simd)) > 0


def test_most_of_the_main_loop_multiplies() -> None:
    simd = PRESETS["cortex-a76"]
    plan = plan_kernel(workload(*LAYERS[0]), simd, "indirect")
    loops = inner_loops(assembly_of(plan, simd))
    assert max(loop.multiply_adds / len(loop.instructions) for loop in loops) >= 0.8


def test_spills_are_seen() -> None:
    """A tile too large for the registers must not pass unnoticed."""
    simd = PRESETS["cortex-a76"]
    layer = workload(*LAYERS[0])
    indirect = REGISTRY.get("indirect")
    knobs = {**indirect.default_knobs(layer, simd), "columns": 8, "panel": 16}
    loops = inner_loops(c_abi.assembly(indirect.schedule(layer, simd, knobs), simd))
    assert sum(loop.spills for loop in loops) > 0


def test_an_array_on_the_stack_is_no_spill() -> None:
    """Stored by a moving pointer and loaded from fixed places; a spill knows both places."""
    array = """
    f:
            mov x8, sp
    .LBB0_1:
            fmul v0.4s, v0.4s, v1.4s
            str q0, [x8], #16
            b.ne .LBB0_1
    .LBB0_2:
            ldp q2, q3, [sp, #32]
            fmla v4.4s, v2.4s, v3.4s
            subs x9, x9, #1
            b.ne .LBB0_2
    """
    assert [loop.spills for loop in inner_loops(array)] == [0, 0]
    beside = array.replace("mov x8, sp", "mov x8, sp\n stp q8, q9, [sp, #128]")
    spilled = beside.replace("subs x9", "ldr q5, [sp, #144] // reload\n subs x9")
    assert [loop.spills for loop in inner_loops(beside)] == [0, 0]
    assert [loop.spills for loop in inner_loops(spilled)] == [0, 1]
