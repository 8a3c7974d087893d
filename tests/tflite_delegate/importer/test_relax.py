"""What TVM's importer is told, and what it says, in one line."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tflite
import tvm
from tvm import relax

from schedules.errors import LeanconvError
from schedules.layer.network import DENSE
from schedules.relax import network as relax_network
from schedules.target.simd import Simd
from tests.tflite_delegate.csrc.layer.test_merge import zoo_model
from tflite_delegate.importer.relax import import_model
from tflite_delegate.read.model import read
from tflite_delegate.targeted import read_for


def folded(module: tvm.IRModule) -> relax_network.RelaxNetwork:
    module = relax.transform.FoldConstant()(module)
    functions = {variable.name_hint: f for variable, f in module.functions_items()}
    return relax_network.read("main", module["main"], functions)


def test_layers_are_those_of_the_delegate(trained_models: Path) -> None:
    """Two readers, of the file and of what TVM makes of it, see the same layers."""
    path = trained_models / "mobilenet_96_float.tflite"
    ours, theirs = read(path), folded(import_model(path))
    assert [la.workload for la in ours.layers] == [la.workload for la in theirs.layers]
    assert [la.geometry for la in ours.layers] == [la.geometry for la in theirs.layers]
    assert ours.chains == theirs.chains


def test_neighbours_are_those_of_the_delegate(tmp_path: Path) -> None:
    """Of images; Relax reshapes between the rows of a dense layer and what is added to them."""
    path = tmp_path / "units.tflite"
    path.write_bytes(zoo_model())
    ours, theirs = (
        [layer.workload for layer in network.layers if layer.kind != DENSE]
        for network in (read(path), folded(import_model(path)))
    )
    assert ours == theirs


def test_int8_weights_stay(trained_models: Path) -> None:
    """Of float32 operators; two readers see the same layers, by the same rules."""
    path = trained_models / "dscnn_hybrid.tflite"
    ours, theirs = read_for(path, Simd.named("host")), folded(import_model(path))
    assert [la.workload for la in ours.layers] == [la.workload for la in theirs.layers]
    weights = theirs.constants[theirs.layers[0].index].weights
    assert weights.dtype == np.int8


def test_batch(made_model: Callable[[str], Path]) -> None:
    path = made_model("small")
    graph = tflite.Model.GetRootAs(path.read_bytes(), 0).Subgraphs(0)
    name = graph.Tensors(graph.Inputs(0)).Name().decode()
    network = folded(import_model(path, {name: (3, 32, 32, 3)}))
    assert {layer.workload.batch for layer in network.layers[:-1] if layer.workload} == {3}


def test_refused(trained_models: Path, tmp_path: Path, made_model: Callable[[str], Path]) -> None:
    path = trained_models / "resnet8_float.tflite"
    with pytest.raises(LeanconvError, match="has no input 'image': serving_default_image:0"):
        import_model(path, {"image": (1, 32, 32, 3)})
    with pytest.raises(LeanconvError, match="only its first size can be another, not 1x64x32x3"):
        import_model(path, {"serving_default_image:0": (1, 64, 32, 3)})
    with pytest.raises(LeanconvError, match="does not exist"):
        import_model(tmp_path / "nothing.tflite")
    empty = tmp_path / "cut.tflite"
    empty.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(LeanconvError, match=r"cut\.tflite is damaged") as error:
        import_model(empty)
    assert "\n" not in str(error.value)


def test_a_failed_import_says_one_thing(trained_models: Path, tmp_path: Path) -> None:
    """Neither TVM's C++ nor anything at the end of the process adds to it."""
    data = bytearray((trained_models / "resnet8_float.tflite").read_bytes())
    model = tflite.Model.GetRootAs(data, 0)
    operators = [model.OperatorCodes(i) for i in range(model.OperatorCodesLength())]
    softmax = next(o for o in operators if o.BuiltinCode() == tflite.BuiltinOperator.SOFTMAX)
    for field in (4, 10):  # deprecated_builtin_code, builtin_code
        place = softmax._tab.Offset(field)
        if place:
            data[softmax._tab.Pos + place] = tflite.BuiltinOperator.BIDIRECTIONAL_SEQUENCE_RNN
    path = tmp_path / "rnn.tflite"
    path.write_bytes(data)
    command = [sys.executable, "-m", "tvmc", "compile", str(path), "-f", "so"]
    done = subprocess.run(
        [*command, "-o", str(tmp_path / "m.so")], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"tvmc: error: TVM cannot import {path}: ")
    assert not (tmp_path / "m.so").exists()
