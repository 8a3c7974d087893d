"""Relax functions with our kernels inside, against float64."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax

from schedules.algorithms import REGISTRY
from schedules.errors import LeanconvError
from schedules.layer.block import Block
from schedules.layer.workload import Conv2dWorkload
from schedules.plan.planner import Limits
from schedules.relax import network as relax_network
from schedules.relax.pipeline import lower_to_calls, lower_to_loops
from schedules.relax.transform import FunctionReport, schedule_convolutions
from schedules.target.simd import PRESETS, Simd
from schedules.target.toolchain import Toolchain
from schedules.tuning.records.records import Record
from tests.schedules.algorithms.test_algorithms import HOST, RUNNABLE, layer
from tests.support.blocks import BlockCase
from tests.support.kernels import Case, error_bound
from tests.support.reference import conv2d as reference
from tests.support.reference import gamma
from tests.support.relax_layers import (
    activated,
    chain_module,
    constant,
    conv2d,
    image_variable,
    run,
)
from tests.support.trials import record

TARGET = tvm.target.Target(HOST.target)


def scheduled(
    module: tvm.IRModule, simd: Simd = HOST, **options: Any
) -> tuple[tvm.IRModule, list[FunctionReport]]:
    """``module`` behind the pass; it must be well formed."""
    reports: list[FunctionReport] = []
    result = schedule_convolutions(simd, report=reports.append, **options)(module)
    relax.analysis.well_formed(result)
    return result, reports


def operators(module: tvm.IRModule, function: str = "main") -> list[str]:
    """What a function calls."""
    found: list[str] = []

    def visit(expression: Any) -> None:
        if isinstance(expression, relax.Call) and isinstance(expression.op, tvm.ir.Op):
            found.append(str(expression.op.name))

    relax.analysis.post_order_visit(module[function], visit)
    return found


#: One of each kind. Channels and sizes divide by no tile; the last ones are of one register.
LAYERS = [
    layer(11, (5, 19), 3, activation="relu"),
    layer(11, (5, 19), 3, activation="relu6", stride=2),
    layer(11, (5, 19), 3, "VALID", activation="relu_n1_to_1", dilation=2),
    layer((9, 6), (7, 33), (1, 5), activation="hard_swish", stride_width=2),
    layer(6, (5, 18), 3, activation="swish"),
    layer(7, (20, 24), 1, activation="relu"),
    layer(7, (20, 24), 1, batch=3),
    layer(10, (17, 33), 3, batch=2, activation="relu"),
    layer(9, (21, 21), 3, groups=21, activation="relu6"),
    layer(9, (21, 42), 5, groups=21, stride=2, batch=2),
    layer(9, (12, 18), 3, groups=3, activation="relu"),
    layer(9, (12, 18), 3, groups=3, batch=2, stride=2),
    replace(layer(8, (16, 16), 3, activation="relu"), residual=True),
    replace(layer(8, (24, 16), 1), residual=True, output_activation="relu"),
    replace(layer(8, (16, 16), 3, groups=16), residual=True, output_activation="relu6"),
    layer(1, (1, 1), 1),
]


@pytest.mark.parametrize("simd", RUNNABLE, ids=lambda simd: simd.name)
@pytest.mark.parametrize("workload", LAYERS, ids=str)
def test_layer(workload: Conv2dWorkload, simd: Simd) -> None:
    case = Case.random(workload)
    module = chain_module([workload], [case.weights], [case.bias])
    result, (report,) = scheduled(module, simd)
    (kernel,) = report.kernels
    assert report.selection.layers[0].layer.workload == workload
    # Everything up to the last product, which stands behind the layer, is the kernel's.
    assert operators(result) == ["relax.call_dps_packed", "relax.multiply"]
    inputs = [case.x] if case.residual is None else [case.x, case.residual]
    y = run(result, tvm.target.Target(simd.target), *inputs)
    # The plan is that of one image, and of one group.
    arguments = (case.x, case.weights, case.bias, case.bound, case.residual)
    check(y, replace(case, bound=error_bound(kernel.plan, workload, *arguments)))


def check(y: np.ndarray, case: Case) -> None:
    worst = np.abs(y - case.expected) - case.bound
    assert (worst <= 0).all(), f"off by up to {np.nanmax(worst):.3g} more than the bound"


@pytest.mark.parametrize("name", [n for n in REGISTRY.names() if n not in ("depthwise", "dense")])
def test_named_algorithms(name: str) -> None:
    workload = layer(10, (9, 17), 3, activation="relu")
    case = Case.random(workload)
    result, (report,) = scheduled(
        chain_module([workload], [case.weights], [case.bias]), algorithms=[name]
    )
    (kernel,) = report.kernels
    assert kernel.plan.algorithm == name
    case.check(run(result, TARGET, case.x), kernel.plan)


def test_zeros_are_not_multiplied() -> None:
    workload = layer(9, (32, 20), 1, batch=2, activation="relu")
    case = Case.random(workload)
    kept = np.random.default_rng(1).permutation(case.weights.size) % 5 == 0
    weights = case.weights * kept.reshape(case.weights.shape)
    exact, bound = reference(workload, case.x, weights, case.bias)
    module = chain_module([workload], [weights], [case.bias])
    result, (report,) = scheduled(module, algorithms=["sparse_direct"])
    (kernel,) = report.kernels
    assert (kernel.plan.algorithm, kernel.plan.layer.zeros) == ("sparse_direct", 80)
    y = run(result, TARGET, case.x)
    check(y, replace(case, weights=weights, expected=exact, bound=bound))


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("name", ["indirect", "im2col", "kn2row_as", "winograd", "mec_strip"])
def test_threads(name: str, threads: int) -> None:
    """Shared stages and a slice of workspace for each thread, however many there really are."""
    workload = layer(12, (16, 16), 3, activation="relu")
    case = Case.random(workload)
    module = chain_module([workload], [case.weights], [case.bias])
    result, (report,) = scheduled(module, replace(HOST, cores=threads), algorithms=[name])
    (kernel,) = report.kernels
    assert kernel.threads <= threads
    own = kernel.compiled.workspace_bytes
    assert kernel.workspace_bytes == own + (kernel.threads - 1) * kernel.compiled.thread_bytes
    assert kernel.plan.workspace_bytes == own
    case.check(run(result, TARGET, case.x), kernel.plan)


@pytest.mark.parametrize("layout", ["HWIO", "OHWI", "HWOI", "OIHW"])
def test_weight_layouts(layout: str) -> None:
    workload = layer(6, (5, 7), 3)
    case = Case.random(workload)
    module = chain_module([workload], [case.weights], [case.bias], layout=layout)
    result, (report,) = scheduled(module)
    case.check(run(result, TARGET, case.x), report.kernels[0].plan)


def test_no_bias() -> None:
    workload = layer(6, (5, 7), 3, activation="relu")
    case = Case.random(workload)
    module = chain_module([workload], [case.weights], [None])
    result, _ = scheduled(module, algorithms=["indirect"])
    assert operators(result) == ["relax.call_dps_packed", "relax.multiply"]
    y = run(result, TARGET, case.x)
    expected, bound = reference(workload, case.x, case.weights, None)
    assert (np.abs(y - expected) <= bound).all()


def test_float16_weights() -> None:
    """What an importer makes of models with float16 constants."""
    workload = layer(6, (5, 7), 3)
    case = Case.random(workload)
    rounded = case.weights.astype(np.float16).astype(np.float32)
    module = chain_module([workload], [case.weights], [case.bias], half=True)
    result, (report,) = scheduled(module, algorithms=["indirect"])
    assert operators(result) == ["relax.call_dps_packed", "relax.multiply"]
    expected, bound = reference(workload, case.x, rounded, case.bias)
    assert (np.abs(run(result, TARGET, case.x) - expected) <= bound).all()
    (selected,) = report.selection.layers
    assert selected.layer.weight_bytes == workload.weight_bytes // 2
    assert selected.layer.workload == replace(workload, weight_dtype="float16")


def test_pad_in_front() -> None:
    inner = layer(9, (5, 7), 3, "VALID", stride=2, activation="relu")
    workload = replace(inner, in_height=7, in_width=6, pad_top=2, pad_left=1, pad_right=2)
    case = Case.random(workload)
    builder = relax.BlockBuilder()
    x = image_variable(workload)
    with builder.function("main", [x]):
        with builder.dataflow():
            padded = builder.emit(relax.op.nn.pad(x, [0, 0, 2, 0, 1, 2, 0, 0]))
            y = builder.emit(conv2d(inner, padded, case.weights))
            y = activated(builder, builder.emit(relax.op.add(y, constant(case.bias))), "relu")
            y = builder.emit_output(relax.op.multiply(y, relax.const(np.float32(1))))
        builder.emit_func_output(y)
    result, (report,) = scheduled(builder.get())
    assert operators(result) == ["relax.call_dps_packed", "relax.multiply"]
    case.check(run(result, TARGET, case.x), report.kernels[0].plan)


@pytest.mark.parametrize("shape", [(1, 40), (3, 40), (2, 3, 40)], ids=str)
def test_dense(shape: tuple[int, ...]) -> None:
    random = np.random.default_rng(0)
    x = random.standard_normal(shape, np.float32)
    weights = random.standard_normal((40, 19), np.float32)
    bias = random.standard_normal(19, np.float32)
    builder = relax.BlockBuilder()
    variable = relax.Var("x", relax.TensorType(shape, "float32"))
    with builder.function("main", [variable]):
        with builder.dataflow():
            # As an importer writes it: weights by rows of outputs, transposed.
            w = builder.emit(relax.op.permute_dims(constant(weights.T)))
            y = builder.emit(relax.op.matmul(variable, w))
            y = builder.emit(relax.op.add(y, constant(bias)))
            y = builder.emit_output(relax.op.nn.relu(y))
        builder.emit_func_output(y)
    result, (report,) = scheduled(builder.get())
    assert operators(result) == ["relax.call_dps_packed"]
    assert report.selection.layers[0].layer.geometry.startswith("dense ")
    exact = x.astype(np.float64) @ weights.astype(np.float64) + bias
    bound = gamma(42) * (abs(x).astype(np.float64) @ abs(weights) + abs(bias))
    y = run(result, TARGET, x)
    assert y.shape == exact.shape
    assert (np.abs(y - np.maximum(exact, 0)) <= bound).all()


# Blocks


def test_images_share_weights() -> None:
    """No weights stay in these caches: images of the 3x3 layer are one call."""
    simd = replace(HOST, l1_bytes=1024, l2_bytes=2048)
    workload = layer(9, (24, 32), 3, batch=4, activation="relu")
    case = Case.random(workload)
    result, (report,) = scheduled(chain_module([workload], [case.weights], [case.bias]), simd)
    (kernel,) = report.kernels
    assert kernel.plan.images > 1
    assert kernel.image_calls * kernel.plan.images == 4
    y = run(result, TARGET, case.x)
    arguments = (case.x, case.weights, case.bias, case.bound)
    check(y, replace(case, bound=error_bound(kernel.plan, workload, *arguments)))


def inverted_residual(batch: int = 1) -> Block:
    expand = layer(14, (16, 96), 1, activation="relu6", batch=batch)
    middle = layer(14, (96, 96), 3, groups=96, activation="relu6", batch=batch)
    project = replace(layer(14, (96, 16), 1, batch=batch), residual=True)
    return Block((expand, middle, project))


@pytest.mark.parametrize("own_input", [False, True])
@pytest.mark.parametrize("batch", [1, 2])
def test_block(own_input: bool, batch: int) -> None:
    block = inverted_residual(batch)
    case = BlockCase.random(block, own_input)
    module = chain_module(block.layers, case.weights, case.biases, own_input)
    result, (report,) = scheduled(module, algorithms=["fused_block"])
    (kernel,) = report.kernels
    assert kernel.plan.algorithm == "fused_block"
    assert operators(result) == ["relax.call_dps_packed", "relax.multiply"]
    assert case.residual is not None
    inputs = [case.x] if own_input else [case.x, case.residual]
    case.check(run(result, TARGET, *inputs))


def test_objectives() -> None:
    """Memory as the objective takes the form that holds least, as for a delegate."""
    block = inverted_residual()
    case = BlockCase.random(block, own_input=False)
    module = chain_module(block.layers, case.weights, case.biases)
    _, (by_time,) = scheduled(module)
    result, (by_memory,) = scheduled(module, objective="least-memory")
    assert [k.plan.algorithm for k in by_time.kernels] == ["indirect", "depthwise", "indirect"]
    assert [k.plan.algorithm for k in by_memory.kernels] == ["fused_block"]
    assert case.residual is not None
    case.check(run(result, TARGET, case.x, case.residual))


# Who adds whom


def test_two_branches() -> None:
    """Of two layers whose sum is the output, the later one adds the earlier one's output."""
    workload = layer(8, (6, 9), 3)
    first, second = Case.random(workload, 0), Case.random(workload, 1)
    builder = relax.BlockBuilder()
    x = image_variable(workload)
    with builder.function("main", [x]):
        with builder.dataflow():
            a = builder.emit(conv2d(workload, x, first.weights))
            b = builder.emit(conv2d(workload, x, second.weights))
            a = builder.emit(relax.op.add(a, constant(first.bias)))
            b = builder.emit(relax.op.add(b, constant(second.bias)))
            y = builder.emit_output(relax.op.nn.relu(relax.op.add(a, b)))
        builder.emit_func_output(y)
    result, (report,) = scheduled(builder.get(), algorithms=["indirect"])
    assert operators(result) == ["relax.call_dps_packed"] * 2
    assert [s.layer.workload and s.layer.workload.residual for s in report.selection.layers] == [
        False,
        True,
    ]
    exact, bound = reference(workload, first.x, first.weights, first.bias)
    other, its_bound = reference(workload, first.x, second.weights, second.bias)
    total = bound + its_bound + gamma(1) * (abs(exact) + abs(other) + bound + its_bound)
    y = run(result, TARGET, first.x)
    assert (np.abs(y - np.maximum(exact + other, 0)) <= total).all()


