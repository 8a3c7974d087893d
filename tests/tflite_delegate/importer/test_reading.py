"""What files say in several ways is read as one: names, constants, quantisation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from schedules.errors import LeanconvError
from tests.support.imported import assert_as_litert, imported, litert
from tests.support.sparse import sparse
from tests.support.tflite_writer import Conv, ModelWriter, packed
from tflite_delegate.importer.reading import read_model
from tflite_delegate.importer.relax import import_model

RNG = np.random.default_rng(0)


def whole(shape: tuple[int, ...], dtype: str = "float32") -> np.ndarray:
    """Small whole numbers, whose products float32 adds up exactly."""
    return RNG.integers(-4, 5, shape).astype(dtype)


def two_convs(dtype: str = "float32") -> bytes:
    writer = ModelWriter()
    x = writer.tensor((1, 5, 6, 4))
    constants = [[writer.constant(whole(s, dtype)) for s in ((4, 3, 3, 4), (4,))] for _ in "ab"]
    y, shape = writer.conv(x, (1, 5, 6, 4), Conv(4), constants=constants[0])
    z, _ = writer.conv(y, shape, Conv(4), constants=constants[1])
    return writer.finish([x], [z])


def edited(content: bytes) -> Any:
    return schema.ModelT.InitFromPackedBuf(content, 0)


@pytest.mark.parametrize("name", [None, b"", b"conv", b"caf\xe9", b"_param_1", b"%0.1"])
def test_names(name: bytes | None, tmp_path: Path) -> None:
    """All tensors have the same one, none, or one that the importer would give itself."""
    content, x = two_convs(), whole((1, 5, 6, 4))
    (expected,) = litert(content, [x])  # whose Python refuses names that are no UTF-8
    model = edited(content)
    for tensor in model.subgraphs[0].tensors:
        tensor.name = name
    np.testing.assert_array_equal(imported(packed(model), tmp_path, [x])[0], expected)
    (parameter,) = import_model(tmp_path / "model.tflite")["main"].params
    names = {None: "input_0", b"": "input_0", b"_param_1": "input_param_1", b"%0.1": "input%0.1"}
    assert parameter.name == names.get(name, (name or b"").decode(errors="replace"))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_constants_behind_the_flatbuffer(dtype: str, tmp_path: Path) -> None:
    inside = two_convs(dtype)
    model = edited(inside)
    stored = [b"" if b.data is None else bytes(bytearray(b.data)) for b in model.buffers]
    for buffer, data in zip(model.buffers, stored, strict=True):
        if data:
            buffer.data, buffer.offset, buffer.size = None, 1 << 40, len(data)
    start = len(packed(model)) + 64
    tail = b""
    for buffer, data in zip(model.buffers, stored, strict=True):
        if data:
            buffer.offset = start + len(tail)
            tail += data.ljust(-(-len(data) // 16) * 16, b"\0")
    content = packed(model).ljust(start, b"\0") + tail
    x = whole((1, 5, 6, 4))
    assert_as_litert(content, tmp_path, [x])
    with pytest.raises(ValueError, match="a constant ends at byte"):
        read_model(content[:-40])
    same = imported(inside, tmp_path, [x])
    np.testing.assert_array_equal(imported(content, tmp_path, [x]), same)


def test_four_bit_integers() -> None:
    """Odd counts end in half a byte."""
    writer = ModelWriter()
    x = writer.constant(np.array([0x0F, 0x87, 0x01], np.uint8).view(np.int8))
    tensor = writer.tensors[x]
    tensor.shape, tensor.type = [5], schema.TensorType.INT4
    found = read_model(writer.finish([], [x])).graphs[0].tensors[x].data
    assert found is not None
    assert (found.dtype.name, found.tolist()) == ("int8", [-1, 0, 7, -8, 1])


@pytest.mark.parametrize(
    ("shape", "scales", "zeros", "axis", "expected"),
    [
        ((3,), [1, 2, 3], [0, 0, 0], 3, 0),  # as converters of old wrote biases
        ((2, 3), [1, 2, 3], [0, 0, 0], 1, 1),
        ((2, 3), [1, 2], [0], 0, 0),
        ((2, 3), [1], None, 7, 0),
        ((2, 3), [0], [0], 0, None),
        ((2, 3), [1, 2], [0, 0], 1, "2 scales on axis 1"),
        ((2, 3), [1, 2], [0, 0], 5, "2 scales on axis 5"),
        ((2, 3), [1, 2], [0, 0, 0], 0, "2 scales and 3 zero points"),
    ],
)
def test_quantisation(
    shape: tuple[int, ...], scales: list[float], zeros: list[int] | None, axis: int, expected: Any
) -> None:
    writer = ModelWriter()
    x = writer.tensor(shape, "int8")
    table = writer.tensors[x].quantization = schema.QuantizationParametersT()
    table.scale, table.zeroPoint, table.quantizedDimension = scales, zeros, axis
    content = writer.finish([x], [x])
    if isinstance(expected, str):
        with pytest.raises(ValueError, match=expected):
            read_model(content)
        return
    found = read_model(content).graphs[0].tensors[x].quantization
    assert (None if found is None else found.axis) == expected
    if found is not None:
        assert len(found.zero_points) == len(found.scales) == len(scales)


def test_damage(tmp_path: Path) -> None:
    """Constants of another size than their shape's are refused, as TFLite does."""
    model = edited(two_convs())
    weights = model.subgraphs[0].operators[0].inputs[1]
    model.subgraphs[0].tensors[weights].shape = [4, 3, 3, 3]
    path = tmp_path / "cut.tflite"
    path.write_bytes(packed(model))
    with pytest.raises(LeanconvError, match=r"cut\.tflite is damaged: tensor 1 holds 576 bytes of"):
        import_model(path)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_sparse_constants(dtype: str, tmp_path: Path) -> None:
    """Weights behind DENSIFY and, if float16, DEQUANTIZE."""
    weights = whole((4, 3, 3, 4), dtype)
    weights[RNG.random(weights.shape) < 0.7] = 0
    values, sparsity = sparse(weights, (0, 1, 2, 3), compressed=(3,))
    writer = ModelWriter()
    x = writer.tensor((1, 5, 6, 4))
    dense = writer.sparse_constant(weights.shape, values, sparsity)
    bias = writer.constant(whole((4,)))
    y, _ = writer.conv(x, (1, 5, 6, 4), Conv(4), constants=[dense, bias])
    assert_as_litert(writer.finish([x], [y]), tmp_path, [whole((1, 5, 6, 4))])
