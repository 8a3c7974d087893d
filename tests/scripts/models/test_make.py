"""make_models.py: what it makes, when it makes it again, and its errors."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from schedules.errors import LeanconvError
from scripts.models.layers import LAYERS, ConvLayer
from scripts.models.make import RECIPES, ensure, main
from scripts.models.trained import TRAINED
from tflite_delegate.read import model as tflite_model
from tvmc.running.interpreter import Session, runtime


def test_layers_are_what_their_names_say() -> None:
    for layer, path in zip(LAYERS, ensure([layer.name for layer in LAYERS]), strict=True):
        (found,) = tflite_model.read(path).layers
        workload = found.workload
        assert workload is not None
        assert workload.input_shape == (1, layer.in_height, layer.in_width, layer.in_channels)
        assert workload.weight_shape[1:3] == (layer.kernel, layer.kernel)
        assert workload.output_shape[3] == layer.out_channels
        assert (workload.stride_height, workload.stride_width) == (layer.stride, layer.stride)
        assert workload.activation == "relu"
        assert workload.macs == layer.macs
    assert str(LAYERS[-1]) == "224x224x3 3x3 s2 -> 32"
    assert ConvLayer(56, 56, 64, 3, 1, 64).name == "conv-56x56x64-3x3-64"


def test_the_coverage_network_covers() -> None:
    """Strides 1 to 3, dilation 2, SAME and VALID, the kernels and the odd channel counts."""
    (path,) = ensure(["coverage"])
    workloads = [la.workload for la in tflite_model.read(path).layers if la.workload is not None]
    assert {w.stride_height for w in workloads} >= {1, 2, 3}
    assert {(w.dilation_height, w.is_padded) for w in workloads} >= {(2, True), (2, False)}
    kernels = {(w.kernel_height, w.kernel_width) for w in workloads}
    assert kernels >= {(1, 1), (3, 3), (5, 5), (7, 1)}
    assert {(w.is_padded, w.kernel_height) for w in workloads} >= {(False, 3), (True, 3), (True, 5)}
    channels = {w.in_channels for w in workloads} | {w.out_channels for w in workloads}
    assert channels >= {1, 3, 10, 17, 24, 33, 255}
    assert {w.activation for w in workloads} >= {"none", "relu", "relu6"}


@pytest.mark.parametrize("name", ["resnet8_float", "mobilenet_96_float", "dscnn_hybrid"])
def test_trained_networks_know_their_classes(name: str, trained_models: Path) -> None:
    task = TRAINED[name.rpartition("_")[0]]
    images, labels = task.images(50, seed=2)
    session = Session(trained_models / f"{name}.tflite", runtime("litert"), xnnpack=False)
    outputs = np.array([session.run([image[None]])[0][0] for image in images])
    assert (outputs.argmax(-1) == labels).mean() > 0.9


def test_a_model_is_made_once(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    name = LAYERS[-1].name
    (path,) = ensure([name], tmp_path)
    first = (path.stat().st_mtime_ns, path.read_bytes())
    assert main(["--out", str(tmp_path), name]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"kept {path} (")
    assert (path.stat().st_mtime_ns, path.read_bytes()) == first
    # Made by another version of the script: the same again, bit for bit.
    (tmp_path / f"{name}.made-by").write_text("an older one")
    ensure([name], tmp_path)
    assert path.stat().st_mtime_ns > first[0]
    assert path.read_bytes() == first[1]
    assert sorted(os.listdir(tmp_path)) == [f"{name}.made-by", f"{name}.tflite"]


def test_list_and_errors(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["--list"]) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert names == list(RECIPES)
    assert main(["--out", str(tmp_path), "nasnet"]) == 2
    assert capsys.readouterr().err.startswith("models.make: error: unknown model 'nasnet': one of ")
    with pytest.raises(LeanconvError, match="unknown model 'nasnet'"):
        ensure(["nasnet"])
    in_the_way = tmp_path / "file"
    in_the_way.touch()
    with pytest.raises(LeanconvError, match=r"could not make small: models\.make: error: "):
        ensure(["small"], in_the_way)
