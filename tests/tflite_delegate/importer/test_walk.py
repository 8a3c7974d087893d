"""What reaches Relax is what the model says, or the model is refused by operator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from schedules.errors import LeanconvError
from tests.support.imported import assert_as_litert, litert
from tests.support.tflite_writer import ModelWriter, merged
from tflite_delegate.importer.relax import import_model


def refusal(writer: ModelWriter, inputs: list[int], outputs: list[int], path: Path) -> str:
    path.write_bytes(writer.finish(inputs, outputs))
    with pytest.raises(LeanconvError) as error:
        import_model(path)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_another_shape_or_type(tmp_path: Path) -> None:
    """A result of which the importer and the model say different things."""
    path = tmp_path / "m.tflite"
    writer = ModelWriter()
    x = writer.tensor((2, 3))
    y = writer.node("RELU", [x], (3, 2))
    assert "operator 0 (RELU): the importer makes (2, 3) of it, TFLite (3, 2)" in refusal(
        writer, [x], [y], path
    )
    writer = ModelWriter()
    x = writer.tensor((2, 3))
    y = writer.node("RELU", [x], (2, 3), "int32")
    assert "makes float32 of it, TFLite int32" in refusal(writer, [x], [y], path)


def test_order(tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    writer = ModelWriter()
    x, later = writer.tensor((2,)), writer.tensor((2,))
    y = writer.node("RELU", [later], (2,))
    assert "operator 0 (RELU): tensor 1 is read before" in refusal(writer, [x], [y], path)
    writer = ModelWriter()
    x = writer.tensor((2,))
    writer.operator(0, [x, x], [x])
    assert "tensor 0 has another value already" in refusal(writer, [x], [x], path)
    writer = ModelWriter()
    x = writer.tensor((2,))
    assert "an input is named twice" in refusal(writer, [x, x], [x], path)
    state = writer.tensor((2,))
    writer.tensors[state].isVariable = True
    y = writer.node("ADD", [x, state], (2,))
    assert "(ADD): it keeps a state between runs" in refusal(writer, [x], [y], path)


def test_open_sizes(tmp_path: Path) -> None:
    """Sizes that the file leaves open have to be given; any batch may be."""
    writer = ModelWriter()
    x = writer.tensor((1, 1, 1, 3), signature=(-1, -1, -1, 3))
    y = writer.node("RELU", [x], (1, 1, 1, 3))
    path = tmp_path / "m.tflite"
    told = refusal(writer, [x], [y], path)
    assert told.endswith("--input-shapes tensor_0:[1,?,?,3] says them")
    content = writer.finish([x], [y])
    with pytest.raises(LeanconvError, match=r"only sizes \[0, 1, 2\] can be another"):
        import_model(path, {"tensor_0": (1, 4, 5, 4)})
    with pytest.raises(LeanconvError, match="not 4x5x3"):
        import_model(path, {"tensor_0": (4, 5, 3)})
    with pytest.raises(LeanconvError, match="not 1x0x5x3"):
        import_model(path, {"tensor_0": (1, 0, 5, 3)})
    values = np.arange(120, dtype=np.float32).reshape(2, 4, 5, 3) - 50
    path.write_bytes(content)
    result = import_model(path, {"tensor_0": values.shape})["main"].ret_ty
    assert tuple(map(int, result.shape)) == litert(content, [values])[0].shape


def test_constants_as_operands_and_outputs(tmp_path: Path) -> None:
    """Constants where the importer expects what was computed, and as outputs."""
    writer = ModelWriter()
    x = writer.tensor((2, 3))
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    constant = writer.constant(values)
    outputs = [
        writer.node("ADD", [constant, x], (2, 3)),
        writer.node("RELU", [constant], (2, 3)),
        writer.node("RESHAPE", [constant, writer.constant(np.array([3, 2], np.int32))], (3, 2)),
        constant,
        writer.node("SHAPE", [x], (2,), "int32", outType=2),
        x,
    ]
    assert_as_litert(writer.finish([x], outputs), tmp_path, [values - 3])


def test_batch_in_reductions(tmp_path: Path) -> None:
    """The product of all sizes, cast to float32: the mean of what an input holds."""
    writer = ModelWriter()
    x = writer.tensor((1, 4), dynamic_batch=True)
    axes: Any = writer.constant(np.array([0, 1], np.int32))
    total = writer.node("SUM", [x, axes], ())
    sizes = writer.node("SHAPE", [x], (2,), "int32", outType=2)
    first = writer.constant(np.array([0], np.int32))
    count = writer.node("REDUCE_PROD", [sizes, first], (), "int32")
    number = writer.node("CAST", [count], ())
    mean = writer.node("DIV", [total, number], ())
    for batch in (1, 2):
        value = np.arange(4 * batch, dtype=np.float32).reshape(batch, 4)
        assert_as_litert(writer.finish([x], [mean]), tmp_path, [value])


@pytest.mark.parametrize("in_main", [False, True])
def test_variables(in_main: bool, tmp_path: Path) -> None:
    """One that is set before the first run is a constant; one that each run sets is refused."""
    graphs = []
    for is_main in (True, False):
        writer = ModelWriter()
        x = writer.tensor((2, 3))
        handle = writer.tensor((), "resource")
        options = schema.VarHandleOptionsT()
        options.sharedName = b"v"
        code, table = schema.BuiltinOperator, schema.BuiltinOptions
        once = schema.CallOnceOptionsT()
        once.initSubgraphIndex = 1
        if is_main:
            writer.operator(code.CALL_ONCE, [], [], once, table.CallOnceOptions)
        writer.operator(code.VAR_HANDLE, [], [handle], options, table.VarHandleOptions)
        y = writer.tensor((2, 3))
        value = writer.constant(np.arange(6, dtype=np.float32).reshape(2, 3))
        if is_main:
            writer.operator(code.READ_VARIABLE, [handle], [y])
        if in_main or not is_main:
            writer.operator(code.ASSIGN_VARIABLE, [handle, value], [])
        outputs = [writer.node("ADD", [x, y], (2, 3))] if is_main else []
        graphs.append(writer.finish([x] if is_main else [], outputs))
    content = merged(graphs)
    if in_main:
        path = tmp_path / "m.tflite"
        path.write_bytes(content)
        with pytest.raises(LeanconvError, match=r"3 \(ASSIGN_VARIABLE\): it keeps a state between"):
            import_model(path)
    else:
        assert_as_litert(content, tmp_path, [np.ones((2, 3), np.float32)])
