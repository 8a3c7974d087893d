"""What there is to tune in a model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from schedules.layer.block import Block, workload_from_text
from schedules.target.simd import Simd
from schedules.tuning.records.task import Task
from tests.support.hybrid_models import HybridLayer, model
from tests.support.tflite_writer import Conv, ModelWriter
from tflite_delegate.read import model as tflite_model
from tflite_delegate.tasks import tasks

SIMD = Simd.named("cortex-a76")


def network(path: Path, *convs: Conv, batch: int = 1) -> tflite_model.Model:
    """Layers of 8 channels, one after the other."""
    writer = ModelWriter()
    shape: tuple[int, ...] = (batch, 12, 12, 8)
    y = x = writer.tensor(shape)
    for conv in convs:
        y, shape = writer.conv(y, shape, conv)
    path.write_bytes(writer.finish([x], [y]))
    return tflite_model.read(path)


def texts(found: list[Task]) -> dict[str, int]:
    return {task.workload.to_text(): task.count for task in found}


def test_layers_before_blocks_each_once(tmp_path: Path) -> None:
    depthwise, pointwise = Conv(8, depthwise=True), Conv(8, (1, 1))
    model = network(tmp_path / "a.tflite", depthwise, pointwise, depthwise, pointwise, Conv(8))
    found = tasks([model], SIMD)
    one, two = "12x12x8->8 k3x3 p1,1,1,1 g8", "12x12x8->8 k1x1"
    assert texts(found) == {
        one: 2, two: 2, "12x12x8->8 k3x3 p1,1,1,1": 1,
        f"{one} | {two}": 2, f"{two} | {one} | {two}": 1,
    }  # fmt: skip
    assert [task.is_block for task in found] == [False, False, False, True, True]
    for task in found:
        assert workload_from_text(task.workload.to_text()) == task.workload


def test_groups_batches_and_several_models(tmp_path: Path) -> None:
    grouped = network(tmp_path / "a.tflite", Conv(8, groups=4), batch=3)
    plain = network(tmp_path / "b.tflite", Conv(8), Conv(8, groups=4))
    found = tasks([grouped, plain, plain], SIMD)
    assert texts(found) == {
        "12x12x2->2 k3x3 p1,1,1,1 of4": 3 * 4 + 2 * 4,
        "12x12x8->8 k3x3 p1,1,1,1": 2,
    }


def test_blocks_that_no_kernel_computes(tmp_path: Path) -> None:
    """A depthwise layer with more outputs than inputs."""
    model = network(tmp_path / "a.tflite", Conv(16, depthwise=True), Conv(8, (1, 1)))
    assert len(model.chains) == 1
    assert [isinstance(task.workload, Block) for task in tasks([model], SIMD)] == [False, False]


def test_floats_with_int8_weights(tmp_path: Path) -> None:
    """All whose int8 do not depend on the rule that finds them: not a symmetric one."""
    path, layer = tmp_path / "model.tflite", HybridLayer((1, 6, 6, 8), Conv(8))
    symmetric = replace(layer, per_channel=False)
    path.write_bytes(model([layer, symmetric, replace(layer, dequantized=True)]))
    found = [task.workload for task in tasks([tflite_model.read(path)], SIMD)]
    assert [workload.layers[0].rounding for workload in found] == ["builtin_asymmetric", ""]
