"""Single nodes of networks that have tensors without dimensions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scripts.benchmarks.harness.node_times import single_nodes
from tests.support.tflite_writer import ModelWriter
from tvmc.running.interpreter import Session, runtime


@pytest.mark.parametrize("batch", [1, 3])
def test_a_scalar_has_no_batch(batch: int, tmp_path: Path) -> None:
    """Its node runs for any batch, and what goes into it has that batch."""
    writer = ModelWriter()
    x = writer.tensor((1, 2, 3))
    mean = writer.node("MEAN", [x, writer.constant(np.arange(3, dtype=np.int32))], ())
    y = writer.node("LOGISTIC", [mean], ())
    model = tmp_path / "model.tflite"
    model.write_bytes(writer.finish([x], [y]))
    values = np.arange(batch * 6, dtype=np.float32).reshape(batch, 2, 3)
    expected = {"MEAN": (values, values.mean()), "LOGISTIC": (np.float32(0), 0.5)}
    for name, data in single_nodes(model, batch):
        path = tmp_path / f"{name}.tflite"
        path.write_bytes(data)
        given, result = expected.pop(name)
        (output,) = Session(path, runtime("litert"), xnnpack=False).run([np.asarray(given)])
        assert output.shape == ()
        assert output == pytest.approx(result)
    assert not expected
