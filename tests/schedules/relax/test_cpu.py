"""CPU schedules of what is left to TVM, against numpy in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax, tirx

from schedules.relax.pipeline import lower_to_calls, lower_to_loops
from schedules.target.simd import Simd
from tests.schedules.algorithms.test_algorithms import HOST
from tests.support.reference import EPSILON, gamma
from tests.support.relax_layers import run

TARGET = tvm.target.Target(HOST.target)
Build = Callable[[relax.BlockBuilder, relax.Var], relax.Expr]


def module(shape: tuple[int, ...], build: Build) -> tvm.IRModule:
    x = relax.Var("x", relax.TensorType(shape, "float32"))
    builder = relax.BlockBuilder()
    with builder.function("main", [x]):
        with builder.dataflow():
            y = builder.emit_output(build(builder, x))
        builder.emit_func_output(y)
    return builder.get()


def lowered(source: tvm.IRModule, simd: Simd = HOST) -> tuple[tvm.IRModule, list[str]]:
    """Scheduled loops, and each function's text."""
    with TARGET:
        loops = lower_to_loops(simd)(source)
    functions = [f for _, f in loops.functions_items() if isinstance(f, tirx.PrimFunc)]
    return loops, [str(function) for function in functions]


def result(loops: tvm.IRModule, x: np.ndarray) -> np.ndarray:
    with TARGET:
        calls = lower_to_calls(HOST)(loops)
    return run(calls, TARGET, x, relax_pipeline=None)


def uniform(*shape: int, spread: float = 4.0) -> np.ndarray:
    return np.random.default_rng(0).uniform(-spread, spread, shape).astype(np.float32)


def test_elementwise_operators_are_one_loop() -> None:
    def build(builder: relax.BlockBuilder, x: relax.Var) -> relax.Expr:
        y = builder.emit(relax.op.add(x, relax.const(np.float32(3))))
        y = builder.emit(relax.op.clip(y, 0, 6))
        return builder.emit(relax.op.multiply(x, y))

    loops, (text,) = lowered(module((1, 5, 7, 19), build))
    assert text.count("T.sblock(") == 2  # the root and one block
    assert "alloc_buffer" not in text
    x = uniform(1, 5, 7, 19)
    exact = x.astype(np.float64)
    exact = exact * np.clip(exact + 3, 0, 6)
    # The sum rounds relative to at most 6, and the product relative to itself.
    assert (np.abs(result(loops, x) - exact) <= gamma(2) * np.maximum(abs(x) * 6, 1)).all()


@pytest.mark.parametrize("channels", [1, 3, 16, 33])
@pytest.mark.parametrize("kind", ["max_pool2d", "avg_pool2d"])
def test_pooling(kind: str, channels: int) -> None:
    def build(builder: relax.BlockBuilder, x: relax.Var) -> relax.Expr:
        pool = getattr(relax.op.nn, kind)
        return builder.emit(pool(x, (3, 2), (2, 2), layout="NHWC"))

    loops, texts = lowered(module((2, 9, 8, channels), build))
    (text,) = [text for text in texts if "init" in text]
    # Channels are the innermost loop, of the sum and of what it begins with.
    assert text.index("_init") < text.index("_update")
    x = uniform(2, 9, 8, channels)
    windows = np.lib.stride_tricks.sliding_window_view(x.astype(np.float64), (3, 2), axis=(1, 2))
    windows = windows[:, ::2, ::2]
    if kind == "max_pool2d":
        assert np.array_equal(result(loops, x), windows.max((-2, -1)))
    else:
        bound = gamma(7) * abs(windows).mean((-2, -1))
        assert (np.abs(result(loops, x) - windows.mean((-2, -1))) <= bound).all()


def test_mean_of_an_image() -> None:
    loops, _ = lowered(module((1, 7, 6, 40), lambda b, x: b.emit(relax.op.mean(x, [1, 2]))))
    x = uniform(1, 7, 6, 40)
    exact = x.astype(np.float64)
    assert (
        np.abs(result(loops, x) - exact.mean((1, 2))) <= gamma(43) * abs(exact).mean((1, 2))
    ).all()


