"""The C functions: symbols, stages, and the plan of the workspace."""

from __future__ import annotations

import ctypes
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection
from tvm import s_tir, te, tirx
from tvm_ffi import structural_walk

from schedules.algorithms import REGISTRY
from schedules.layer.winograd_weights import WinogradWeights
from schedules.layer.workload import Conv2dWorkload
from schedules.lower import c_abi
from schedules.lower.kernel import PlannedBuffer, Stage
from schedules.lower.passes import spread_output
from schedules.lower.stages import keep_rolled, mark_stage
from schedules.lower.steps import partition
from schedules.plan.planner import plan_kernel
from schedules.plan.stored_kernels import compile_plans
from schedules.target.simd import PRESETS, Simd
from tests.support.assembly import inner_loops
from tests.support.kernels import guarded_workspace, link, run_stages, serves
from tests.support.targets import TARGETS

#: What a C library or the compiler's support library has on every platform.
LIBRARY_SYMBOLS = {"memcpy", "memmove", "memset", "expf", "fmaf", "fmaxf", "fminf"}

LAYER = Conv2dWorkload.with_padding(
    "SAME",
    in_height=13,
    in_width=15,
    in_channels=10,
    out_channels=17,
    kernel_height=3,
    kernel_width=3,
    activation="relu6",
)


DEPTHWISE = replace(LAYER, out_channels=20, groups=10)
DENSE = Conv2dWorkload(1, 3, 10, 17, 1, 1)
#: Of weights that are pruned in Winograd's domain.
PRUNED = replace(LAYER, domain=WinogradWeights(4, zeros=70, block=8))


def served_layer(algorithm: str, simd: Simd) -> Conv2dWorkload:
    """The first of the layers above that the algorithm serves."""
    return next(
        layer for layer in (LAYER, DEPTHWISE, DENSE, PRUNED) if serves(algorithm, layer, simd)
    )


def symbols(data: bytes) -> tuple[set[str], set[str]]:
    """Undefined symbols, and defined functions that can be linked to, of an object."""
    undefined, functions = set(), set()
    for section in ELFFile(io.BytesIO(data)).iter_sections():
        if not isinstance(section, SymbolTableSection):
            continue
        for symbol in section.iter_symbols():
            if not symbol.name:
                continue
            kind = (symbol["st_info"]["bind"], symbol["st_info"]["type"])
            if symbol["st_shndx"] == "SHN_UNDEF":
                undefined.add(symbol.name)
            elif kind == ("STB_GLOBAL", "STT_FUNC"):
                functions.add(symbol.name)
    return undefined, functions


def targets_and_algorithms() -> list[Any]:
    """Every algorithm on every fourth target, the others slow."""
    found = []
    for column, target in enumerate(TARGETS):
        for row, algorithm in enumerate(REGISTRY.names()):
            marks = [] if (row + column) % 4 == 0 else [pytest.mark.slow]
            found.append(pytest.param(target, algorithm, marks=marks))
    return found


@pytest.mark.parametrize(("target", "algorithm"), targets_and_algorithms())
def test_objects_need_nothing_but_the_c_library(target: str, algorithm: str) -> None:
    simd = PRESETS[target]
    kernels = compile_plans(
        {"layer": plan_kernel(served_layer(algorithm, simd), simd, algorithm)}, simd
    )
    undefined, functions = symbols(kernels.data)
    assert undefined <= LIBRARY_SYMBOLS
    assert functions == {stage.symbol for stage in kernels.kernels["layer"].stages}


def test_several_kernels_share_an_object() -> None:
    simd = Simd.named("host")
    plans = {name: plan_kernel(served_layer(name, simd), simd, name) for name in REGISTRY.names()}
    kernels = compile_plans(plans, simd)
    assert set(kernels.kernels) == set(plans)
    _, functions = symbols(kernels.data)
    wanted = {stage.symbol for kernel in kernels.kernels.values() for stage in kernel.stages}
    assert functions == wanted
    assert [stage.symbol for stage in kernels.kernels["im2col"].stages] == [
        "im2col_stage0",
        "im2col_stage1",
    ]


@pytest.mark.usefixtures("nothing_stored")
def test_compilation_is_reproducible() -> None:
    simd = PRESETS["cortex-a76"]
    first, second = (
        compile_plans({"layer": plan_kernel(LAYER, simd, "indirect")}, simd).data for _ in range(2)
    )
    assert first == second