def test_read_by_others() -> None:
    """What somebody else reads is computed."""
    workload = layer(8, (6, 9), 3)
    case = Case.random(workload)
    builder = relax.BlockBuilder()
    x = image_variable(workload)
    with builder.function("main", [x]):
        with builder.dataflow():
            a = builder.emit(conv2d(workload, x, case.weights))
            b = builder.emit(relax.op.add(a, constant(case.bias)))
            c = builder.emit(relax.op.nn.relu(b))
            y = builder.emit_output(relax.op.concat([a, b, c], axis=3))
        builder.emit_func_output(y)
    result, _ = scheduled(builder.get(), algorithms=["indirect"])
    assert operators(result)[:2] == ["relax.call_dps_packed", "relax.add"]
    y = run(result, TARGET, case.x)
    a, b, c = np.split(y, 3, axis=-1)
    assert np.array_equal(b, a + case.bias)
    assert np.array_equal(c, np.maximum(b, 0))
    check(b, case)


@pytest.mark.parametrize(
    ("clips", "activation", "taken"),
    [
        ([(0, 6), (0, np.inf)], "relu6", 2),
        ([(0, np.inf), (0, 6), (0, 6)], "relu6", 3),
        ([(-1, 1), (0, 6)], "relu_n1_to_1", 1),
    ],
)
def test_a_clamp_behind_a_clamp(
    clips: list[tuple[float, float]], activation: str, taken: int
) -> None:
    workload = layer(8, (6, 9), 3)
    builder = relax.BlockBuilder()
    x = image_variable(workload)
    with builder.function("main", [x]):
        with builder.dataflow():
            y = builder.emit(conv2d(workload, x, Case.random(workload).weights))
            for least, most in clips:
                y = builder.emit(relax.op.clip(y, least, most))
            y = builder.emit_output(relax.op.negative(y))
        builder.emit_func_output(y)
    (found,) = relax_network.read("main", builder.get()["main"]).layers
    assert found.workload is not None
    assert (found.workload.activation, len(found.nodes)) == (activation, 1 + taken)


