"""Quantised layers in Relax functions: exact, by our kernels and by TVM without them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import tvm
from tvm import relax

from schedules.kernel.quantised.quantisation import Quantisation
from schedules.layer.network import CONV, DENSE, DEPTHWISE, Layer
from schedules.layer.words import pairs_overflow
from schedules.layer.workload import Conv2dWorkload
from schedules.plan.planner import Limits, plan_kernel
from schedules.relax import network as relax_network
from schedules.relax.pipeline import lower_to_calls, lower_to_loops
from schedules.relax.quantised import quantised_layer
from schedules.relax.transform import FunctionReport, schedule_convolutions
from schedules.target.simd import PRESETS
from tests.schedules.algorithms.test_algorithms import HOST, layer
from tests.support.quantised import QuantisedCase

UINT8_RULES = ("xnn_rndnu16", "xnn_rndnu_wrapping", "xnn_rndnu", "xnn_fp32")
#: Channels and sizes divide by no tile.
LAYERS = [
    layer(7, (5, 19), 3, activation="relu"),
    layer(9, (3, 18), 3, stride=2, activation="relu6"),
    layer(6, (24, 21), 1, batch=2, activation="relu_n1_to_1"),
    layer(7, (19, 19), 3, groups=19, stride=2),
    layer(5, (8, 16), 3, groups=8, batch=2, activation="relu"),
    Conv2dWorkload(1, 3, 40, 13, 1, 1),
    layer(6, (12, 10), 3, activation="relu6"),
    layer(5, (6, 12), 3, groups=6),
]


def quantised(workload: Conv2dWorkload, number: int) -> Conv2dWorkload:
    """Of either type, by one of the rules that XNNPACK has."""
    dtype = "uint8" if number % 2 else "int8"
    rounding = "xnn_fp32" if dtype == "int8" else UINT8_RULES[number // 2]
    return replace(workload, dtype=dtype, weight_dtype=dtype, rounding=rounding)


def cases() -> list[QuantisedCase]:
    """Layers with zero points at the ends and in the middle."""
    zeros = (-128, 3, 127)
    return [
        QuantisedCase.random(
            quantised(workload, seed), HOST, seed, zeros[seed % 3], zeros[seed % 2]
        )
        for seed, workload in enumerate(LAYERS)
    ]


def quantisation_of(case: QuantisedCase) -> Quantisation:
    return Quantisation.of(
        case.workload,
        (case.scales, case.weight_zero),
        (float(case.input_scale), case.input_zero),
        (float(case.output_scale), case.output_zero),
    )


def kind_of(workload: Conv2dWorkload) -> str:
    if workload.is_depthwise:
        return DEPTHWISE
    return DENSE if workload.in_height == 1 else CONV


def module_of(cases: Sequence[QuantisedCase]) -> tvm.IRModule:
    """Every layer with an input and an output of its own."""
    builder = relax.BlockBuilder()
    kinds = [kind_of(case.workload) for case in cases]
    parameters = [
        relax.Var(f"x{i}", relax.TensorType(_own(kind, case.x).shape, case.workload.dtype))
        for i, (kind, case) in enumerate(zip(kinds, cases, strict=True))
    ]
    with builder.function("main", parameters):
        with builder.dataflow():
            results = [
                builder.emit(
                    quantised_layer(
                        builder,
                        kind,
                        case.workload,
                        x,
                        case.weights,
                        case.bias,
                        quantisation_of(case),
                    )
                )
                for kind, case, x in zip(kinds, cases, parameters, strict=True)
            ]
            outputs = builder.emit_output(relax.Tuple(results))
        builder.emit_func_output(outputs)
    return builder.get()


def _own(kind: str, values: np.ndarray) -> np.ndarray:
    """A fully-connected layer's are matrices."""
    return values.reshape(values.shape[2:]) if kind == DENSE else values


def layers_of(module: tvm.IRModule) -> Sequence[Layer]:
    functions = {variable.name_hint: function for variable, function in module.functions_items()}
    return relax_network.read("main", module["main"], functions).layers


