"""Layers of floats with int8 weights in Relax: exact by our kernels, and by TVM without them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import tvm
from tvm import relax

from schedules.kernel.hybrid.scales import ChannelScales
from schedules.layer.network import CONV, DENSE, DEPTHWISE
from schedules.layer.workload import Conv2dWorkload
from schedules.plan.planner import Limits, plan_kernel
from schedules.relax.hybrid import hybrid_layer
from schedules.relax.pipeline import lower_to_calls, lower_to_loops
from schedules.relax.transform import FunctionReport, schedule_convolutions
from schedules.target.simd import PRESETS
from tests.schedules.algorithms.test_algorithms import HOST
from tests.schedules.algorithms.test_hybrid import LAYERS, layer
from tests.support.hybrid import HybridCase
from tests.support.reference import conv2d

#: One rule of each way to find ranges, to round and to make floats; no residual.
RULES = ("xnn_qd8_fused", "xnn_qd8_fused_rows", "xnn_qp8", "builtin_depthwise", "builtin_symmetric")
#: Products of floats.
FLOATS = [
    replace(layer(5, (7, 19), 3, "", activation="relu6"), batch=2),
    layer(6, (12, 12), 3, "", groups=12),
    Conv2dWorkload(1, 2, 40, 13, 1, 1, weight_dtype="int8"),
]


def kind_of(workload: Conv2dWorkload) -> str:
    if workload.is_depthwise:
        return DEPTHWISE
    return DENSE if workload.in_height == 1 else CONV


def own(workload: Conv2dWorkload, values: np.ndarray) -> np.ndarray:
    """A fully-connected layer's are matrices."""
    return values.reshape(values.shape[2:]) if kind_of(workload) == DENSE else values


def module_of(cases: Sequence[HybridCase]) -> tvm.IRModule:
    """Every layer with an input and an output of its own."""
    builder = relax.BlockBuilder()
    parameters = [
        relax.Var(f"x{i}", relax.TensorType(own(case.workload, case.x).shape, "float32"))
        for i, case in enumerate(cases)
    ]
    with builder.function("main", parameters):
        with builder.dataflow():
            results = [
                builder.emit(
                    hybrid_layer(
                        builder,
                        kind_of(case.workload),
                        case.workload,
                        x,
                        case.weights,
                        case.bias,
                        case.scales,
                        HOST,
                    )
                )
                for case, x in zip(cases, parameters, strict=True)
            ]
            outputs = builder.emit_output(relax.Tuple(results))
        builder.emit_func_output(outputs)
    return builder.get()


def check(case: HybridCase, y: np.ndarray) -> None:
    """Exact, but for products of floats, which are within their bound."""
    if case.workload.is_dynamic:
        case.check(y)
        return
    weights = case.weights * case.scales[:, None, None, None]
    layer = replace(case.workload, weight_dtype="float32")
    expected, bound = conv2d(layer, case.x, weights, case.bias)
    assert (np.abs(y.reshape(expected.shape) - expected) <= bound).all()


def run(module: tvm.IRModule, cases: Sequence[HybridCase]) -> None:
    calls = lower_to_calls(HOST)(lower_to_loops(HOST)(module))
    executable = tvm.compile(calls, tvm.target.Target(HOST.target), relax_pipeline=None)
    machine = relax.VirtualMachine(executable, tvm.cpu())
    inputs = (tvm.runtime.tensor(own(case.workload, case.x)) for case in cases)
    for case, y in zip(cases, machine["main"](*inputs), strict=True):
        check(case, y.numpy())


def test_kernels_and_tvm_are_exact() -> None:
    layers = [*(LAYERS[rule] for rule in RULES), *FLOATS]
    cases = [HybridCase.random(workload, seed) for seed, workload in enumerate(layers)]
    module = module_of(cases)
    run(module, cases)
    reports: list[FunctionReport] = []
    result = schedule_convolutions(HOST, report=reports.append)(module)
    (report,) = reports
    found = report.selection.network.layers
    assert [layer.workload for layer in found] == layers
    assert all(selected.kernels for selected in report.selection.layers)
    assert [layer.weight_bytes for layer in found] == [case.weights.size for case in cases]
    run(result, cases)


@pytest.mark.parametrize("target", ["cortex-a72", "x86-64-v4", "cortex-a76"])
def test_constants_are_what_kernels_read(target: str) -> None:
    simd = PRESETS[target]
    for rule in RULES:
        case = HybridCase.random(LAYERS[rule])
        limits = Limits(leaves_to_xnnpack=False)
        plan = plan_kernel(case.workload.with_batch(1), simd, limits=limits)
        scales = ChannelScales(case.scales)
        assert scales.packable(case.weights, plan.packed, simd) is case.weights
        block = scales.packed(case.weights, case.bias, plan.packed, simd)
        assert np.array_equal(block, case.arguments(plan)["b"])