@pytest.mark.parametrize("is_divisor", [True, False])
def test_hard_swish(is_divisor: bool) -> None:
    """Behind ``x min(max(x + 3, 0), 6)``, a quotient by 6 makes it one, and one of 6 does not."""
    workload = layer(8, (6, 9), 3)
    six = relax.const(np.float32(6))
    builder = relax.BlockBuilder()
    x = image_variable(workload)
    with builder.function("main", [x]):
        with builder.dataflow():
            y = builder.emit(conv2d(workload, x, Case.random(workload).weights))
            gate = builder.emit(relax.op.add(y, relax.const(np.float32(3))))
            gate = builder.emit(relax.op.clip(gate, 0, 6))
            y = builder.emit(relax.op.multiply(y, gate))
            y = relax.op.divide(y, six) if is_divisor else relax.op.divide(six, y)
            y = builder.emit_output(y)
        builder.emit_func_output(y)
    (found,) = relax_network.read("main", builder.get()["main"]).layers
    assert found.workload is not None
    assert found.workload.activation == ("hard_swish" if is_divisor else "none")


# What is left


def unmatched(module: tvm.IRModule) -> list[str | None]:
    """The reasons why layers stay, in a module that the pass leaves as it is."""
    before = operators(module)
    result, reports = scheduled(module)
    assert operators(result) == before
    assert "external_mods" not in (result.attrs or {})
    return [selected.reason for report in reports for selected in report.selection.layers]