def check(module: tvm.IRModule, cases: Sequence[QuantisedCase]) -> None:
    calls = lower_to_calls(HOST)(lower_to_loops(HOST)(module))
    executable = tvm.compile(calls, tvm.target.Target(HOST.target), relax_pipeline=None)
    machine = relax.VirtualMachine(executable, tvm.cpu())
    inputs = [_own(kind_of(case.workload), case.x) for case in cases]
    for case, y in zip(cases, machine["main"](*map(tvm.runtime.tensor, inputs)), strict=True):
        case.check(y.numpy())


def test_kernels_and_tvm_are_exact() -> None:
    layers = cases()
    module = module_of(layers)
    check(module, layers)
    reports: list[FunctionReport] = []
    result = schedule_convolutions(HOST, report=reports.append)(module)
    relax.analysis.well_formed(result)
    (report,) = reports
    found = report.selection.network.layers
    assert [layer.workload for layer in found] == [case.workload for case in layers]
    assert all(selected.kernels for selected in report.selection.layers)
    assert [layer.weight_bytes for layer in found] == [case.weights.size for case in layers]
    check(result, layers)


@pytest.mark.parametrize("target", ["cortex-a72", "x86-64-v4", "znver4"])
def test_constants_are_what_kernels_read(target: str) -> None:
    simd = PRESETS[target]
    for case in (replace(case, simd=simd) for case in cases()):
        limits = Limits(leaves_to_xnnpack=False)
        packed = plan_kernel(case.workload.with_batch(1), simd, limits=limits).packed
        own = quantisation_of(case)
        weights = own.packable(case.weights, packed, simd)
        assert np.array_equal(weights, case.packable_weights(packed))
        block = own.packed(case.weights, case.bias, packed, simd)
        assert np.array_equal(block, case.constants(packed))


@pytest.mark.parametrize(("value", "is_merged"), [(3, True), (0, False)])
def test_pad_in_front(value: int, is_merged: bool) -> None:
    """With the code of zero, and with another one."""
    inner = quantised(layer(9, (5, 7), 3, "VALID"), 0)
    padded = replace(inner, in_height=7, in_width=6, pad_top=2, pad_left=1, pad_right=2)
    case = QuantisedCase.random(inner, HOST, input_zero=3)
    builder, x = relax.BlockBuilder(), relax.Var("x", relax.TensorType(padded.input_shape, "int8"))
    with builder.function("main", [x]):
        with builder.dataflow():
            image = builder.emit(relax.op.nn.pad(x, [0, 0, 2, 0, 1, 2, 0, 0], pad_value=value))
            own = (case.weights, case.bias, quantisation_of(case))
            y = builder.emit_output(quantised_layer(builder, CONV, inner, image, *own))
        builder.emit_func_output(y)
    (found,) = layers_of(builder.get())
    assert found.workload == (padded if is_merged else inner)


def test_pairs() -> None:
    """Vectors are of 16, whatever the channels are."""
    workload = layer(1, (24, 2), 1)
    weights = np.zeros((2, 1, 1, 24), np.int8)
    assert not pairs_overflow(weights, workload)
    weights[1, 0, 0, 8] = weights[1, 0, 0, 17] = -128
    assert not pairs_overflow(weights, workload)
    weights[1, 0, 0, 16] = -128
    assert pairs_overflow(weights, workload)


def test_a_constant_input_is_left_to_tvm() -> None:
    case = cases()[5]
    builder = relax.BlockBuilder()
    with builder.function("main", []):
        with builder.dataflow():
            y = builder.emit_output(
                quantised_layer(
                    builder,
                    DENSE,
                    case.workload,
                    relax.const(_own(DENSE, case.x)),
                    case.weights,
                    case.bias,
                    quantisation_of(case),
                )
            )
        builder.emit_func_output(y)
    (found,) = layers_of(builder.get())
    assert (found.workload, found.reason) == (None, "its input is a constant")
