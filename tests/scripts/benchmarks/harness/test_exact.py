"""The scripts' float64 convolution against that of the tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from schedules.layer.workload import Conv2dWorkload
from scripts.benchmarks.harness import exact
from tests.support.reference import conv2d

LAYERS: dict[str, tuple[str, dict[str, Any]]] = {
    "valid": ("VALID", {"activation": "relu"}),
    "same": ("SAME", {"activation": "relu6"}),
    "stride": ("SAME", {"stride_height": 3, "stride_width": 2}),
    "dilation": ("VALID", {"dilation_height": 2, "dilation_width": 3}),
    "batch": ("VALID", {"batch": 3, "activation": "relu_n1_to_1"}),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("block_bytes", [1, 1000, 1 << 20])
def test_errors_of_known_outputs(
    name: str, block_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    padding, more = LAYERS[name]
    geometry: dict[str, Any] = {"in_height": 17, "in_width": 14, "in_channels": 5}
    workload = Conv2dWorkload.with_padding(
        padding, **geometry, out_channels=7, kernel_height=3, kernel_width=4, **more
    )
    random = np.random.default_rng(0)
    image = random.standard_normal(workload.input_shape, np.float32)
    weights = random.standard_normal(workload.weight_shape, np.float32)
    bias = random.standard_normal(workload.out_channels, np.float32)
    expected, _ = conv2d(workload, image, weights, bias)
    monkeypatch.setattr(exact, "BLOCK_BYTES", block_bytes)
    blocks = list(exact.blocks(workload, image, weights, bias))
    joined = np.concatenate([block for _, block in blocks], axis=1)
    np.testing.assert_allclose(joined, expected, rtol=0, atol=1e-12)
    assert (len(blocks) > 1) == (block_bytes <= 1000)

    rounded = expected.astype(np.float32)
    one_off, last_nan = rounded.copy(), rounded.copy()
    one_off[-1, -1, 2, 3] += 0.5
    last_nan[-1, -1, -1, -1] = np.nan
    outputs = {"rounded": rounded, "one_off": one_off, "last_nan": last_nan}
    errors = exact.max_errors(workload, image, weights, bias, outputs)
    assert 0 < errors["rounded"] <= np.spacing(np.abs(rounded).max())
    assert errors["one_off"] == pytest.approx(0.5, abs=1e-6)
    assert errors["last_nan"] == np.inf