def one_conv2d(x: relax.Var, weights: Any, **attributes: Any) -> tvm.IRModule:
    builder = relax.BlockBuilder()
    parameters = [x, weights] if isinstance(weights, relax.Var) else [x]
    with builder.function("main", parameters):
        with builder.dataflow():
            y = builder.emit_output(relax.op.nn.conv2d(x, weights, **attributes))
        builder.emit_func_output(y)
    return builder.get()


def test_unmatched() -> None:
    nhwc = {"data_layout": "NHWC", "kernel_layout": "HWIO"}
    image = relax.Var("x", relax.TensorType((1, 8, 8, 4), "float32"))
    weights = np.ones((3, 3, 4, 5), np.float32)
    planes = relax.Var("x", relax.TensorType((1, 4, 8, 8), "float32"))
    (reason,) = unmatched(one_conv2d(planes, constant(weights.transpose(3, 2, 0, 1))))
    assert reason == "layout NCHW: only NHWC; relax.transform.ConvertLayout makes it so"
    computed = relax.Var("w", relax.TensorType((3, 3, 4, 5), "float32"))
    (reason,) = unmatched(one_conv2d(image, computed, **nhwc))
    assert reason == "weights are computed at run time"
    size = tvm.tirx.Var("n", "int64")
    open_image = relax.Var("x", relax.TensorType((1, size, 8, 4), "float32"))
    (reason,) = unmatched(one_conv2d(open_image, constant(weights), **nhwc))
    assert reason == "input shape is not known before the model runs"
    half = relax.Var("x", relax.TensorType((1, 8, 8, 4), "float16"))
    (reason,) = unmatched(one_conv2d(half, constant(weights.astype(np.float16)), **nhwc))
    assert reason == "float16 tensors: not supported yet"


