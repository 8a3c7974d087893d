"""Chains that are computed row by row: against LiteRT's own kernels, and where bytes are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from schedules.lower.memory import align
from schedules.target.simd import Simd
from scripts.benchmarks.harness.bound import network_bound
from tests.support.tflite_writer import Conv, ModelWriter
from tests.tflite_delegate.conftest import InterpreterApi, random_inputs, read_report, run
from tflite_delegate.build import Report, build
from tvmc.running.interpreter import Session, runtime

#: The width of the first chain's output; it does not divide the second's.
ALGORITHMS = ("row_chain:columns=4", "auto")


class Writer(ModelWriter):
    """A model of one chain, layer by layer."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape, self.seed = shape, 0
        self.image = self.last = self.tensor(shape)

    def layer(self, channels: int, size: int = 1, stride: int = 1, depthwise: bool = False) -> None:
        """A convolution; pointwise ones that make fewer channels have no activation."""
        self.seed += 1
        narrows = size == 1 and channels < self.shape[3]
        conv = Conv(
            channels,
            (size, size),
            (stride, stride),
            activation="none" if narrows else "relu6",
            depthwise=depthwise,
            seed=self.seed,
        )
        self.last, self.shape = self.conv(self.last, self.shape, conv)

    def inverted(self, channels: int, wide: int, size: int = 3, stride: int = 1) -> None:
        """An inverted residual block."""
        source, shape = self.last, self.shape
        self.layer(wide)
        self.layer(wide, size, stride, depthwise=True)
        self.layer(channels)
        if shape == self.shape:
            self.last = self.node("ADD", [self.last, source], shape)


def chains() -> bytes:
    """Two chains side by side, with borders, strides and channels of all kinds."""
    writer = Writer((1, 37, 29, 3))
    writer.layer(16, 3, 2)
    writer.layer(16, 3, depthwise=True)
    writer.layer(12)
    for block in ((13, 72, 3, 2), (13, 78, 5, 1), (13, 52, 3, 1), (20, 76, 3, 2)):
        writer.inverted(*block)
    first = writer.image, writer.last
    # A residual from the image itself, and one around dense layers.
    writer.shape = (1, 11, 10, 8)
    writer.image = writer.last = writer.tensor(writer.shape)
    writer.inverted(8, 48)
    source, shape = writer.last, writer.shape
    writer.layer(24, 3)
    writer.layer(8, 3)
    writer.last = writer.node("ADD", [writer.last, source], shape)
    writer.layer(32)
    writer.layer(4)
    return writer.finish([first[0], writer.image], [first[1], writer.last])


def check(
    outputs: Sequence[np.ndarray], model: Path, report: Report, inputs: Sequence[np.ndarray]
) -> None:
    """Fail unless the outputs are those of LiteRT's own kernels, up to rounding."""
    session = Session(model, runtime("litert"), xnnpack=False)
    expected = session.run(inputs)
    bound = network_bound(model, report.to_dict(), session, expected)
    for y, y_builtin in zip(outputs, expected, strict=True):
        assert np.all(abs(y - y_builtin) <= bound)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "chains.tflite"
    path.write_bytes(chains())
    return path


@pytest.fixture(scope="module")
def built(model: Path) -> tuple[Path, Report]:
    library = model.with_name("rows.so")
    return library, build(model, library, Simd.named("host"), algorithms=ALGORITHMS)


@pytest.mark.parametrize("threads", [1, 3])
def test_against_builtin(
    built: tuple[Path, Report], model: Path, litert: InterpreterApi, threads: int
) -> None:
    library, report = built
    assert {layer.algorithm for layer in report.layers} == {"row_chain"}
    delegate = litert.load_delegate(str(library), {"num_threads": threads})
    interpreter = litert.open(model, delegate)
    inputs = random_inputs(interpreter)
    check(run(interpreter, inputs), model, report, inputs)
    told = read_report(library, delegate)["layers"]
    assert sorted((len(node["layers"]), node["calls"]) for node in told) == [(7, 1), (15, 1)]
    promised = {threads * align(layer.workspace_bytes) for layer in report.layers}
    assert {node["workspace_bytes"] for node in told} == promised


def test_other_shapes(built: tuple[Path, Report], model: Path, litert: InterpreterApi) -> None:
    """Layer by layer, by the kernel for any shape, and back."""
    interpreter = litert.open(model, litert.load_delegate(str(built[0])))
    plain = litert.open(model)
    shapes = [detail["shape"] for detail in interpreter.get_input_details()]
    for rows in (3, 0):
        for graph in (interpreter, plain):
            for detail, shape in zip(graph.get_input_details(), shapes, strict=True):
                graph.resize_tensor_input(detail["index"], shape + [0, rows, 0, 0])
            graph.allocate_tensors()
        inputs = random_inputs(interpreter)
        expected = run(plain, inputs)
        for y, y_builtin in zip(run(interpreter, inputs), expected, strict=True):
            np.testing.assert_allclose(y, y_builtin, rtol=0, atol=2e-5)