def test_softmax() -> None:
    """Its sum is over the last axis, whose elements lie side by side."""
    loops, _ = lowered(module((3, 17), lambda b, x: b.emit(relax.op.nn.softmax(x))))
    x = uniform(3, 17)
    powers = np.exp(x.astype(np.float64) - x.max(-1, keepdims=True))
    exact = powers / powers.sum(-1, keepdims=True)
    # The argument of the exponential is off by a rounding of up to 8, which is its relative error.
    bound = 2 * exact * (8 * EPSILON + gamma(17 + 8))
    assert (np.abs(result(loops, x) - exact) <= bound).all()


def test_threads_share_large_functions_only() -> None:
    def build(builder: relax.BlockBuilder, x: relax.Var) -> relax.Expr:
        return builder.emit(relax.op.abs(x))

    two = Simd.from_target({**HOST.target, "num-cores": 2})
    _, (small,) = lowered(module((1, 8, 8, 8), build), two)
    loops, (large,) = lowered(module((1, 64, 64, 64), build), two)
    _, (alone,) = lowered(
        module((1, 64, 64, 64), build), Simd.from_target({**HOST.target, "num-cores": 1})
    )
    assert "T.parallel" not in small
    assert "T.parallel" in large
    assert "T.parallel" not in alone
    x = uniform(1, 64, 64, 64)
    assert np.array_equal(result(loops, x), abs(x))


OTHERS: dict[str, tuple[Callable[..., relax.Expr], Callable[[np.ndarray], np.ndarray]]] = {
    "no loop nest": (lambda x: relax.op.cumsum(x, 1), lambda x: x.cumsum(1)),
    "calls a library": (
        lambda x: relax.op.topk(x, 2, ret_type="values"),
        lambda x: -np.sort(-x, -1)[..., :2],
    ),
    "two results": (lambda x: relax.op.argmax(x, 1), lambda x: x.argmax(1)),
    "transposed": (lambda x: relax.op.permute_dims(x), lambda x: x.T),
    "to a scalar": (lambda x: relax.op.max(x), lambda x: x.max()),
    "first axis": (lambda x: relax.op.min(x, [0]), lambda x: x.min(0)),
    "joined": (lambda x: relax.op.concat([x, x], 2), lambda x: np.concatenate([x, x], 2)),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_operators(name: str) -> None:
    operator, reference = OTHERS[name]
    loops, _ = lowered(module((4, 6, 8), lambda b, x: b.emit(operator(x))))
    # Whole numbers, whose sums are exact.
    x = np.random.default_rng(0).permutation(4 * 6 * 8).reshape(4, 6, 8).astype(np.float32)
    assert np.array_equal(result(loops, x), reference(x))


def test_sigmoid() -> None:
    """Over all of its range, and what is no number.

    With t = x log2 e, which is off by gamma(2) |t|, e^-x is off by ln 2 times that, relatively; the
    polynomial by 2e-9 and its roundings, the first of which counts in full and all later ones by
    their share of |t| <= 1/2. 1 + e^-x and the quotient round once each.
    """
    loops, (text,) = lowered(module((1, 4001), lambda b, x: b.emit(relax.op.sigmoid(x))))
    assert "exp(" not in text  # nothing that calls the C library
    x = np.linspace(-100, 100, 4001, dtype=np.float32).reshape(1, -1)
    exact = 1 / (1 + np.exp(-x.astype(np.float64)))
    power_error = gamma(2) * abs(x.astype(np.float64)) + 2e-9 + gamma(6)
    # Beyond 126 ln 2, the smallest normal number stands for what is smaller.
    bound = exact * ((1 - exact) * power_error + gamma(2)) + 2.0**-126
    assert (np.abs(result(loops, x) - exact) <= bound).all()
    special: Any = np.zeros((1, 4001), np.float32)
    special[0, :3] = np.nan, np.inf, -np.inf
    y = result(loops, special)
    assert np.isnan(y[0, 0])
    assert y[0, 1] == 1
    assert abs(y[0, 2]) <= 2.0**-125
    assert (y[0, 3:] == 0.5).all()