def test_no_layers() -> None:
    x = relax.Var("x", relax.TensorType((2, 3), "float32"))
    y = relax.Var("y", relax.TensorType((3, 4), "float32"))
    builder = relax.BlockBuilder()
    with builder.function("main", [x, y]):
        with builder.dataflow():
            z = builder.emit_output(relax.op.matmul(x, y))  # of two computed matrices
        builder.emit_func_output(z)
    result, reports = scheduled(builder.get())
    assert reports == []
    assert operators(result) == ["relax.matmul"]


def test_limits() -> None:
    workload = layer(16, (32, 32), 3, activation="relu")
    case = Case.random(workload)
    module = chain_module([workload], [case.weights], [case.bias])
    _, (free,) = scheduled(module)
    _, (limited,) = scheduled(module, limits=Limits(workspace_bytes=0))
    assert free.kernels[0].plan.algorithm == "winograd"
    assert limited.kernels[0].workspace_bytes == 0
    with pytest.raises(LeanconvError, match="unknown algorithm 'fast'"):
        schedule_convolutions(HOST, algorithms=["fast"])(module)
    with pytest.raises(LeanconvError, match="unknown objective"):
        schedule_convolutions(HOST, objective="best")(module)


def test_records() -> None:
    """A record decides, as it does for a delegate."""
    workload = layer(16, (32, 32), 3, activation="relu")
    case = Case.random(workload)
    module = chain_module([workload], [case.weights], [case.bias])
    preset = PRESETS["x86-64-v4" if HOST.vector_bytes == 64 else "x86-64-v3"]
    simd = HOST if HOST.arch == "aarch64" else replace(HOST, name=preset.name)
    known: list[Record] = [
        record(workload, simd, "winograd", 2.0),
        record(workload, simd, "im2col", 1.0),
    ]
    result, (report,) = scheduled(module, simd, records=known)
    assert report.kernels[0].plan.algorithm == "im2col"
    assert report.selection.layers[0].kernels[0].tuning == "tuned"
    case.check(run(result, TARGET, case.x), report.kernels[0].plan)


