"""Sparse constants are read as TFLite's own DENSIFY reads them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import tflite
from ai_edge_litert import interpreter

from tests.support.sparse import sparse
from tests.support.tflite_writer import ModelWriter
from tflite_delegate.read.sparsity import densify


@dataclass(frozen=True)
class Form:
    """Arguments of :func:`sparse`."""

    order: Sequence[int]
    blocks: Sequence[tuple[int, int]] = ()
    compressed: Sequence[int] = (3,)
    index_type: str = "int32"


FORMS = (
    Form((0, 1, 2, 3), index_type="uint8"),
    Form((3, 2, 1, 0), index_type="uint16"),
    Form((0, 1, 2, 3), compressed=(0, 2)),
    Form((0, 1, 2, 3), compressed=()),
    Form((0, 1, 2, 3), ((3, 4),)),
    Form((0, 3, 1, 2), ((0, 2), (3, 4)), (0, 1), "uint8"),
    Form((0, 1, 2, 3), ((0, 2),), (1, 3)),
)


def pruned(shape: Sequence[int], dtype: str) -> np.ndarray:
    """Mostly zeros."""
    random = np.random.default_rng(0)
    dense = random.standard_normal(shape).astype(dtype)
    dense[random.random(shape) < 0.8] = 0
    return dense


def read_back(sparsity: Any) -> tflite.SparsityParameters:
    """What a model holds of a description."""
    writer = ModelWriter()
    output = writer.sparse_constant((1,), np.zeros(1, np.float32), sparsity)
    model = tflite.Model.GetRootAs(writer.finish([], [output]), 0)
    return model.Subgraphs(0).Tensors(0).Sparsity()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_dense_as_tflite_makes_it(dtype: str) -> None:
    dense = pruned((6, 3, 2, 8), dtype)
    writer, stored, sums = ModelWriter(), [], []
    x = writer.tensor(dense.shape)
    for form in FORMS:
        values, sparsity = sparse(dense, **vars(form))
        stored.append((values, sparsity))
        constant = writer.sparse_constant(dense.shape, values, sparsity)
        sums.append(writer.node("ADD", [x, constant], dense.shape))
    tflite_itself = interpreter.Interpreter(model_content=writer.finish([x], sums))
    tflite_itself.allocate_tensors()
    tflite_itself.set_tensor(x, np.zeros(dense.shape, np.float32))
    tflite_itself.invoke()
    for (values, sparsity), output in zip(stored, sums, strict=True):
        mine = densify(dense.shape, read_back(sparsity), values)
        assert mine.dtype == dense.dtype
        np.testing.assert_array_equal(mine, dense)
        np.testing.assert_array_equal(tflite_itself.get_tensor(output), dense)


def test_nothing_but_zeros() -> None:
    dense = np.zeros((4, 8), np.float32)
    values, sparsity = sparse(dense, (0, 1), compressed=(1,))
    assert values.size == 0
    np.testing.assert_array_equal(densify(dense.shape, read_back(sparsity), values), dense)


def _set(name: str, value: Any) -> Callable[[Any], None]:
    return lambda sparsity: setattr(sparsity, name, value)


def _set_level(level: int, name: str, value: Any) -> Callable[[Any], None]:
    return lambda sparsity: setattr(sparsity.dimMetadata[level], name, value)


def _set_vector(name: str, place: int, value: int) -> Callable[[Any], None]:
    def change(sparsity: Any) -> None:
        getattr(sparsity.dimMetadata[1], name).values[place] = value

    return change


@pytest.mark.parametrize(
    "damage",
    [
        _set("traversalOrder", [0, 0, 2]),
        _set("traversalOrder", [0, 1]),
        _set("traversalOrder", [0, 2, 1]),
        _set("traversalOrder", [0, 1, -1]),
        _set("blockMap", [2]),
        _set("blockMap", [-1]),
        _set("blockMap", [0, 0]),
        _set("dimMetadata", []),
        _set_level(0, "denseSize", 5),
        _set_level(0, "denseSize", -1),
        _set_level(2, "denseSize", 3),
        _set_level(2, "denseSize", 0),
        _set_level(1, "format", 7),
        _set_level(1, "arraySegments", None),
        _set_level(1, "arrayIndicesType", 9),
        _set_vector("arraySegments", 0, 1),
        _set_vector("arraySegments", 1, 2**31 - 1),
        _set_vector("arraySegments", 2, -1),
        _set_vector("arraySegments", 4, 10_000),
        _set_vector("arrayIndices", 0, 8),
        _set_vector("arrayIndices", 0, -1),
    ],
)
def test_damage_is_an_error(damage: Callable[[Any], None]) -> None:
    dense = pruned((4, 16), "float32")
    values, sparsity = sparse(dense, (0, 1), ((1, 2),), (1,))
    np.testing.assert_array_equal(densify(dense.shape, read_back(sparsity), values), dense)
    damage(sparsity)
    with pytest.raises(ValueError, match="malformed sparse tensor"):
        densify(dense.shape, read_back(sparsity), values)


def test_too_few_values_are_an_error() -> None:
    dense = pruned((4, 16), "float32")
    values, sparsity = sparse(dense, (0, 1), (), (1,))
    with pytest.raises(ValueError, match="are stored"):
        densify(dense.shape, read_back(sparsity), values[:-1])
