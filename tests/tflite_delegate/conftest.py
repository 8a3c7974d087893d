"""Interpreters to test against, and delegates built once a session."""

from __future__ import annotations

import ctypes
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schedules.plan.planner import Limits
from schedules.store import digest
from schedules.target.simd import Simd
from tflite_delegate.build import build
from tflite_delegate.rules import DEFAULT as DEFAULT_ROUNDING


@dataclass(frozen=True)
class InterpreterApi:
    """The Python interface of one TFLite distribution."""

    name: str
    interpreter: Callable[..., Any]
    load_delegate: Callable[..., Any]
    builtin_only: Any

    def open(
        self, model: Path | bytes, delegate: Any = None, xnnpack: bool = False, **options: Any
    ) -> Any:
        """An interpreter without default delegates, unless ``xnnpack``, before allocation."""
        source = (
            {"model_content": model} if isinstance(model, bytes) else {"model_path": str(model)}
        )
        if not xnnpack:
            options["experimental_op_resolver_type"] = self.builtin_only
        delegates = None if delegate is None else [delegate]
        return self.interpreter(**source, experimental_delegates=delegates, **options)


def _litert() -> InterpreterApi:
    from ai_edge_litert import interpreter as litert

    return InterpreterApi(
        "litert",
        litert.Interpreter,
        litert.load_delegate,
        litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )


def _tensorflow() -> InterpreterApi:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
    import tensorflow as tf

    resolvers = tf.lite.experimental.OpResolverType
    return InterpreterApi(
        "tensorflow",
        tf.lite.Interpreter,
        tf.lite.experimental.load_delegate,
        resolvers.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )


@pytest.fixture(scope="session", params=["litert", "tensorflow"])
def interpreter_api(request: pytest.FixtureRequest) -> InterpreterApi:
    """Each TFLite that the delegate has to work in. TensorFlow is slow to import."""
    return {"litert": _litert, "tensorflow": _tensorflow}[request.param]()


@pytest.fixture(scope="session")
def litert() -> InterpreterApi:
    """LiteRT alone, for what does not depend on the distribution."""
    return _litert()


@pytest.fixture(scope="session")
def build_delegate(made_once: Callable[..., Path]) -> Callable[..., Path]:
    """Build a delegate for a model, given as a path or as bytes, once a session."""

    def build_once(
        model: Path | bytes,
        algorithms: Sequence[str] = ("auto",),
        target: str = "host",
        rounding: str = DEFAULT_ROUNDING,
        embeds: bool = False,
    ) -> Path:
        content = model if isinstance(model, bytes) else model.read_bytes()
        name = "" if isinstance(model, bytes) else model.name
        key = digest(content, name, target, rounding, str(embeds), *algorithms)[:16]

        def make(folder: Path) -> None:
            folder.mkdir()
            source = model
            if isinstance(source, bytes):
                source = folder / f"model_{key}.tflite"
                source.write_bytes(content)
            options: dict[str, Any] = {"algorithms": algorithms, "rounding": rounding}
            options["limits"] = Limits(embeds=embeds)
            build(source, folder / f"lib{key}.so", Simd.named(target), **options)

        return made_once(f"built/{key}", make) / f"lib{key}.so"

    return build_once


def read_report(library: Path, delegate: Any) -> dict[str, Any]:
    """What ``leanconv_report`` of a loaded delegate says."""
    function = ctypes.CDLL(str(library)).leanconv_report
    function.restype = ctypes.c_size_t
    function.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]
    pointer = delegate._get_native_delegate_pointer() if delegate is not None else None
    size = function(pointer, None, 0) + 1
    buffer = ctypes.create_string_buffer(size)
    assert function(pointer, buffer, size) == size - 1
    report = json.loads(buffer.value)
    assert isinstance(report, dict)
    return report


def random_inputs(interpreter: Any, seed: int = 0) -> list[np.ndarray]:
    """Values in [-1, 1) or any bytes for every input of an interpreter, in their current shapes."""
    rng = np.random.default_rng(seed)

    def draw(detail: dict[str, Any]) -> np.ndarray:
        if detail["dtype"] in (np.int8, np.uint8):
            return rng.integers(0, 256, detail["shape"], np.uint8).view(detail["dtype"])
        return rng.uniform(-1, 1, detail["shape"]).astype(np.float32)

    return [draw(detail) for detail in interpreter.get_input_details()]


def run(interpreter: Any, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Allocate if need be, run once, and copy the outputs."""
    interpreter.allocate_tensors()
    for detail, value in zip(interpreter.get_input_details(), inputs, strict=True):
        interpreter.set_tensor(detail["index"], value)
    interpreter.invoke()
    return [
        interpreter.get_tensor(detail["index"]).copy()
        for detail in interpreter.get_output_details()
    ]


@pytest.fixture(scope="session")
def library(build_delegate: Callable[..., Path]) -> Path:
    """Serves the convolutions in front of every operator that is tested."""
    from tests.tflite_delegate.csrc.operators.operator_cases import convolutions

    return build_delegate(convolutions())
