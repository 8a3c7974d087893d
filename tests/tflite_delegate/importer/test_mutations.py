"""Damaged models are imported or refused in one line, never with a crash or a traceback."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.conftest import TRAINED
from tests.support.mutations import survives
from tests.support.tflite_writer import Conv, Dense, ModelWriter

#: Mutations of each of the trained models, 3,000 in all.
EACH = 500


def model() -> bytes:
    """Convolutions, constants of float16, a dilation, and sizes that the graph computes."""
    writer = ModelWriter()
    x = writer.tensor((1, 8, 8, 4), dynamic_batch=True)
    image, shape = writer.conv(x, (1, 8, 8, 4), Conv(4, weight_type="float16"), dynamic_batch=True)
    block, pads, crops = (
        writer.constant(np.array(v, np.int32)) for v in ((2, 2), ((2, 2), (2, 2)), ((0, 0), (0, 0)))
    )
    cut = writer.node("SPACE_TO_BATCH_ND", [image, block, pads], (4, 6, 6, 4))
    small, small_shape = writer.conv(cut, (4, 6, 6, 4), Conv(4, padding="VALID", depthwise=True))
    assert small_shape == (4, 4, 4, 4)
    image = writer.node("BATCH_TO_SPACE_ND", [small, block, crops], shape)
    sizes = writer.node("SHAPE", [image], (4,), "int32", outType=2)
    places = [writer.constant(np.array([n], np.int32)) for n in (0, 1, 1)]
    batch = writer.node("STRIDED_SLICE", [sizes, *places], (), "int32", shrinkAxisMask=1)
    rest = writer.constant(np.array(256, np.int32))
    target = writer.node("PACK", [batch, rest], (2,), "int32", valuesCount=2)
    flat = writer.node("RESHAPE", [image, target], (1, 256))
    dense, _ = writer.dense(flat, (1, 256), Dense(3))
    return writer.finish([x], [writer.node("SOFTMAX", [dense], (1, 3), beta=1.0)])


def test_mutations(repo_root: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(model())
    told = survives("mutations", ["module", path, 0, 0, 150], repo_root, 300)
    assert {entry.split("=")[0] for entry in told.split()} == {"module", "refusal"}


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_mutations_of_trained_models(repo_root: Path, trained_models: Path, name: str) -> None:
    arguments = ["module", trained_models / f"{name}.tflite", 1, 0, EACH]
    survives("mutations", arguments, repo_root, 3600)
