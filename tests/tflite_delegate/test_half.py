"""Delegates that compute in float16, on the emulated board, against float64 and its bound."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from schedules.errors import LeanconvError
from schedules.plan.planner import Limits
from schedules.target.simd import PRESETS
from scripts.board.board import Board
from scripts.board.count import invoke
from tests.support.half_networks import HalfNetwork
from tests.support.hybrid_models import HybridLayer
from tests.support.reference import conv2d
from tests.support.tflite_writer import Conv, ModelWriter
from tflite_delegate.build import build
from tflite_delegate.selection import select
from tflite_delegate.targeted import read_for

SHAPE = (2, 9, 11, 6)
#: One of each kind of kernel, of channels that fill no vector, and weights of both types.
CONVS = (
    Conv(21, (3, 3), (2, 2), activation="relu6"),
    Conv(6, depthwise=True, activation="relu"),
    Conv(17, (1, 1), weight_type="float16"),
    Conv(12, (3, 3), groups=2, padding="VALID"),
)
#: Two in a row: nobody else reads what is between them, which is never float32.
FIRST, SECOND = Conv(10, (1, 1), activation="relu6"), Conv(9, (3, 3), (2, 2))


def fan() -> bytes:
    """A model of layers that all read its input, and of two in a row that do; with all outputs."""
    writer = ModelWriter()
    first = writer.tensor(SHAPE)
    outputs = [writer.conv(first, SHAPE, conv)[0] for conv in CONVS]
    between, shape = writer.conv(first, SHAPE, FIRST)
    outputs.append(writer.conv(between, shape, SECOND)[0])
    return writer.finish([first], outputs)


def in_half(
    conv: Conv, x: np.ndarray, error: np.ndarray | float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """What ``conv`` makes of an image that is off by at most ``error``, and how far that is off."""
    workload = replace(conv.workload(x.shape), dtype="float16")
    weights, bias = conv.constants(x.shape[-1])
    expected, _ = conv2d(workload, x, weights, bias)
    _, bound = conv2d(workload, abs(x) + error, weights, bias)
    passed, _ = conv2d(replace(workload, activation="none"), 0 * x + error, abs(weights), None)
    return expected, bound + passed


def check(outputs: list[np.ndarray], x: np.ndarray) -> None:
    """Each output is within the bound of float16 arithmetic on an image of float16."""
    image = x.astype(np.float16).astype(np.float64)
    expected = [in_half(conv, image) for conv in CONVS]
    expected.append(in_half(SECOND, *in_half(FIRST, image)))
    for output, (exact, bound) in zip(outputs, expected, strict=True):
        assert output.shape == exact.shape
        assert (abs(output - exact) <= bound).all()


def test_layers_of_float32_are_computed_in_float16(arm_board: Board, tmp_path: Path) -> None:
    model, library = tmp_path / "fan.tflite", tmp_path / "fan.so"
    model.write_bytes(fan())
    # Where Winograd's algorithm does, weights are transformed before they are rounded.
    algorithms = ("winograd", "auto")
    report = build(model, library, PRESETS["cortex-a76"], algorithms=algorithms, precision="fp16")
    assert report.layers[3].algorithm == "winograd"
    assert [layer.precision for layer in report.layers] == ["float16"] * (len(CONVS) + 2)
    assert all(layer.geometry.endswith("float16") for layer in report.layers)
    assert all(layer.expected_error and layer.expected_error > 1e-4 for layer in report.layers)
    x = np.random.default_rng(1).standard_normal(SHAPE, np.float32)
    run = invoke(arm_board, model, mode="builtin", cpu="cortex-a76", delegate=library, inputs=[x])
    check(run.outputs, x)
    # Of the two in a row, each copies one of its tensors, of as many images as it takes at once.
    *_, first, second = report.layers
    images = first.workspace_bytes / (9 * 11 * 6 * 2), second.workspace_bytes / (5 * 6 * 9 * 2)
    assert {*images} <= {1.0, 2.0}
    told = {layer.index: layer.workspace_bytes for layer in report.layers}
    assert told == {layer["node"]: layer["workspace_bytes"] for layer in run.report["layers"]}
    assert all(layer["generic_calls"] == 0 for layer in run.report["layers"])
    json.dumps(report.to_dict())


@pytest.mark.parametrize("target", ["x86-64-v4", "cortex-a72"])
def test_other_processors_are_refused(target: str, tmp_path: Path) -> None:
    model = tmp_path / "fan.tflite"
    model.write_bytes(fan())
    with pytest.raises(LeanconvError, match=f"{target} has no arithmetic of float16"):
        build(model, tmp_path / "fan.so", PRESETS[target], precision="fp16")


@pytest.mark.parametrize(
    ("metadata", "cpu", "precision", "dtype"),
    [
        (b"fp16accfp16", "cortex-a76", None, "float16"),
        (b"fp16bf16accfp16", "cortex-a76", None, "float16"),
        (b"fp16accfp32", "cortex-a76", None, "float32"),  # sums of float32
        (b"bf16accfp16", "cortex-a76", None, "float32"),
        (b"", "cortex-a76", None, "float32"),
        (b"fp16accfp16", "cortex-a72", None, "float32"),
        (b"fp16accfp16", "cortex-a76", "fp32", "float32"),
    ],
)
def test_a_models_metadata_may_allow_float16(
    metadata: bytes, cpu: str, precision: str | None, dtype: str, tmp_path: Path
) -> None:
    writer, path = ModelWriter(), tmp_path / "model.tflite"
    first = writer.tensor(SHAPE)
    output, _ = writer.conv(first, SHAPE, FIRST)
    told = {"min_runtime_version": b"1.0", "reduced_precision_support": metadata}
    path.write_bytes(writer.finish([first], [output], metadata=told))
    (layer,) = read_for(path, PRESETS[cpu], precision=precision).layers
    assert layer.workload is not None
    assert layer.workload.dtype == dtype


def test_layers_of_several_types_are_no_block(tmp_path: Path) -> None:
    """Hybrid layers stay float32; a kernel of a whole block would have to convert in between."""
    writer, path = ModelWriter(), tmp_path / "model.tflite"
    first, shape = writer.tensor((1, 6, 6, 8)), (1, 6, 6, 8)
    hybrid = HybridLayer(shape, Conv(8, (1, 1))).add_behind(writer, first)
    image, _ = writer.conv(hybrid, shape, Conv(8, depthwise=True))
    image, _ = writer.conv(image, shape, Conv(8, (1, 1), seed=1))
    path.write_bytes(writer.finish([first], [image]))
    simd = PRESETS["cortex-a76"]
    single, half = (read_for(path, simd, precision=name) for name in ("fp32", "fp16"))
    types = [layer.workload and layer.workload.dtype for layer in half.layers]
    assert types == ["float32", "float16", "float16"]
    assert 0 in {place for chain in single.chains for place in chain}
    assert 0 not in {place for chain in half.chains for place in chain}
    select(half, simd, ("auto",), Limits(None, None, 1 << 20))


def of_halves() -> bytes:
    """A convolution all of whose tensors are float16 in the model, without a DEQUANTIZE."""
    writer, conv = ModelWriter(), CONVS[0]
    first = writer.tensor(SHAPE, "float16")
    output, _ = writer.conv(first, SHAPE, conv)
    for index in writer.operators[-1].inputs[1:] + [output]:
        tensor = writer.tensors[index]
        tensor.type = writer.tensors[first].type
        if tensor.buffer:
            data = np.frombuffer(bytes(writer.buffers[tensor.buffer].data), np.float32)
            writer.buffers[tensor.buffer].data = data.astype(np.float16).tobytes()
    return writer.finish([first], [output])


@pytest.mark.parametrize("cpu", ["cortex-a76", "cortex-a72"])
def test_tensors_of_the_model_may_be_float16(cpu: str, arm_board: Board, tmp_path: Path) -> None:
    """Computed in float16 where the processor can, else in float32 and rounded."""
    model, library = tmp_path / "halves.tflite", tmp_path / "halves.so"
    model.write_bytes(of_halves())
    report = build(model, library, PRESETS[cpu])
    (layer,) = report.layers
    assert layer.precision == ("float16" if cpu == "cortex-a76" else "float32")
    x = np.random.default_rng(2).standard_normal(SHAPE).astype(np.float16)
    run = invoke(arm_board, model, mode="builtin", cpu=cpu, delegate=library, inputs=[x])
    (told,) = run.report["layers"]
    assert told["workspace_bytes"] == layer.workspace_bytes
    (output,) = run.outputs
    assert output.dtype == np.float16
    exact, bound = in_half(CONVS[0], x.astype(np.float64))
    assert (abs(output - exact) <= bound).all()


def test_residuals_may_be_of_another_type_than_the_sum(arm_board: Board, tmp_path: Path) -> None:
    """The model's caller reads one sum, whose residual is float16, and gives the other's."""
    writer, conv = ModelWriter(), Conv(6, (1, 1))
    first, given = writer.tensor(SHAPE), writer.tensor(SHAPE)
    image, _ = writer.conv(first, SHAPE, conv)
    for operand in (image, given):
        y, _ = writer.conv(image, SHAPE, conv)
        total = writer.node("ADD", [y, operand], SHAPE, fusedActivationFunction="none")
    last, _ = writer.conv(total, SHAPE, conv)
    sums = [operator.outputs[0] for operator in writer.operators if len(operator.inputs) == 2]
    model, library = tmp_path / "sums.tflite", tmp_path / "sums.so"
    model.write_bytes(writer.finish([first, given], [sums[0], last]))
    report = build(model, library, PRESETS["cortex-a76"], precision="fp16")
    assert [layer.op for layer in report.layers] == ["CONV_2D"] * 4
    assert report.between == {}, "both sums are merged"
    x, r = np.random.default_rng(3).standard_normal((2, *SHAPE)).astype(np.float16)
    inputs = [x.astype(np.float32), r.astype(np.float32)]
    run = invoke(
        arm_board, model, mode="builtin", cpu="cortex-a76", delegate=library, inputs=inputs
    )
    image_of = in_half(conv, x.astype(np.float64))
    product, error = in_half(conv, *image_of)
    first_sum = product + image_of[0], error + image_of[1]
    second = product + r, error
    for output, (exact, bound) in zip(
        run.outputs, (first_sum, in_half(conv, *second)), strict=True
    ):
        assert (abs(output - exact) <= bound + 2.0**-11 * (abs(exact) + bound)).all()


@pytest.mark.parametrize(
    ("cpu", "seeds"),
    [
        ("cortex-a76", (1, 2, 113)),
        *(
            pytest.param(cpu, range(first, first + 25), marks=pytest.mark.slow)
            for cpu in ("cortex-a76", "cortex-a710")
            for first in (100, 125, 150, 175)
        ),
    ],
)
def test_random_networks_are_within_their_bounds(
    cpu: str, seeds: Sequence[int], arm_board: Board, tmp_path: Path
) -> None:
    """Layers, blocks and operators in between, many of which keep their tensors in float16."""
    writer = ModelWriter()
    networks = [HalfNetwork(writer, seed) for seed in seeds]
    outputs = [(seed, y) for seed, net in zip(seeds, networks, strict=True) for y in net.outputs]
    model, library = tmp_path / "networks.tflite", tmp_path / "networks.so"
    content = writer.finish([n.first.tensor for n in networks], [y.tensor for _, y in outputs])
    model.write_bytes(content)
    report = build(model, library, PRESETS[cpu], precision="fp16")
    assert all(layer.precision == "float16" for layer in report.layers)
    images = [network.image for network in networks]
    run = invoke(arm_board, model, mode="builtin", cpu=cpu, delegate=library, inputs=images)
    told = {layer.index: layer.workspace_bytes for layer in report.layers}
    found = {layer["node"]: layer["workspace_bytes"] for layer in run.report["layers"]}
    assert found == {node: told[node] for node in found}  # a block has one entry
    for (seed, value), y in zip(outputs, run.outputs, strict=True):
        beyond = ~(abs(y - value.exact) <= value.error)
        assert not beyond.any(), (seed, value.tensor, int(beyond.sum()), y.size)