# Pipelines


@pytest.mark.parametrize("pipeline", ["default", "cpu", "ours"])
def test_pipelines(pipeline: str) -> None:
    workload = layer(11, (5, 19), 3, activation="relu")
    case = Case.random(workload)
    result, (report,) = scheduled(chain_module([workload], [case.weights], [case.bias]))
    chosen: Any = pipeline
    if pipeline == "cpu":
        chosen = relax.get_default_pipeline(TARGET)
    elif pipeline == "ours":
        with TARGET:
            result = lower_to_calls(HOST)(lower_to_loops(HOST)(result))
        chosen = None
    y = run(result, TARGET, case.x, relax_pipeline=chosen)
    case.check(y, report.kernels[0].plan)


def test_inside_a_pipeline() -> None:
    """As one pass among others; kernels of equal layers are shared, those of functions are not."""
    workload = layer(9, (8, 8), 3, activation="relu")
    cases = [Case.random(workload, seed) for seed in (0, 1)]
    module = chain_module([workload, workload], [c.weights for c in cases], [c.bias for c in cases])
    other = chain_module([workload], [cases[0].weights], [cases[0].bias], name="other")
    module["other"] = other["other"]
    reports: list[FunctionReport] = []
    passes = [
        relax.transform.CanonicalizeBindings(),
        schedule_convolutions(HOST, report=reports.append),
        relax.transform.LegalizeOps(),
    ]
    result = tvm.transform.Sequential(passes)(module)
    names = {kernel.name for report in reports for kernel in report.kernels}
    assert {name.split("_lc_")[0] for name in names} == {"main", "other"}
    assert len(names) == 2
    machine = relax.VirtualMachine(tvm.compile(result, TARGET), tvm.cpu())
    y = machine["other"](tvm.runtime.tensor(cases[0].x)).numpy()
    kernel = next(k for r in reports for k in r.kernels if k.name.startswith("other"))
    cases[0].check(y, kernel.plan)


def test_other_libraries_stay() -> None:
    """Modules of other code generators that are there already."""
    workload = layer(5, (3, 4), 3)
    case = Case.random(workload)
    module = chain_module([workload], [case.weights], [case.bias])
    once, _ = scheduled(module)
    (library,) = once.attrs["external_mods"]
    twice, _ = scheduled(module.with_attr("external_mods", [library]))
    assert len(twice.attrs["external_mods"]) == 2


def test_export(tmp_path: Any) -> None:
    """A library on disk, linked by the toolchain that comes with the package."""
    workload = layer(9, (8, 8), 3, activation="relu")
    case = Case.random(workload)
    result, (report,) = scheduled(chain_module([workload], [case.weights], [case.bias]))
    path = tmp_path / "layer.so"

    def link(output: str, objects: Any, **_: Any) -> None:
        Toolchain.default().link_module(objects, tmp_path / output, HOST)

    tvm.compile(result, TARGET).export_library(str(path), fcompile=link)
    machine = relax.VirtualMachine(tvm.runtime.load_module(str(path)), tvm.cpu())
    case.check(machine["main"](tvm.runtime.tensor(case.x)).numpy(), report.kernels[0].plan)
