"""Loops, conditions and calls are laid out as LiteRT runs them, or refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from tvm import relax

from schedules.errors import LeanconvError
from tests.support.imported import assert_as_litert
from tests.support.tflite_writer import Conv, ModelWriter, merged
from tflite_delegate.importer.relax import import_model

SHAPE = (1, 4, 4, 2)
X = np.arange(32, dtype=np.float32).reshape(SHAPE) % 5 - 2


def scalar(writer: ModelWriter, value: int) -> int:
    return writer.constant(np.array(value, np.int32))


def caller(name: str, limit: int | None, **fields: int) -> bytes:
    """A graph of an image, run through a WHILE with its counter, or an IF with a condition."""
    writer = ModelWriter()
    x = writer.tensor(SHAPE)
    inputs, operands = [x], [x]
    outputs = [writer.tensor(SHAPE)]
    if name == "WHILE":
        operands = [scalar(writer, 0), x]
        outputs = [writer.tensor((), "int32"), *outputs]
        if limit is None:
            operands[0] = writer.tensor((), "int32")
            inputs.append(operands[0])
    if name == "IF":
        of_batch = writer.node("SHAPE", [x], (4,), "int32", outType=2)
        first = [writer.constant(np.array([n], np.int32)) for n in (0, 1, 1)]
        batch = writer.node("STRIDED_SLICE", [of_batch, *first], (), "int32", shrinkAxisMask=1)
        condition = writer.node("LESS", [batch, scalar(writer, limit or 0)], (), "bool")
        operands = [condition, x]
        if limit is None:
            operands[0] = writer.tensor((), "bool")
            inputs.append(operands[0])
    kind = f"{name.title()}Options"
    options = getattr(schema, f"{kind}T")()
    for field, value in fields.items():
        setattr(options, field, value)
    code, table = getattr(schema.BuiltinOperator, name), getattr(schema.BuiltinOptions, kind)
    writer.operator(code, operands, outputs, options, table)
    return writer.finish(inputs, outputs)


def below(limit: int) -> bytes:
    writer = ModelWriter()
    counter, x = writer.tensor((), "int32"), writer.tensor(SHAPE)
    decision = writer.node("LESS", [counter, scalar(writer, limit)], (), "bool")
    return writer.finish([counter, x], [decision])


def convolved(count: bool) -> bytes:
    """An image convolved with whole numbers, and with ``count`` a counter that goes on."""
    writer = ModelWriter()
    counter = writer.tensor((), "int32")
    x = writer.tensor(SHAPE)
    weights = (np.arange(36, dtype=np.float32).reshape(2, 3, 3, 2) * 7) % 3 - 1
    bias = np.array([1, -1], np.float32)
    constants = [writer.constant(weights), writer.constant(bias)]
    y, _ = writer.conv(x, SHAPE, Conv(2), constants=constants)
    if not count:
        return writer.finish([x], [y])
    more = writer.node("ADD", [counter, scalar(writer, 1)], (), "int32")
    return writer.finish([counter, x], [more, y])


def doubled() -> bytes:
    writer = ModelWriter()
    x = writer.tensor(SHAPE)
    return writer.finish([x], [writer.node("ADD", [x, x], SHAPE)])


LOOP = {"condSubgraphIndex": 1, "bodySubgraphIndex": 2}
BRANCHES = {"thenSubgraphIndex": 1, "elseSubgraphIndex": 2}


@pytest.mark.parametrize("trips", [0, 1, 4])
def test_loops_that_count(trips: int, tmp_path: Path) -> None:
    content = merged([caller("WHILE", trips, **LOOP), below(trips), convolved(count=True)])
    assert_as_litert(content, tmp_path, [X])


@pytest.mark.parametrize("limit", [1, 2, None])
def test_conditions(limit: int | None, tmp_path: Path) -> None:
    """Of the batch, which is known; and of an input, which is not."""
    content = merged([caller("IF", limit, **BRANCHES), convolved(count=False), doubled()])
    for taken in (True, False):
        inputs: Sequence[np.ndarray] = [X] if limit else [X, np.array(taken)]
        assert_as_litert(content, tmp_path, inputs)


def test_calls(tmp_path: Path) -> None:
    """LiteRT has no CALL; the same without it."""
    path = tmp_path / "call.tflite"
    path.write_bytes(merged([caller("CALL", None, subgraph=1), doubled()]))
    bindings = import_model(path)["main"].body.blocks[0].bindings
    (call,) = (binding.value for binding in bindings if isinstance(binding.value, relax.Call))
    assert call.op.name == "relax.add"


@pytest.mark.parametrize(
    ("graphs", "told"),
    [
        (
            [caller("WHILE", None, **LOOP), below(3), convolved(count=True)],
            "operator 0 (WHILE): how often it runs depends on what the model computes",
        ),
        (
            [caller("WHILE", 1, **LOOP), below(10**6), convolved(count=True)],
            "it comes to more than 4096 operators",
        ),
        ([caller("WHILE", 1, **LOOP), below(1)], "operator 0 (WHILE): it runs graph 2 of 2"),
        (
            [caller("WHILE", 1, **LOOP), below(1), doubled()],
            "operator 0 (WHILE): graph 2 has other operands or results",
        ),
        (
            [caller("CALL", None, subgraph=1), caller("CALL", None, subgraph=1)],
            "operator 0 (CALL): it comes to more than 4096 operators",
        ),
    ],
)
def test_refused(graphs: list[bytes], told: str, tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(merged(graphs))
    with pytest.raises(LeanconvError) as error:
        import_model(path)
    assert told in str(error.value)
