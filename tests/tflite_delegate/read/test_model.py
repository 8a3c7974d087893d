"""Reading .tflite files: the right layers, the right reasons, and no file that breaks it."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from schedules.errors import LeanconvError
from schedules.layer.workload import Conv2dWorkload
from tests.support.tflite_writer import Conv, ModelWriter, chain, single_conv
from tflite_delegate.read.model import Layer, Model, read


def read_bytes(folder: Path, content: bytes) -> Model:
    path = folder / "model.tflite"
    path.write_bytes(content)
    return read(path)


def only_layer(folder: Path, content: bytes) -> Layer:
    (layer,) = read_bytes(folder, content).layers
    return layer


def test_trained_resnet(trained_models: Path) -> None:
    layers = read(trained_models / "resnet8_float.tflite").layers
    assert [layer.op for layer in layers] == ["CONV_2D"] * 9 + ["FULLY_CONNECTED"]
    assert [layer.index for layer in layers] == [0, 1, 2, 4, 5, 6, 8, 9, 10, 14]
    assert layers[3].geometry == "conv3x3 s2 32x32x16->32 relu"
    assert layers[3].workload == Conv2dWorkload.with_padding(
        "SAME", in_height=32, in_width=32, in_channels=16, out_channels=32, kernel_height=3,
        kernel_width=3, stride_height=2, stride_width=2, activation="relu",
    )  # fmt: skip
    assert layers[3].weight_bytes == 32 * 3 * 3 * 16 * 4
    assert layers[3].macs == 16 * 16 * 32 * 3 * 3 * 16
    assert layers[-1].geometry == "dense 128->10"
    assert layers[-1].workload == Conv2dWorkload(1, 1, 128, 10, 1, 1)
    # The second layer of a block takes in the ADD behind it, and its activation.
    assert [layer.nodes for layer in layers[:4]] == [(0,), (1,), (2, 3), (4,)]


@pytest.mark.parametrize(
    ("name", "rules"),
    [
        ("resnet8_int8", {"xnn_fp32"}),
        ("mobilenet_96_int8", {"xnn_fp32"}),
        ("dscnn_int8", {"xnn_fp32"}),
        ("dscnn_hybrid", {"builtin_asymmetric"}),
    ],
)
def test_layers_with_int8_weights_are_read(
    trained_models: Path, name: str, rules: set[str]
) -> None:
    layers = read(trained_models / f"{name}.tflite").layers
    convolutions = [layer.workload for layer in layers if layer.op == "CONV_2D"]
    assert {workload and workload.rounding for workload in convolutions} == rules


def test_depthwise_geometry(trained_models: Path) -> None:
    layers = read(trained_models / "mobilenet_96_float.tflite").layers
    assert [layer.op for layer in layers].count("DEPTHWISE_CONV_2D") == 13
    assert layers[3].geometry == "dwconv3x3 s2 48x48x16 relu"
    assert layers[3].macs == 24 * 24 * 16 * 9
    assert layers[3].weight_bytes == 9 * 16 * 4


@pytest.mark.parametrize("weight_type", ["float32", "float16"])
@pytest.mark.parametrize("dynamic_batch", [False, True])
@pytest.mark.parametrize(
    "conv",
    [
        Conv(8),
        Conv(5, (7, 1), (2, 1), (1, 1), "VALID", "relu6"),
        Conv(3, (5, 5), (3, 3), (2, 2), "SAME", "relu_n1_to_1"),
        Conv(1, (1, 1), bias=False),
    ],
)
def test_geometry(tmp_path: Path, conv: Conv, dynamic_batch: bool, weight_type: str) -> None:
    conv = Conv(**{**vars(conv), "weight_type": weight_type})
    shape = (1, 13, 11, 6)
    layer = only_layer(tmp_path, single_conv(shape, conv, dynamic_batch))
    assert layer.reason is None
    assert layer.workload == conv.workload(shape)
    size = {"float32": 4, "float16": 2}[weight_type]
    assert layer.weight_bytes == np.prod(layer.workload.weight_shape) * size


def test_constants_that_layers_read_as_they_are_stored_are_held_by_nobody(tmp_path: Path) -> None:
    shape, conv = (1, 8, 8, 4), Conv(6, weight_type="float16")
    path = tmp_path / "model.tflite"
    path.write_bytes(single_conv(shape, conv))
    assert sorted(read(path).sizes.values()) == [0, 0, 8 * 8 * 4 * 4, 8 * 8 * 6 * 4]


def test_unknown_image_size(tmp_path: Path) -> None:
    writer = ModelWriter()
    x = writer.tensor((1, 1, 1, 3), signature=(1, -1, -1, 3))
    y, _ = writer.conv(x, (1, 1, 1, 3), Conv(4))
    layer = only_layer(tmp_path, writer.finish([x], [y]))
    assert layer.workload is None
    assert layer.reason == "input shape is not known before the model runs"


@pytest.mark.parametrize("weight_type", ["float32", "float16"])
def test_groups(tmp_path: Path, weight_type: str) -> None:
    conv = Conv(12, groups=4, weight_type=weight_type)
    layer = only_layer(tmp_path, single_conv((1, 8, 8, 8), conv))
    assert layer.reason is None
    assert layer.workload == conv.workload((1, 8, 8, 8))
    narrow = " float16 weights" * (weight_type == "float16")
    assert layer.geometry == f"conv3x3 g4 8x8x8->12{narrow}"
    assert layer.macs == 8 * 8 * 12 * 9 * 2


@pytest.mark.parametrize(("outputs", "depth"), [(12, 3), (9, 2)])
def test_groups_that_do_not_divide_the_channels(tmp_path: Path, outputs: int, depth: int) -> None:
    writer = ModelWriter()
    x = writer.tensor((1, 8, 8, 8))
    constants = [writer.constant(np.ones((outputs, 3, 3, depth), np.float32)), -1]
    y, _ = writer.conv(x, (1, 8, 8, 8), Conv(outputs), constants=constants)
    layer = only_layer(tmp_path, writer.finish([x], [y]))
    assert layer.workload is None
    assert layer.reason in (
        "malformed node: 8 channels, weights for 3",
        "8 -> 9 channels do not divide into 4 groups",
    )


def test_weights_computed_at_run_time(tmp_path: Path) -> None:
    writer = ModelWriter()
    x, w = writer.tensor((1, 8, 8, 4)), writer.tensor((6, 3, 3, 4))
    y, _ = writer.conv(x, (1, 8, 8, 4), Conv(6), constants=[w, -1])
    layer = only_layer(tmp_path, writer.finish([x, w], [y]))
    assert layer.reason == "weights are computed at run time"


def test_unsupported_activation(tmp_path: Path) -> None:
    layer = only_layer(tmp_path, single_conv((1, 8, 8, 4), Conv(6, activation="tanh")))
    assert layer.reason == "fused activation is not supported"


def test_incomplete_weights(tmp_path: Path) -> None:
    writer = ModelWriter()
    x = writer.tensor((1, 8, 8, 4))
    w = writer.tensor((6, 3, 3, 4), data=np.zeros(10, np.float32))
    y, _ = writer.conv(x, (1, 8, 8, 4), Conv(6), constants=[w, -1])
    layer = only_layer(tmp_path, writer.finish([x], [y]))
    assert layer.reason == "weights are incomplete"


def test_kernel_larger_than_the_image(tmp_path: Path) -> None:
    writer = ModelWriter()
    x = writer.tensor((1, 4, 4, 2))
    w = writer.constant(np.zeros((3, 5, 5, 2), np.float32))
    y, _ = writer.conv(x, (1, 8, 8, 2), Conv(3, (5, 5), padding="VALID"), constants=[w, -1])
    layer = only_layer(tmp_path, writer.finish([x], [y]))
    assert layer.reason is not None
    assert "does not fit" in layer.reason


def test_no_convolutions(tmp_path: Path) -> None:
    writer = ModelWriter()
    x, y = writer.tensor((1, 4)), writer.tensor((1, 4))
    writer.operator(schema.BuiltinOperator.RELU, [x], [y])
    assert read_bytes(tmp_path, writer.finish([x], [y])).layers == ()


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(LeanconvError, match="does not exist"):
        read(tmp_path / "missing.tflite")


def test_directory(tmp_path: Path) -> None:
    with pytest.raises(LeanconvError, match="is a directory"):
        read(tmp_path)


def test_null_character_in_the_name() -> None:
    with pytest.raises(LeanconvError, match="cannot be read"):
        read("a\0b.tflite")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"x", "not a .tflite model"),
        (b"hello, this is no model at all", "not a .tflite model"),
        (b"\x1c\0\0\0TFL3", "is damaged: it refers to bytes behind its end, as a file"),
        (b"\xff\xff\xff\xffTFL3" + bytes(100), "is damaged"),
    ],
)
def test_not_a_model(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(LeanconvError, match=message):
        read_bytes(tmp_path, content)


def test_every_truncation_of_a_small_model(tmp_path: Path) -> None:
    whole = chain((1, 8, 8, 3), [Conv(4, weight_type="float16"), Conv(5)])
    for size in range(len(whole)):
        read_or_refuse(tmp_path, whole[:size])


def mutations(models: list[bytes], count: int) -> list[bytes]:
    """Damaged models: flipped bytes, cut ends, overwritten and moved slices."""
    rng = np.random.default_rng(20)
    results = []
    for number in range(count):
        content = bytearray(models[number % len(models)])
        # Structure is at the end of these files, weights before it: damage both.
        first = 0 if rng.random() < 0.3 else max(len(content) - 20000, 0)
        kind = rng.integers(4)
        if kind == 0:
            for position in rng.integers(first, len(content), rng.integers(1, 60)):
                content[position] ^= int(rng.integers(1, 256))
        elif kind == 1:
            del content[int(rng.integers(len(content))) :]
        else:
            size = int(rng.integers(1, 400))
            start = int(rng.integers(first, len(content) - size))
            source = int(rng.integers(len(content) - size))
            junk = content[source : source + size] if kind == 2 else rng.bytes(size)
            content[start : start + size] = junk
        results.append(bytes(content))
    return results


def read_or_refuse(folder: Path, content: bytes) -> bool:
    """Whether a model was read; anything but an orderly refusal fails the test."""
    try:
        model = read_bytes(folder, content)
    except LeanconvError as error:
        assert "\n" not in str(error)
        return False
    for layer in model.layers:
        assert (layer.workload is None) != (layer.reason is None)
    return True


@pytest.mark.parametrize("count", [600, pytest.param(4000, marks=pytest.mark.slow)])
def test_mutated_models(count: int, trained_models: Path, tmp_path: Path) -> None:
    models = [path.read_bytes() for path in sorted(trained_models.glob("*.tflite"))]
    assert len(models) == 6
    slowest = 0.0
    read_count = 0
    for content in mutations(models, count):
        start = time.process_time()
        read_count += read_or_refuse(tmp_path, content)
        slowest = max(slowest, time.process_time() - start)
    assert 0.1 * count < read_count < 0.9 * count, (
        "the mutations should be neither all fatal nor all harmless"
    )
    assert slowest < 2.0
