"""Convolutions of volumes in modules: imported, computed by kernels, or left to TVM."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tvm
from tvm import relax

from schedules.relax.transform import FunctionReport, schedule_convolutions
from schedules.target.simd import Simd
from tests.support.imported import imported, litert
from tests.support.volumes import VOLUMES, volume_model
from tflite_delegate.importer.relax import import_model

HOST = Simd.named("host")
LAYERS = [VOLUMES[name] for name in ("strides", "dilated and padded", "float16")]


@pytest.mark.parametrize("by_kernels", [True, False])
def test_module_agrees_with_litert(tmp_path: Path, by_kernels: bool) -> None:
    model, random = volume_model(LAYERS), np.random.default_rng(0)
    inputs = [random.uniform(-1, 1, shape).astype(np.float32) for shape, _ in LAYERS]
    if by_kernels:
        path, reports = tmp_path / "model.tflite", list[FunctionReport]()
        path.write_bytes(model)
        made = schedule_convolutions(HOST, report=reports.append)(import_model(path))
        machine = relax.VirtualMachine(
            tvm.compile(made, target=tvm.target.Target(HOST.target)), tvm.cpu()
        )
        found = [value.numpy() for value in machine["main"](*map(tvm.runtime.tensor, inputs))]
        (report,) = reports
        chosen = [layer.kernels[0].plan.algorithm for layer in report.selection.layers]
        assert chosen == ["indirect3d"] * len(LAYERS)
    else:
        found = imported(model, tmp_path, inputs)
    for ours, theirs in zip(found, litert(model, inputs), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-5)
