"""Expected outputs against the tests' own reference, and what the tolerance lets through."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from schedules.errors import LeanconvError
from schedules.kernel.hybrid.scales import ChannelScales
from schedules.kernel.quantised.quantisation import Quantisation
from schedules.layer.block import Block, workload_from_text
from schedules.layer.rounding import DYNAMIC_ROUNDINGS
from schedules.layer.workload import Conv2dWorkload
from schedules.plan.planner import plan_kernel
from schedules.target.simd import Simd
from schedules.tuning.measure.problem import Problem
from tests.support.blocks import chain
from tests.support.hybrid import RULES, HybridCase
from tests.support.kernels import alone, of_group
from tests.support.quantised import QuantisedCase
from tests.support.reference import conv2d

SIMD = Simd.named("x86-64-v3")
LAYERS = [
    "9x7x5->6 k3x3 s2x2 p1,0,1,1 relu",
    "9x7x4->6 k3x2 d2x3 p2,2,3,3 relu6",
    "6x6x8->16 k3x3 p1,1,1,1 g8 hard_swish",
    "5x5x4->3 k3x3 of3 relu_n1_to_1",
    "5x5x4->4 k1x1 relu6 + relu",
    "5x5x4->4 k1x1 hard_swish + hard_swish",
    "1x1x300->7 k1x1",
]
BLOCKS = [
    "6x6x4->12 k1x1 relu6 | 6x6x12->12 k3x3 p1,1,1,1 g12 relu6 | 6x6x12->4 k1x1 +",
    "8x8x6->6 k3x3 s2x2 p0,1,0,1 g6 hard_swish | 4x4x6->9 k1x1 + relu",
]


@pytest.mark.parametrize("text", LAYERS)
def test_a_layer(text: str) -> None:
    workload = Conv2dWorkload.from_text(text)
    problem = Problem.of(workload)
    x = of_group(problem.x, workload.group_of)
    y = alone(problem.expected, workload.group_of)
    assert (problem.residual is not None) == workload.residual
    assert problem.x_channel == (workload.group_of // 2) * workload.in_channels
    assert problem.y_channel == (workload.group_of // 2) * workload.out_channels
    exact, bound = conv2d(workload, x, problem.weights[0], problem.biases[0], problem.residual)
    assert (abs(y - exact) <= bound).all()


@pytest.mark.parametrize(
    "text", ["9x7x5->6 k3x3 s2x2 p1,0,1,1 relu", "6x6x8->8 k3x3 p1,1,1,1 g8", "5x5x4->3 k3x3 of3"]
)
def test_a_layer_of_integers(text: str) -> None:
    workload = Conv2dWorkload.from_text(f"{text} int8 wint8 xnn_fp32")
    problem = Problem.of(workload)
    own = problem.quantisation
    assert isinstance(own, Quantisation) and problem.tolerance(plan_kernel(workload, SIMD)) == 0
    x, (weights,), (bias,) = of_group(problem.x, workload.group_of), problem.weights, problem.biases
    case = QuantisedCase(
        workload, x, weights, bias, np.float32(1), own.input_zero, own.ratios[0], np.float32(1),
        own.output_zero, SIMD,
    )  # fmt: skip
    case.check(of_group(problem.expected, workload.group_of))
    assert len(np.unique(case.expected)) > 20
    for part in plan_kernel(workload, SIMD).parts:
        (constants,) = problem.constants([part], SIMD)
        assert (constants == case.constants(part)).all()


@pytest.mark.parametrize("rule", DYNAMIC_ROUNDINGS)
def test_a_hybrid_layer(rule: str) -> None:
    """Whatever finds the int8: outputs are within the tolerance of those by the rule itself."""
    text = "5x6x7->9 k1x1" if RULES[rule][2] else "5x6x7->9 k3x3 p1,1,1,1"
    workload = Conv2dWorkload.from_text(f"{text} relu + wint8 {rule}")
    if "symmetric" in rule and "asymmetric" not in rule:
        with pytest.raises(LeanconvError, match="is not measured: its int8 depend on its rule"):
            Problem.of(workload)
        return
    problem = Problem.of(workload)
    scales = problem.quantisation
    assert isinstance(scales, ChannelScales)
    (weights,), (bias,) = problem.weights, problem.biases
    case = HybridCase(workload, problem.x, problem.residual, weights, scales.values, bias)
    plan = plan_kernel(workload, SIMD)
    difference = np.abs(problem.expected - case.expected).max()
    assert difference <= problem.tolerance(plan) < 1e-4
    (constants,) = problem.constants(plan.parts, SIMD)
    assert np.array_equal(constants, case.arguments(plan)["b"])


def test_a_layer_in_float16() -> None:
    workload = Conv2dWorkload.from_text("5x5x4->4 k3x3 p1,1,1,1 relu6 + float16")
    problem = Problem.of(workload)
    tensors = (problem.x, problem.residual, problem.expected)
    assert {t.dtype.name for t in tensors if t is not None} == {"float16"}
    (weights,), (bias,) = problem.weights, problem.biases
    assert np.array_equal(weights.astype(np.float16), weights)
    exact, bound = conv2d(workload, problem.x, weights, bias, problem.residual)
    assert (abs(problem.expected - exact) <= bound).all()
    error = problem.tolerance(plan_kernel(workload, Simd.named("cortex-a76")))
    assert 1e-3 < error < 1


def test_rules_without_known_outputs_are_refused() -> None:
    with pytest.raises(LeanconvError, match="only int8 rounded by xnn_fp32 is measured"):
        Problem.of(Conv2dWorkload.from_text("5x5x4->3 k3x3 int8 wint8 double"))


@pytest.mark.parametrize("text", BLOCKS)
def test_a_block(text: str) -> None:
    block = workload_from_text(text)
    assert isinstance(block, Block)
    problem = Problem.of(block)
    exact, bound = chain(block, problem.x, problem.weights, problem.biases, problem.residual)
    assert (abs(problem.expected - exact) <= bound).all()


def test_a_residual_is_the_input_of_a_block_where_it_can_be() -> None:
    first, second = (Problem.of(workload_from_text(text)) for text in BLOCKS)
    assert first.residual is first.x
    assert second.residual is not None
    assert second.residual.shape == second.expected.shape


def test_always_the_same_for_a_seed() -> None:
    workload = Conv2dWorkload.from_text(LAYERS[4])
    first, again, other = (Problem.of(workload, seed) for seed in (1, 1, 2))
    assert (first.expected == again.expected).all()
    assert (first.expected != other.expected).any()


def test_many_channels_are_taken_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    workload = Conv2dWorkload.from_text(LAYERS[0])
    whole = Problem.of(workload).expected
    monkeypatch.setattr("schedules.tuning.measure.problem.CHUNK_ELEMENTS", 10)
    np.testing.assert_allclose(Problem.of(workload).expected, whole, rtol=1e-6)


@pytest.mark.parametrize("text", [*LAYERS, *BLOCKS])
def test_one_product_less_is_not_tolerated(text: str) -> None:
    workload = workload_from_text(text)
    problem = Problem.of(workload)
    tolerance = problem.tolerance(plan_kernel(workload, SIMD))
    reference = problem.expected
    for weights in problem.weights:
        # The first channel at the centre of every kernel, of one layer after the other.
        place = (slice(None), weights.shape[1] // 2, weights.shape[2] // 2, 0)
        value = weights[place].copy()
        weights[place] = 0
        damaged: np.ndarray = of_group(problem.x, workload.calls)
        for layer, w, b in zip(workload.layers, problem.weights, problem.biases, strict=True):
            added = problem.residual if layer.residual else None
            damaged, _ = conv2d(layer, damaged, w, b, added)
        weights[place] = value
        difference = abs(of_group(reference, workload.calls) - damaged).max()
        assert difference > 1000 * tolerance


def test_the_tolerance_follows_the_expected_error() -> None:
    workload = Conv2dWorkload.from_text("14x14x64->64 k3x3 p1,1,1,1")
    problem = Problem.of(workload)
    plan = plan_kernel(workload, SIMD, "im2col")
    tolerance = problem.tolerance(plan)
    worse = problem.tolerance(replace(plan, expected_error=10 * plan.expected_error))
    assert 5 * tolerance < worse < 10 * tolerance
    # Sums in single precision are within it, and those of rounded inputs are not.
    x, weights = (values.astype(np.float16) for values in (problem.x, problem.weights[0]))
    rough, _ = conv2d(workload, x, weights, problem.biases[0])
    assert abs(problem.expected - rough).max() > tolerance
    assert tolerance < 1e-3
