"""Layers of int8 and uint8 that add a residual: to the last bit what XNNPACK computes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from schedules.target.simd import Simd
from tests.support.operator_cases import fused
from tests.support.tflite_schema import Quantization
from tests.support.tflite_writer import ModelWriter
from tests.tflite_delegate.conftest import InterpreterApi, read_report, run
from tflite_delegate.read import model as tflite_model
from tflite_delegate.rules import with_rules

SHAPE = (1, 9, 10, 12)
#: Scales of what a layer computes, of the residual and of the sum, and zero points of the last two.
ORDINARY = (0.9, 0.7, 1.3), (11, -4)
#: With a ratio of scales that XNNPACK adds in another way.
FAR_APART = (0.9, 0.0005, 1.3), (11, -4)


def summed(
    writer: ModelWriter,
    dtype: str,
    kernel: int,
    activations: tuple[str, str] = ("none", "none"),
    codes: tuple[Sequence[float], Sequence[int]] = ORDINARY,
    shape: tuple[int, ...] = SHAPE,
    is_own: bool = False,
) -> tuple[list[int], int]:
    """A convolution and an ADD: both inputs, and the output.

    If the residual ``is_own``, the ADD reads what a MAX_POOL_2D makes of the input, and another
    one reads the sum: it may lie where the residual was, which nobody else reads.
    """
    scales, zeros = codes
    added, channels = 128 * (dtype == "uint8"), shape[3]
    rng = np.random.default_rng(kernel)

    def image(scale: float, zero: int) -> int:
        return writer.tensor(shape, dtype, quantization=Quantization(scale, zero + added))

    weights = rng.integers(-127, 128, (channels, kernel, kernel, channels)) + added
    bias = rng.integers(-3000, 3000, channels).astype(np.int32)
    reduction = kernel * kernel * channels
    weight_scale = 40 / (73 * 73 * 0.05 * reduction**0.5)
    x, residual = image(0.05, -9), image(scales[1], zeros[0])
    y, total = image(scales[0], 4), image(scales[2], zeros[1])
    constants = [
        writer.constant(weights.astype(dtype), Quantization(weight_scale, added)),
        writer.constant(bias, Quantization(0.05 * weight_scale, 0)),
    ]
    window = {"padding": 0, "strideH": 1, "strideW": 1}
    pooling = {"filterHeight": 1, "filterWidth": 1, **window, **fused("none")}
    addend, result = residual, total
    if is_own:
        addend, result = image(scales[1], zeros[0]), image(scales[2], zeros[1])
        writer.add("MAX_POOL_2D", [residual], [addend], **pooling)
    writer.add("CONV_2D", [x, *constants], [y], **window, **fused(activations[0]))
    writer.add("ADD", [addend, y], [total], **fused(activations[1]))
    if is_own:
        writer.add("MAX_POOL_2D", [total], [result], **pooling)
    return [x, residual], result


def model(shape: tuple[int, ...] = SHAPE) -> bytes:
    """Sums of both types with and without activations, and last one that is no kernel's."""
    writer = ModelWriter()
    ends = [
        summed(writer, "int8", 1, shape=shape),
        summed(writer, "int8", 3, ("relu6", "relu"), shape=shape),
        summed(writer, "uint8", 1, ("none", "relu"), shape=shape),
        summed(writer, "int8", 1, codes=FAR_APART, shape=shape),
    ]
    return writer.finish([x for both, _ in ends for x in both], [y for _, y in ends])


def check(interpreters: Sequence[Any], shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(3)
    details = interpreters[0].get_input_details()
    inputs = [
        rng.integers(np.iinfo(d["dtype"]).min, np.iinfo(d["dtype"]).max + 1, shape, d["dtype"])
        for d in details
    ]
    for interpreter in interpreters:
        for detail in details:
            interpreter.resize_tensor_input(detail["index"], shape)
    found, expected = (run(interpreter, inputs) for interpreter in interpreters)
    for y, y_litert in zip(found, expected, strict=True):
        np.testing.assert_array_equal(y, y_litert)
        assert len(np.unique(y)) > 50


def test_sums_are_exact(litert: InterpreterApi, build_delegate: Callable[..., Path]) -> None:
    """By kernels, and by the one in plain C that serves other shapes."""
    content = model()
    library = build_delegate(content)
    delegate = litert.load_delegate(str(library))
    interpreters = [litert.open(content, delegate), litert.open(content, xnnpack=True)]
    for shape in (SHAPE, (1, 4, 5, 12)):
        check(interpreters, shape)
    report = read_report(library, delegate)
    assert [len(entry["nodes"]) for entry in report["layers"][:4]] == [2, 2, 2, 1]


def test_sums_lie_where_residuals_were(
    litert: InterpreterApi, build_delegate: Callable[..., Path]
) -> None:
    """Each element of a residual is read before it is written over, also in tiles that overhang."""
    writer, shape = ModelWriter(), (1, 9, 10, 21)
    ends = [
        summed(writer, dtype, kernel, shape=shape, is_own=True)
        for dtype in ("int8", "uint8")
        for kernel in (1, 3)
    ]
    content = writer.finish([x for both, _ in ends for x in both], [y for _, y in ends])
    delegate = litert.load_delegate(str(build_delegate(content)), {"num_threads": 2})
    interpreters = [litert.open(content, delegate), litert.open(content, xnnpack=True)]
    for other in (shape, (1, 4, 5, 21)):
        check(interpreters, other)
    # The residual is named first; the others are the layer's input, weights and bias.
    nodes = [n for n in interpreters[0]._get_ops_details() if len(n["inputs"]) == 4]
    assert len(nodes) == len(ends)
    for node in nodes:
        residual, total = node["inputs"][0], node["outputs"][0]
        addresses = {interpreters[0].tensor(t)().ctypes.data for t in (residual, total)}
        assert len(addresses) == 1


def test_only_sums_of_xnnpack_are_merged(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(model())
    read = tflite_model.read(path)
    assert [layer.nodes for layer in read.layers] == [(0, 1), (2, 3), (4, 5), (6,)]
    simd = Simd.named("cortex-a76")
    for rounding, nodes in (("xnnpack", (2, 3)), ("builtin", (2,))):
        layer = with_rules(read, rounding, simd).layers[1]
        assert layer.nodes == nodes
        assert layer.workload is not None
        assert layer.workload.residual == (rounding == "xnnpack")
        assert layer.output == read.steps[nodes[-1]].outputs[0]
