"""Layers of int8 whose weights the delegate transforms: to the last bit what XNNPACK computes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.support.operator_models import inputs_of, model
from tests.tflite_delegate.conftest import InterpreterApi
from tests.tflite_delegate.csrc.kernels.test_quantised import VALID, check, layer, window


def test_transformed_weights_are_exact(
    litert: InterpreterApi, build_delegate: Callable[..., Path]
) -> None:
    cases = [
        layer("CONV_2D", (1, 9, 11, 16), (24, 3, 3, 16), "relu6", options=window()),
        layer("CONV_2D", (2, 7, 6, 13), (7, 3, 3, 13), least=-128, options=window(VALID)),
        layer("CONV_2D", (1, 6, 5, 70), (17, 2, 3, 70), zeros=(127, -128), options=window()),
    ]
    content = model(cases, litert.open)
    library = build_delegate(content, algorithms=("winograd",))
    report = check(litert, library, content, inputs_of(cases))
    assert [entry["algorithm"] for entry in report["layers"]] == ["winograd"] * len(cases)
