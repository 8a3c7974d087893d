"""The logistic function and swish beside float64, at every exponent of their argument."""

from __future__ import annotations

import numpy as np
import tvm
from tvm import te

from schedules.kernel.sigmoid import sigmoid, swish
from schedules.target.simd import Simd
from tests.support.reference import EPSILON, gamma


def computed(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both, compiled for this machine."""
    x = te.placeholder(values.shape, "float32", name="x")
    outputs = [
        te.compute(values.shape, lambda i: sigmoid(x[i]), name="sigmoid"),
        te.compute(values.shape, lambda i: swish(x[i]), name="swish"),
    ]
    target = tvm.target.Target(Simd.named("host").target)
    function = tvm.compile(te.create_prim_func([x, *outputs]), target)
    results = [tvm.runtime.tensor(np.zeros_like(values)) for _ in outputs]
    function(tvm.runtime.tensor(values), *results)
    return results[0].numpy(), results[1].numpy()


def test_errors() -> None:
    magnitudes = np.concatenate([np.logspace(-30, 2.1, 4001), np.linspace(0, 100, 8001)])
    x = np.concatenate([magnitudes, -magnitudes]).astype(np.float32)
    got, product = computed(x)
    exact = 1 / (1 + np.exp(-x.astype(np.float64)))
    smallest = 2.0**-126
    assert (abs(got - exact) <= (8 + 2 * abs(x)) * EPSILON * exact + smallest).all()
    assert (abs(product - x * exact) <= gamma(10) * abs(x) + 128 * smallest).all()


def test_what_is_no_number() -> None:
    """As x times the logistic function of TFLite has it."""
    got, product = computed(np.array([np.inf, -np.inf, np.nan, 0.0, -0.0], np.float32))
    assert got[0] == 1
    assert got[1] == 0
    assert np.isnan(got[2])
    assert product[0] == np.inf
    assert np.isnan(product[1])
    assert np.isnan(product[2])
    assert (product[3:] == 0).all()
