"""Kernels for several images of a batch in LiteRT, whatever the batch turns out to be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schedules.errors import LeanconvError
from schedules.plan.plan import Plan
from schedules.plan.planner import plan_kernel
from schedules.target.simd import Simd
from tests.support.kernels import error_bound
from tests.support.reference import conv2d
from tests.support.tflite_writer import Conv, Dense, ModelWriter
from tests.tflite_delegate.conftest import InterpreterApi, random_inputs, read_report, run
from tflite_delegate.build import Report, build

#: No weights stay in these caches.
SIMD = replace(Simd.named("host"), l1_bytes=1024, l2_bytes=2048)
BATCH = 6
#: Input of one image, and the layer behind it.
LAYERS: dict[str, tuple[tuple[int, ...], Any]] = {
    "3x3": ((1, 9, 9, 24), Conv(32, activation="relu")),
    "3x3, stride 2": ((1, 9, 8, 24), Conv(21, stride=(2, 2))),
    "1x1": ((1, 5, 6, 40), Conv(33, (1, 1), activation="relu6")),
    "depthwise": ((1, 8, 9, 16), Conv(16, depthwise=True)),
    "groups": ((1, 7, 7, 24), Conv(36, groups=3)),
    "dense": ((1, 48), Dense(40)),
    "added": ((1, 6, 6, 40), Conv(40)),
}
ALGORITHMS = ("winograd", "indirect", "depthwise")


def model(batch: int = 1) -> bytes:
    """All layers side by side; to the last one, an input of one image is added."""
    writer = ModelWriter()
    inputs, outputs = [], []
    for shape, layer in LAYERS.values():
        shape = (batch, *shape[1:])
        inputs.append(writer.tensor(shape))
        add = writer.dense if isinstance(layer, Dense) else writer.conv
        outputs.append(add(inputs[-1], shape, layer)[0])
    inputs.append(writer.tensor(LAYERS["added"][0]))
    outputs[-1] = writer.node("ADD", [outputs[-1], inputs[-1]], (batch, 6, 6, 40))
    return writer.finish(inputs, outputs)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    folder = tmp_path_factory.mktemp("batches")
    (folder / "model.tflite").write_bytes(model())
    options: dict[str, Any] = {"algorithms": ALGORITHMS, "batch": BATCH}
    report = build(folder / "model.tflite", folder / "batches.so", SIMD, **options)
    return folder / "batches.so", report


def check(name: str, x: np.ndarray, y: np.ndarray, plan: Plan, added: np.ndarray) -> None:
    """``y`` is within the error bound of the algorithm."""
    _, layer = LAYERS[name]
    weights, bias = layer.constants(x.shape[-1])
    workload = layer.workload(x.shape)
    residual = None
    if name == "added":
        workload = replace(workload, residual=True)
        residual = np.broadcast_to(added, y.shape)
    image, weights = x.reshape(workload.input_shape), weights.reshape(workload.weight_shape)
    exact, direct = conv2d(workload, image, weights, bias, residual)
    bound = error_bound(plan, workload, image, weights, bias, direct, residual)
    assert (abs(y.reshape(exact.shape) - exact) <= bound).all(), f"{name}, {len(x)} images"


@pytest.mark.parametrize("one_node", ["0", "1"])
def test_any_batch(
    built: tuple[Path, Report], litert: InterpreterApi, tmp_path: Path, one_node: str
) -> None:
    """Whole calls; one image; a last call that computes some images again; and more of each."""
    library, report = built
    images = int((report.layers[0].why or "").split()[0])
    assert images in (2, 3, 6)
    delegate = litert.load_delegate(str(library), {"one_node": one_node})
    interpreter = litert.open(model(), delegate)
    for batch in (BATCH, 1, 4, 7, 13):
        for detail in interpreter.get_input_details()[:-1]:
            interpreter.resize_tensor_input(detail["index"], [batch, *detail["shape"][1:]])
        interpreter.allocate_tensors()
        *inputs, added = random_inputs(interpreter, seed=batch)
        outputs = run(interpreter, [*inputs, added])
        live = read_report(library, delegate)["layers"]
        assert not any(layer["generic_calls"] for layer in live)
        for name, x, y, layer in zip(LAYERS, inputs, outputs, report.layers, strict=True):
            algorithm = layer.algorithm or "it is claimed"
            plan = plan_kernel(LAYERS[name][1].workload(x.shape).of_one_kernel(), SIMD, algorithm)
            check(name, x, y, plan, added)
        names = {name: entry["name"] for name, entry in zip(LAYERS, live, strict=True)}
        assert (f" {images}x9x9x24" in names["3x3"]) == (batch >= images)
        assert "x6x6x40" not in names["added"]  # the same image is added to each


def test_a_model_of_a_batch_needs_no_option(tmp_path: Path, litert: InterpreterApi) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(model(BATCH))
    with pytest.raises(LeanconvError, match="is for a batch already: node 0 computes 6 images"):
        build(path, tmp_path / "batches.so", SIMD, algorithms=ALGORITHMS, batch=2)
    report = build(path, tmp_path / "batches.so", SIMD, algorithms=ALGORITHMS)
    why = [layer.why or "" for layer in report.layers]
    assert "images of a batch share weights" in why[0]
    assert "share weights" not in why[4]  # groups are computed one by one