def two_stages() -> s_tir.Schedule:
    """y = ((x + w) + b) in two stages with two buffers, one of them a thread's own."""
    x, w, b = (te.placeholder((6, 10), name=name) for name in "XWB")
    first = te.compute((6, 10), lambda i, j: x[i, j] + w[i, j], name="first")
    second = te.compute((6, 10), lambda i, j: first[i, j] * 2.0, name="second")
    y = te.compute((6, 10), lambda i, j: second[i, 9 - j] + b[i, j], name="Y")
    schedule = s_tir.Schedule(te.create_prim_func([x, w, b, y]))
    mark_stage(schedule, schedule.get_loops(schedule.get_sblock("first"))[0], 0)
    row = schedule.get_loops(schedule.get_sblock("Y"))[0]
    schedule.compute_at(schedule.get_sblock("second"), row)
    mark_stage(schedule, row, 1)
    return schedule


def test_buffers_are_placed_by_scope_and_alignment() -> None:
    _, kernels = c_abi.lower({"kernel": two_stages()}, Simd.named("host"))
    kernel = kernels["kernel"]
    assert kernel.stages == (Stage("kernel_stage0", 6), Stage("kernel_stage1", 6))
    assert kernel.buffers == (
        PlannedBuffer("first", 0, 240, per_thread=False),
        PlannedBuffer("second", 0, 40, per_thread=True),
    )
    assert (kernel.shared_bytes, kernel.thread_bytes) == (256, 64)
    assert kernel.workspace_bytes == 256 + 40


def test_a_spread_output_leaves_gaps_between_pixels() -> None:
    """Params that lie in the output are spread too, stage by stage."""
    x, w, b = (te.placeholder((6, 10), name=name) for name in "XWB")
    sums = te.compute((6, 10), lambda i, j: x[i, j] + w[i, j], name="S")
    y = te.compute((6, 10), lambda i, j: sums[i, j] + b[i, j], name="Y")
    schedule = s_tir.Schedule(te.create_prim_func([x, w, b, y, sums]))
    for stage, block in enumerate(("S", "Y")):
        mark_stage(schedule, schedule.get_loops(schedule.get_sblock(block))[0], stage)
    spread_output(schedule, 25)
    module, kernels = c_abi.lower({"kernel": schedule}, Simd.named("host"))
    assert kernels["kernel"].buffers == ()
    declared: dict[str, list[int]] = {}

    def note(stmt: tirx.DeclBuffer) -> None:
        declared[str(stmt.buffer.name)] = [int(extent) for extent in stmt.buffer.shape]

    structural_walk(module["kernel_stage1"].body, (tirx.DeclBuffer, note))
    assert declared == {"X": [60], "W": [60], "B": [60], "Y": [150], "S": [150]}


def scaled_rows(rolled: bool | None) -> s_tir.Schedule:
    """y = x w + b, vector by vector; ``rolled``: how the loop over vectors is kept, if it is."""
    x, w, b = (te.placeholder((6, 64), name=name) for name in "XWB")
    y = te.compute((6, 64), lambda i, j: x[i, j] * w[i, j] + b[i, j], name="Y")
    schedule = s_tir.Schedule(te.create_prim_func([x, w, b, y]))
    row, column = schedule.get_loops(schedule.get_sblock("Y"))
    vector, lane = schedule.split(column, [None, 4])
    schedule.vectorize(lane)
    mark_stage(schedule, row)
    if rolled is not None:
        keep_rolled(schedule, vector, small=rolled)
    return schedule


def test_a_small_loop_stays_rolled_on_in_order_cores() -> None:
    """LLVM unrolls it whole if it may, and in part if it does not know how often it runs."""
    unrolled = []
    for rolled in (None, False, True):
        assembly = c_abi.assembly(scaled_rows(rolled), PRESETS["cortex-a53"])
        unrolled.append(max(loop.multiply_adds for loop in inner_loops(assembly)))
    whole, part, small = unrolled
    assert whole == 16
    assert 1 < part < 16
    assert small == 1


@pytest.mark.parametrize("rolled", [False, True])
def test_a_loop_that_stays_rolled_runs_to_its_end(rolled: bool, tmp_path: Path) -> None:
    simd = Simd.named("host")
    kernels = c_abi.compile_schedules({"kernel": scaled_rows(rolled)}, simd)
    library = ctypes.CDLL(str(link([kernels.data], tmp_path / "kernel.so")))
    x, w, b = np.random.default_rng(0).integers(-9, 9, (3, 6, 64)).astype(np.float32)
    y = np.full_like(x, np.nan)
    kernel = kernels.kernels["kernel"]
    # The loop's end is computed from the number of the thread.
    workspace = guarded_workspace(kernel, threads=3)
    run_stages(library, kernel, [x, None, w, b, y], workspace, threads=3, pieces=6)
    np.testing.assert_array_equal(y, x * w + b)


