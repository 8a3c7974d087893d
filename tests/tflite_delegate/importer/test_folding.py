"""What a graph computes from shapes and constants, against LiteRT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.imported import assert_as_litert, litert
from tests.support.tflite_writer import Conv, Dense, ModelWriter
from tflite_delegate.importer.folding import folded
from tflite_delegate.importer.reading import read_model


def i32(*values: Any) -> np.ndarray:
    return np.array(values, np.int32)


A, B, F = i32(7, -3, 4, 1), i32(2, 2, -2, 5), np.array([1.5, -2.25, 0.0, 8.0], np.float32)
M = np.arange(24, dtype=np.int32).reshape(2, 3, 4)
#: Operator, operands, shape and type of the result, fields of the options.
CASES: list[tuple[str, list[np.ndarray], tuple[int, ...], str, dict[str, Any]]] = [
    ("ABS", [F], (4,), "float32", {}),
    ("ADD", [A, B], (4,), "int32", {}),
    ("ADD", [M, i32(1, 2, 3, 4)], (2, 3, 4), "int32", {}),
    ("BROADCAST_ARGS", [i32(1, 4), i32(3, 1)], (2,), "int32", {}),
    ("BROADCAST_TO", [A, i32(2, 4)], (2, 4), "int32", {}),
    ("CAST", [F], (4,), "int32", {}),
    ("CAST", [A], (4,), "float32", {}),
    ("CEIL", [F], (4,), "float32", {}),
    ("CONCATENATION", [M, M], (2, 6, 4), "int32", {"axis": -2}),
    ("DIV", [A, B], (4,), "int32", {}),
    ("DIV", [F, F + 3], (4,), "float32", {}),
    ("EQUAL", [A, B], (4,), "bool", {}),
    ("EXPAND_DIMS", [M, i32(-2)], (2, 3, 1, 4), "int32", {}),
    ("FILL", [i32(2, 3), i32(7).reshape(())], (2, 3), "int32", {}),
    ("FLOOR", [F], (4,), "float32", {}),
    ("FLOOR_DIV", [A, B], (4,), "int32", {}),
    ("FLOOR_MOD", [A, B], (4,), "int32", {}),
    ("GATHER", [M, i32(1, 0, 1)], (2, 3, 4), "int32", {"axis": 1}),
    ("GREATER", [A, B], (4,), "bool", {}),
    ("GREATER_EQUAL", [A, B], (4,), "bool", {}),
    ("LESS", [A, B], (4,), "bool", {}),
    ("LESS_EQUAL", [A, B], (4,), "bool", {}),
    ("LOGICAL_AND", [A > 0, B > 0], (4,), "bool", {}),
    ("LOGICAL_OR", [A > 0, B > 0], (4,), "bool", {}),
    ("LOGICAL_NOT", [A > 0], (4,), "bool", {}),
    ("MAXIMUM", [A, B], (4,), "int32", {}),
    ("MINIMUM", [A, B], (4,), "int32", {}),
    ("MUL", [A, B], (4,), "int32", {}),
    ("NEG", [A], (4,), "int32", {}),
    ("NOT_EQUAL", [A, B], (4,), "bool", {}),
    ("PACK", [A, B], (4, 2), "int32", {"axis": 1, "valuesCount": 2}),
    ("RANGE", [i32(*[n]).reshape(()) for n in (7, 1, -2)], (3,), "int32", {}),
    ("REDUCE_MAX", [M, i32(0, 2)], (3,), "int32", {}),
    ("REDUCE_MIN", [M, i32(-1)], (2, 3, 1), "int32", {"keepDims": True}),
    ("REDUCE_PROD", [A, i32(0)], (), "int32", {}),
    ("RESHAPE", [M, i32(4, -1)], (4, 6), "int32", {}),
    ("SELECT_V2", [A > 0, A, B], (4,), "int32", {}),
    ("SLICE", [M, i32(0, 1, 2), i32(2, -1, 1)], (2, 2, 1), "int32", {}),
    ("SQUEEZE", [A.reshape(1, 4, 1)], (4, 1), "int32", {"squeezeDims": [0]}),
    ("SQUEEZE", [A.reshape(1, 4, 1)], (4,), "int32", {}),
    ("STRIDED_SLICE", [A, i32(1), i32(2), i32(1)], (), "int32", {"shrinkAxisMask": 1}),
    ("STRIDED_SLICE", [A, i32(-2), i32(0), i32(1)], (2,), "int32", {"endMask": 1}),
    ("STRIDED_SLICE", [A, i32(0), i32(-9), i32(-2)], (2,), "int32", {"beginMask": 1}),
    (
        "STRIDED_SLICE",
        [M, i32(0, 1, 0), i32(0, 9, 2), i32(1, 1, 1)],
        (2, 3, 2),
        "int32",
        {"ellipsisMask": 1, "beginMask": 2},
    ),
    ("SUB", [A, B], (4,), "int32", {}),
    ("SUM", [M, i32(1)], (2, 4), "int32", {}),
    ("TRANSPOSE", [M, i32(2, 0, 1)], (4, 2, 3), "int32", {}),
]


@pytest.mark.parametrize("case", CASES, ids=[f"{i}-{case[0]}" for i, case in enumerate(CASES)])
def test_operators(case: tuple[str, list[np.ndarray], tuple[int, ...], str, Any]) -> None:
    """Each operator on constants; LiteRT gets them as inputs, lest it folds them itself."""
    name, operands, shape, dtype, fields = case
    content = []
    for is_constant in (True, False):
        writer = ModelWriter()
        data = operands[:1] if not is_constant else []
        tensors = [writer.tensor(x.shape, str(x.dtype)) for x in data]
        tensors += [writer.constant(x) for x in operands[len(data) :]]
        output = writer.node(name, tensors, shape, dtype, **fields)
        content.append(writer.finish(tensors[: len(data)], [output]))
    graph = read_model(content[0]).graphs[0]
    found = folded(graph, graph.operators[0])
    assert found is not None
    (expected,) = litert(content[1], operands[:1])
    assert (found[0].shape, found[0].dtype) == (expected.shape, expected.dtype)
    np.testing.assert_array_equal(found[0], expected)


@pytest.mark.parametrize(
    ("name", "operands", "dtype", "fields"),
    [
        ("ADD", [A, B], "int32", {"fusedActivationFunction": "relu"}),
        ("DIV", [A, i32(1, 0, 1, 1)], "int32", {}),
        ("FLOOR_MOD", [A, i32(0)], "int32", {}),
        ("GATHER", [A, i32(4)], "int32", {"axis": 0}),
        ("GATHER", [A, i32(-1)], "int32", {"axis": 0}),
        ("CAST", [np.array([1e20], np.float32)], "int32", {}),
        ("STRIDED_SLICE", [A, i32(4), i32(5), i32(1)], "int32", {"shrinkAxisMask": 1}),
        ("STRIDED_SLICE", [A, i32(1), i32(2), i32(1)], "int32", {"offset": True}),
        ("STRIDED_SLICE", [A, i32(1), i32(2), i32(0)], "int32", {}),
        ("FILL", [i32(2**30, 2**30), i32(1).reshape(())], "int32", {}),
        ("RANGE", [i32(n).reshape(()) for n in (0, 2**31 - 1, 1)], "int32", {}),
        ("MUL", [A, B], "int64", {}),
        ("ADD", [np.zeros(2000, np.int32), i32(1)], "int32", {}),
    ],
)
def test_left_to_the_importer(
    name: str, operands: list[np.ndarray], dtype: str, fields: dict[str, Any]
) -> None:
    """Results that would be wrong, undefined, of another type, or too large."""
    writer = ModelWriter()
    output = writer.node(name, [writer.constant(x) for x in operands], (1,), dtype, **fields)
    graph = read_model(writer.finish([], [output])).graphs[0]
    assert folded(graph, graph.operators[0]) is None


@pytest.mark.parametrize("batch", [1, 3])
def test_sizes_from_an_open_batch(batch: int, tmp_path: Path) -> None:
    """A Keras Flatten and a Reshape behind it, as converters write them for any batch."""
    writer = ModelWriter()
    shape: tuple[int, ...] = (1, 4, 4, 2)
    x = writer.tensor(shape, dynamic_batch=True)
    rng = np.random.default_rng(1)
    weights = [rng.integers(-3, 4, s).astype(np.float32) for s in ((3, 3, 3, 2), (3,), (5, 48))]
    constants = [writer.constant(values) for values in weights[:2]]
    image, shape = writer.conv(x, shape, Conv(3), dynamic_batch=True, constants=constants)

    def batch_of(tensor: int, rank: int) -> int:
        sizes = writer.node("SHAPE", [tensor], (rank,), "int32", outType=2)
        operands = [writer.constant(i32(n)) for n in (0, 1, 1)]
        return writer.node("STRIDED_SLICE", [sizes, *operands], (), "int32", shrinkAxisMask=1)

    def reshaped(tensor: int, rank: int, tail: tuple[int, ...]) -> int:
        sizes = [batch_of(tensor, rank), *(writer.constant(i32(n).reshape(())) for n in tail)]
        target = writer.node("PACK", sizes, (len(sizes),), "int32", valuesCount=len(sizes))
        result = writer.node("RESHAPE", [tensor, target], (1, *tail))
        writer.tensors[result].shapeSignature = [-1, *tail]
        return result

    flat = reshaped(image, 4, (48,))
    dense, _ = writer.dense(flat, (1, 48), Dense(5, bias=False))
    writer.buffers[writer.tensors[writer.operators[-1].inputs[1]].buffer].data = np.frombuffer(
        weights[2].tobytes(), np.uint8
    )
    writer.tensors[dense].shapeSignature = [-1, 5]
    result = reshaped(dense, 2, (5, 1))
    x_values = rng.integers(-3, 4, (batch, 4, 4, 2)).astype(np.float32)
    assert_as_litert(writer.finish([x], [result]), tmp_path, [x_values])
