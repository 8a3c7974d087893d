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
from tvmc.compiling import package


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
    report = tvmc.compile(model, output=module, output_format="so")
    assert report.to_dict()["verification"].startswith("verified with LiteRT: 1 tensors compared")
    with package.load(module) as compiled:
        assert compiled.metadata.signature == "sub"
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


def test_sizes_that_the_model_leaves_open(tmp_path: Path) -> None:
    """They can be said, and the module is compared with LiteRT for these.

    Of one output the file says nothing, as where a graph computes its size.
    """
    writer = ModelWriter()
    x = writer.tensor((1, 1, 1, 4), signature=(-1, -1, -1, 4))
    y, _ = writer.conv(x, (1, 1, 1, 4), Conv(4))
    writer.tensors[y].shapeSignature = [-1, -1, -1, 4]
    path, module = tmp_path / "m.tflite", tmp_path / "m.so"
    rows = writer.node("RESHAPE", [y, writer.constant(np.array([-1, 4], np.int32))], ())
    path.write_bytes(writer.finish([x], [y, rows]))
    with pytest.raises(LeanconvError, match=r"--input-shapes tensor_0:\[1,\?,\?,4\] says them"):
        tvmc.compile(path, output=module, output_format="so")
    shapes = {"tensor_0": (2, 9, 8, 4)}
    report = tvmc.compile(path, output=module, output_format="so", input_shapes=shapes)
    assert report.to_dict()["verification"].startswith("verified with LiteRT")


@pytest.mark.parametrize(("own", "shown"), [(b"x", ("x", "x_1")), (None, ("input_0", "input_1"))])
def test_inputs_of_equal_names(own: bytes | None, shown: tuple[str, str], tmp_path: Path) -> None:
    """LiteRT and modules tell them apart by the same names."""
    writer = ModelWriter()
    operands = [writer.tensor((2, 3)), writer.tensor((2, 3))]
    model = writer.finish(operands, [writer.node("SUB", operands, (2, 3))])
    edited = schema.ModelT.InitFromPackedBuf(model, 0)
    for tensor in edited.subgraphs[0].tensors:
        tensor.name = own
    path, module = tmp_path / "m.tflite", tmp_path / "m.so"
    path.write_bytes(packed(edited))
    tvmc.compile(path, output=module, output_format="so")
    values = {name: np.full((2, 3), 5 + 2 * i, np.float32) for i, name in enumerate(shown)}
    for runnable in (path, module):
        found = tvmc.run(runnable, inputs=values).outputs["output_0"]
        np.testing.assert_array_equal(found, np.full((2, 3), -2, np.float32))
