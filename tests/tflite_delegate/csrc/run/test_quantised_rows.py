"""Chains of integers that are computed row by row: to the last bit what XNNPACK computes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schedules.lower.memory import align
from schedules.target.simd import Simd
from tests.support.quantised_writer import QuantisedWriter
from tests.tflite_delegate.conftest import InterpreterApi, read_report, run
from tflite_delegate.build import Report, build
from tvmc.running.probe import Probe

#: The width of the first chain's output; it does not divide the second's.
ALGORITHMS = ("row_chain:columns=4", "auto")


def chains(dtype: str) -> bytes:
    """Three chains side by side, with borders, strides and channels of all kinds."""
    writer = QuantisedWriter(dtype, (1, 23, 29, 3))
    writer.layer(16, 3, 2)
    writer.layer(16, 3, depthwise=True)
    writer.layer(12)
    for block in ((13, 36, 3, 2), (13, 39, 5, 1), (20, 36, 7, 2)):
        writer.inverted(*block)
    ends = [(writer.image, writer.last)]
    # A residual from the image itself, and one around dense layers.
    image = writer.begin((1, 11, 10, 8))
    writer.inverted(8, 24)
    source = writer.last
    writer.layer(24, 3)
    writer.layer(8, 3)
    writer.plus(source)
    writer.layer(32)
    writer.layer(4)
    ends.append((image, writer.last))
    inputs, outputs = zip(*ends, strict=True)
    return writer.finish(list(inputs), list(outputs))


def block() -> bytes:
    """Residual blocks between two layers."""
    writer = QuantisedWriter("int8", (1, 21, 18, 3))
    writer.layer(20, 3, 2)
    writer.inverted(20, 28, 5)
    source = writer.last
    writer.layer(24, 3)
    writer.layer(20, 3)
    writer.plus(source)
    writer.layer(9)
    return writer.finish([writer.image], [writer.last])


def images_of(interpreter: Any) -> list[np.ndarray]:
    """Every code, as often as any other."""
    rng = np.random.default_rng(1)
    types = [(d["shape"], d["dtype"]) for d in interpreter.get_input_details()]
    return [rng.integers(np.iinfo(t).min, np.iinfo(t).max + 1, shape, t) for shape, t in types]


def check(found: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> None:
    for y, y_xnnpack in zip(found, expected, strict=True):
        np.testing.assert_array_equal(y, y_xnnpack)
        assert len(np.unique(y)) > 50


@pytest.fixture(scope="module", params=["int8", "uint8"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / f"{request.param}.tflite"
    path.write_bytes(chains(request.param))
    return path


@pytest.fixture(scope="module")
def built(model: Path) -> tuple[Path, Report]:
    library = model.with_suffix(".so")
    return library, build(model, library, Simd.named("host"), algorithms=ALGORITHMS)


@pytest.mark.parametrize("threads", [1, 3])
def test_rows_are_exact(
    built: tuple[Path, Report], model: Path, litert: InterpreterApi, threads: int
) -> None:
    library, report = built
    assert {layer.algorithm for layer in report.layers} == {"row_chain"}
    delegate = litert.load_delegate(str(library), {"num_threads": threads})
    ours, theirs = litert.open(model, delegate), litert.open(model, xnnpack=True)
    images = images_of(ours)
    check(run(ours, images), run(theirs, images))
    told = read_report(library, delegate)["layers"]
    assert sorted((len(node["layers"]), node["calls"]) for node in told) == [(7, 1), (12, 1)]
    promised = {threads * align(layer.workspace_bytes) for layer in report.layers}
    assert {node["workspace_bytes"] for node in told} == promised


def test_blocks_in_place_are_exact(tmp_path: Path, litert: InterpreterApi) -> None:
    model, library = tmp_path / "block.tflite", tmp_path / "block.so"
    model.write_bytes(block())
    report = build(
        model, library, Simd.named("host"), algorithms=("row_chain:in_place=yes", "auto")
    )
    names = [layer.algorithm for layer in report.layers]
    assert names == ["indirect", *["row_chain"] * 5, "indirect"]
    theirs = litert.open(model, xnnpack=True)
    for threads in (1, 4):
        ours = litert.open(model, litert.load_delegate(str(library), {"num_threads": threads}))
        images = images_of(ours)
        check(run(ours, images), run(theirs, images))
        if threads == 1:
            assert align(Probe(ours).arena_bytes()) == align(report.peak_bytes)
    # Of another size, plain C computes them, from a copy of what it writes over.
    for interpreter in (ours, theirs):
        interpreter.resize_tensor_input(0, (2, 19, 26, 3))
        interpreter.allocate_tensors()
    images = images_of(ours)
    check(run(ours, images), run(theirs, images))