@pytest.mark.parametrize("kept", [False, True])
def test_threads_share_an_iteration_by_the_loop_inside(kept: bool, tmp_path: Path) -> None:
    """Rows of three pieces, with borders that are loops of their own, and any range of pieces."""
    x, w, b = (te.placeholder((6, 12), name=name) for name in "XWB")
    row_sums = te.compute((6, 12), lambda i, j: x[i, j] + w[i, j], name="sums")
    y = te.compute(
        (6, 11),
        lambda i, j: tirx.if_then_else(
            tirx.all(i > 0, j < 10), row_sums[i, j + 1] * 2.0, row_sums[i, j + 1] + b[i, j]
        ),
        name="Y",
    )
    schedule = s_tir.Schedule(te.create_prim_func([x, w, b, y]))
    row, column = schedule.get_loops(schedule.get_sblock("Y"))
    piece, _ = schedule.split(column, [None, 4])
    if kept:
        schedule.compute_at(schedule.get_sblock("sums"), row)
    else:
        schedule.compute_inline(schedule.get_sblock("sums"))
    for loop in (row, piece):
        partition(schedule, loop)
    mark_stage(schedule, row, inside=piece)
    kernels = c_abi.compile_schedules({"kernel": schedule}, Simd.named("host"))
    library = ctypes.CDLL(str(link([kernels.data], tmp_path / "kernel.so")))
    kernel = kernels.kernels["kernel"]
    # What an iteration keeps for its pieces is computed by every call that has one of them.
    assert kernel.stages == (Stage("kernel_stage0", 18, whole=kept),)
    assert kernel.thread_bytes == (64 if kept else 0)
    images = np.random.default_rng(0).integers(-9, 9, (3, 6, 12)).astype(np.float32)
    sums = (images[0] + images[1])[:, 1:]
    expected = sums + images[2][:, :11]
    expected[1:, :10] = 2 * sums[1:, :10]
    for pieces in (1, 4, 5, 18, 20):
        y = np.full_like(expected, np.nan)
        workspace = guarded_workspace(kernel, threads=3)
        x, w, b = images
        run_stages(library, kernel, [x, None, w, b, y], workspace, threads=3, pieces=pieces)
        np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("inside", [False, True])
def test_threads_share_every_item_among_the_iterations_around(inside: bool, tmp_path: Path) -> None:
    """All columns of three panels, in loops with borders of their own; of two loops, also."""
    x, w, b = (te.placeholder((4, 5, 11), name=name) for name in "XWB")
    y = te.compute(
        (4, 5, 11),
        lambda i, j, o: tirx.if_then_else(
            tirx.all(i > 0, o < 8), x[i, j, o] * w[i, j, o], b[i, j, o]
        ),
        name="Y",
    )
    schedule = s_tir.Schedule(te.create_prim_func([x, w, b, y]))
    row, column, o = schedule.get_loops(schedule.get_sblock("Y"))
    panel, lane = schedule.split(o, [None, 4])
    schedule.reorder(panel, row, column, lane)
    for loop in (panel, row):
        partition(schedule, loop)
    mark_stage(schedule, row, inside=column if inside else None, among=panel)
    kernels = c_abi.compile_schedules({"kernel": schedule}, Simd.named("host"))
    library = ctypes.CDLL(str(link([kernels.data], tmp_path / "kernel.so")))
    kernel = kernels.kernels["kernel"]
    extent = 3 * 4 * (5 if inside else 1)
    assert kernel.stages == (Stage("kernel_stage0", extent, whole=True),)
    images = np.random.default_rng(0).integers(-9, 9, (3, 4, 5, 11)).astype(np.float32)
    expected = images[2].copy()
    expected[1:, :, :8] = images[0, 1:, :, :8] * images[1, 1:, :, :8]
    for pieces in (1, 2, 3, 4, 5, 7, 12):
        y = np.full_like(expected, np.nan)
        arguments = [images[0], None, images[1], images[2], y]
        workspace = guarded_workspace(kernel, threads=4)
        run_stages(library, kernel, arguments, workspace, threads=4, pieces=pieces)
        np.testing.assert_array_equal(y, expected)


def test_a_kernel_without_a_stage_is_a_mistake() -> None:
    x, w, b = (te.placeholder((4,), name=name) for name in "XWB")
    y = te.compute((4,), lambda i: x[i] + w[i] + b[i], name="Y")
    schedule = s_tir.Schedule(te.create_prim_func([x, w, b, y]))
    with pytest.raises(AssertionError, match="not exactly one stage"):
        c_abi.lower({"kernel": schedule}, Simd.named("host"))
