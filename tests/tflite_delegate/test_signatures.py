"""A signature's graph is compiled under its name, with the names that it gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

import tvmc
from schedules.errors import LeanconvError
from tests.support.tflite_writer import Conv, ModelWriter, merged, packed, single_conv


@pytest.fixture(scope="module")
def content() -> bytes:
    """A convolution as the main graph and "image", and a sum as "add"."""
    writer = ModelWriter()
    operands = [writer.tensor((2, 3)), writer.tensor((2, 3))]
    total = writer.node("SUB", operands, (2, 3))
    graphs = [single_conv((1, 4, 4, 2), Conv(2)), writer.finish(operands, [total])]
    return merged(graphs, {"image": 0, "sub": 1})


def test_compiled_by_name(content: bytes, tmp_path: Path) -> None:
    path, module = tmp_path / "m.tflite", tmp_path / "m.so"
    path.write_bytes(content)
    model = tvmc.load(path, signature="sub")
    assert [info.name for info in (*model.inputs, *model.outputs)] == ["in_0", "in_1", "out_0"]
    tvmc.compile(model, output=module, output_format="so")
    rng = np.random.default_rng(0)
    values = {f"in_{i}": rng.standard_normal((2, 3)).astype(np.float32) for i in range(2)}
    runner = Interpreter(model_content=content).get_signature_runner("sub")
    found = tvmc.run(module, inputs=values).outputs["output_0"]
    np.testing.assert_array_equal(found, runner(**values)["out_0"])
    assert [info.name for info in tvmc.load(path).inputs] == ["tensor_0"]


def test_unknown(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(content)
    told = r"has no signature 'x': 'image' \(in_0 -> out_0\), 'sub' \(in_0, in_1 -> out_0\)"
    with pytest.raises(LeanconvError, match=told):
        tvmc.load(path, signature="x")
    path.write_bytes(single_conv((1, 4, 4, 2), Conv(2)))
    with pytest.raises(LeanconvError, match="has no signature 'x': it has none"):
        tvmc.load(path, signature="x")


@pytest.mark.parametrize(
    ("graph", "tensors", "told"), [(7, 1, "names graph 7 of 2"), (1, 4, "names 4 tensors of 3")]
)
def test_damaged(content: bytes, tmp_path: Path, graph: int, tensors: int, told: str) -> None:
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    model.signatureDefs[1].subgraphIndex = graph
    model.signatureDefs[1].inputs = model.signatureDefs[1].inputs[:1] * tensors
    path = tmp_path / "m.tflite"
    path.write_bytes(packed(model))
    with pytest.raises(LeanconvError, match=f"is damaged: a signature {told}"):
        tvmc.load(path, signature="sub")
