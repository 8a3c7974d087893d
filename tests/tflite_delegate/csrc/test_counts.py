"""Executed instructions on the emulated board: exact, so that they can be asserted."""

from __future__ import annotations

from pathlib import Path

import pytest

from schedules.target.simd import PRESETS
from scripts.board.board import Board
from scripts.board.count import count as count_model
from tests.support import tflite_writer
from tflite_delegate.build import build


def count(
    tmp_path: Path, cpu: str, size: int, channels: int, outputs: int, algorithm: str = "indirect"
) -> dict[str, int]:
    """Instructions of one 3x3 convolution through the delegate."""
    model = tmp_path / "model.tflite"
    layer = tflite_writer.Conv(outputs, (3, 3), activation="relu")
    model.write_bytes(tflite_writer.single_conv((1, size, size, channels), layer))
    library = tmp_path / "libdelegate.so"
    build(model, library, PRESETS[cpu], algorithms=[algorithm])
    emulated = Board.default()
    emulated.setup()
    return count_model(emulated, model, "builtin", cpu, delegate=library)


@pytest.mark.parametrize("cpu", ["cortex-a53", "cortex-a72", "cortex-a76"])
def test_borders_cost_no_multiply_adds(cpu: str, tmp_path: Path) -> None:
    """Exactly the products of pixels inside the image are computed, one vector at a time."""
    size, channels, outputs = 15, 8, 240
    counted = count(tmp_path, cpu, size, channels, outputs)
    products = (3 * size - 2) ** 2 * channels * outputs
    assert counted["v_fma"] == products / PRESETS[cpu].lanes("float32")


@pytest.mark.parametrize(("algorithm", "most"), [("indirect", 34e6), ("winograd", 10.8e6)])
def test_a_resnet_layer_takes_fewer_instructions_than_xnnpack(
    algorithm: str, most: float, tmp_path: Path
) -> None:
    """56x56x64->64, for which XNNPACK's kernels for this core take 38.2 million."""
    assert count(tmp_path, "cortex-a76", 56, 64, 64, algorithm)["total"] <= most
