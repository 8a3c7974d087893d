"""Layers whose weights are sparse constants, with a DENSIFY or not, in float16 or not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schedules.layer.network import Layer
from tests.support.sparse import sparse
from tests.support.tflite_writer import Conv, ModelWriter
from tests.tflite_delegate.conftest import InterpreterApi, random_inputs, read_report, run
from tflite_delegate.read import model as tflite_model

SHAPE = (1, 9, 8, 16)
#: Layer, order of the levels, blocks, and which levels are compressed.
LAYERS: dict[str, tuple[Conv, Any, Any, Any]] = {
    "pointwise": (Conv(24, (1, 1), activation="relu"), (0, 1, 2, 3), (), (3,)),
    "blocks": (Conv(20, (1, 1)), (0, 1, 2, 3), ((0, 4),), (3,)),
    "3x3": (Conv(12), (3, 0, 1, 2), ((3, 2),), (1, 2)),
    "float16": (Conv(24, (1, 1), weight_type="float16"), (0, 1, 2, 3), (), (3,)),
    "float16 3x3": (Conv(8, weight_type="float16"), (0, 1, 2, 3), (), (1, 3)),
    "groups": (Conv(8, groups=2), (0, 1, 2, 3), (), (3,)),
    "depthwise": (Conv(16, depthwise=True), (0, 1, 2, 3), (), (3,)),
    "few zeros": (Conv(24, (1, 1), activation="relu"), (0, 1, 2, 3), (), (3,)),
    "none left out": (Conv(16, (1, 1)), (0, 1, 2, 3), (), ()),
}
#: Those of which the zeros do not matter.
DENSE = {"groups", "depthwise", "few zeros"}


def zeros(layer: Layer) -> int:
    assert layer.workload is not None
    return layer.workload.zeros


def pruned(conv: Conv, zeros: float) -> np.ndarray:
    """The weights of a layer as its node has them, some of them zeros."""
    weights, _ = conv.constants(SHAPE[3])
    weights[np.random.default_rng(1).random(weights.shape) < zeros] = 0
    return weights.transpose(3, 1, 2, 0) if conv.depthwise else weights


def sparse_model(damage: Callable[[Any], None] = lambda sparsity: None) -> bytes:
    writer = ModelWriter()
    x = writer.tensor(SHAPE)
    outputs = []
    for name, (conv, order, blocks, compressed) in LAYERS.items():
        dense = pruned(conv, 0.2 if name == "few zeros" else 0.75)
        values, sparsity = sparse(dense, order, blocks, compressed)
        damage(sparsity)
        bias = conv.constants(SHAPE[3])[1]
        constants = [
            writer.sparse_constant(dense.shape, values, sparsity),
            -1 if bias is None else writer.constant(bias),
        ]
        outputs.append(writer.conv(x, SHAPE, conv, constants=constants)[0])
    return writer.finish([x], outputs)


@pytest.fixture(scope="module")
def delegate_path(build_delegate: Callable[..., Path]) -> Path:
    return build_delegate(sparse_model(), ["sparse_direct", "depthwise", "indirect"])


def test_as_tflite_itself(interpreter_api: InterpreterApi, delegate_path: Path) -> None:
    """Also images that have no kernel, which the generic one computes."""
    model = sparse_model()
    delegate = interpreter_api.load_delegate(str(delegate_path))
    interpreter, builtin = interpreter_api.open(model, delegate), interpreter_api.open(model)
    for rows in (9, 11, 9):
        for other in (interpreter, builtin):
            other.resize_tensor_input(0, (1, rows, *SHAPE[2:]))
        inputs = random_inputs(interpreter)
        pairs = zip(run(interpreter, inputs), run(builtin, inputs), strict=True)
        for name, (y, expected) in zip(LAYERS, pairs, strict=True):
            assert np.allclose(y, expected, rtol=0, atol=1e-5), name
    report = read_report(delegate_path, delegate)
    assert (report["claimed"], report["unknown"]) == (len(LAYERS), 0)
    for name, entry in zip(LAYERS, report["layers"], strict=True):
        assert (entry["calls"], entry["generic_calls"]) == (2, 1), name
        assert (entry["algorithm"] == "sparse_direct") == (name not in DENSE), name
    # Nothing is made dense for nobody.
    for operator in interpreter._get_ops_details():
        if operator["op_name"] == "DENSIFY":
            with pytest.raises(ValueError, match="null"):
                interpreter.get_tensor(operator["outputs"][0])


def test_the_reader_takes_them(tmp_path: Path) -> None:
    path = tmp_path / "sparse.tflite"
    path.write_bytes(sparse_model())
    layers = tflite_model.read(path).layers
    assert [layer.reason for layer in layers] == [None] * len(LAYERS)
    assert {name for name, layer in zip(LAYERS, layers, strict=True) if not zeros(layer)} == DENSE
    # None of these weights may be read where the model has them.
    assert not any(layer.weight_order for layer in layers)


def _segment(sparsity: Any) -> None:
    for level in sparsity.dimMetadata:
        if level.arraySegments is not None:
            level.arraySegments.values[-1] += 1


def _position(sparsity: Any) -> None:
    for level in sparsity.dimMetadata:
        if level.arrayIndices is not None:
            level.arrayIndices.values[0] = 10_000


def _size(sparsity: Any) -> None:
    sparsity.dimMetadata[0].denseSize += 1
    if sparsity.dimMetadata[0].arraySegments is not None:
        sparsity.dimMetadata[0].arraySegments.values[0] = -1


def _block(sparsity: Any) -> None:
    sparsity.dimMetadata[-1].denseSize = 7 if sparsity.blockMap else 1000
    if sparsity.dimMetadata[-1].arrayIndices is not None:
        sparsity.dimMetadata[-1].arrayIndices.values[-1] = -1


DAMAGES = (_segment, _position, _size, _block)


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_left_alone(
    litert: InterpreterApi, delegate_path: Path, tmp_path: Path, damage: Callable[[Any], None]
) -> None:
    """TFLite itself may not survive it: nothing is allocated here."""
    path = tmp_path / "damaged.tflite"
    path.write_bytes(sparse_model(damage))
    layers = tflite_model.read(path).layers
    delegate = litert.load_delegate(str(delegate_path))
    interpreter = litert.open(path, delegate)
    report = read_report(delegate_path, delegate)
    assert report["claimed"] == sum(layer.reason is None for layer in layers)
    reasons = {layer.reason for layer in layers} - {None}
    assert reasons == {"weights are computed at run time"} or "incomplete" in str(reasons)
    assert report["claimed"] <= 1  # "none left out" has neither segments nor positions
    del interpreter
