"""Which kernels a model gets when its layers and blocks are on record."""

from __future__ import annotations

from pathlib import Path

import pytest

from schedules.errors import LeanconvError
from schedules.layer.network import block_of, of_one_kernel
from schedules.plan.plan import Plan
from schedules.plan.planner import NO_LIMITS
from schedules.select.promised import promise_of
from schedules.select.selection import Selection
from schedules.target.simd import Simd
from schedules.tuning.records.records import Record
from tests.support.tflite_writer import Conv, ModelWriter
from tests.support.trials import record
from tflite_delegate.read import model as tflite_model
from tflite_delegate.selection import select

SIMD = Simd.named("cortex-a76")
#: An inverted residual block, and a layer of its own behind it.
CONVS = [
    Conv(48, (1, 1), activation="relu6"),
    Conv(48, depthwise=True, activation="relu6", seed=1),
    Conv(16, (1, 1), seed=2),
    Conv(32, seed=3),
]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[tflite_model.Model]:
    """With images of 14x14, and of 56x56: too large for the L2 cache between the layers."""
    return [written(tmp_path_factory.mktemp("selection") / "m.tflite", size) for size in (14, 56)]


@pytest.fixture
def model(models: list[tflite_model.Model]) -> tflite_model.Model:
    return models[0]


def written(path: Path, size: int) -> tflite_model.Model:
    writer = ModelWriter()
    shape: tuple[int, ...] = (1, size, size, 16)
    y = x = writer.tensor(shape)
    for conv in CONVS:
        y, shape = writer.conv(y, shape, conv)
    path.write_bytes(writer.finish([x], [y]))
    network = tflite_model.read(path)
    assert network.chains == ((0, 1, 2), (1, 2))
    return network


def chosen(
    model: tflite_model.Model,
    records: list[Record],
    algorithms: tuple[str, ...] = ("auto",),
    objective: str = "time",
) -> Selection:
    return select(model.path, SIMD, algorithms, NO_LIMITS, objective, records)[0]


def layer(model: tflite_model.Model, position: int, choice: str, milliseconds: float) -> Record:
    workload = model.layers[position].workload
    assert workload is not None
    return record(of_one_kernel(workload), SIMD, choice, milliseconds)


def layers_of_block(model: tflite_model.Model) -> list[Record]:
    """1 ms each."""
    algorithms = ("indirect", "depthwise", "indirect")
    return [layer(model, position, name, 1.0) for position, name in enumerate(algorithms)]


def block(model: tflite_model.Model, chain: tuple[int, ...], milliseconds: float) -> Record:
    return record(block_of(model, chain), SIMD, "fused_block", milliseconds)


def peak_and_packed(selection: Selection) -> tuple[int, int]:
    promise = promise_of(selection)
    return promise.arenas[0][1], promise.packed_bytes


def plan_of(selection: Selection, position: int = 3) -> Plan:
    return selection.layers[position].kernels[0].plan


def test_without_records(models: list[tflite_model.Model]) -> None:
    """The planner fuses the layers of the large images."""
    selections = [chosen(model, []) for model in models]
    assert [set(selection.blocks) for selection in selections] == [set(), {(0, 1, 2)}]
    for selection in selections:
        assert selection.advisor is None
        assert {kernel.tuning for kernel in selection.kernels} == {None}


def test_what_is_on_record_and_what_is_not(model: tflite_model.Model) -> None:
    best = layer(model, 3, "indirect:columns=3:panel=8", 0.5)
    selection = chosen(model, [layer(model, 3, "winograd", 1.0), best])
    kernel = selection.layers[3].kernels[0]
    assert kernel.tuning == "tuned"
    assert kernel.seconds == pytest.approx(5e-4)
    assert kernel.plan.knobs == best.candidate.knobs
    assert kernel.name.endswith("indirect")
    assert selection.layers[0].kernels[0].tuning == "default"


@pytest.mark.parametrize(
    ("algorithms", "names"),
    [
        (("mec",), ["mec"]),
        (("indirect:panel=16",), ["indirect"]),
        (("auto", "mec", "indirect"), ["mec", "indirect"]),
        (("winograd", "auto"), ["winograd", "mec"]),
    ],
)
def test_algorithms_by_name_keep_their_own_records(
    model: tflite_model.Model, algorithms: tuple[str, ...], names: list[str]
) -> None:
    """mec is the fastest; of indirect, another panel than the one that may be asked for."""
    records = [
        layer(model, 3, "mec:columns=2", 0.1),
        layer(model, 3, "indirect:panel=8", 0.2),
        layer(model, 3, "indirect:panel=16:columns=3", 0.3),
        layer(model, 3, "winograd:columns=2", 0.4),
    ]
    kernels = chosen(model, records, algorithms).layers[3].kernels
    assert [kernel.plan.algorithm for kernel in kernels] == names
    assert [kernel.tuning for kernel in kernels] == ["tuned"] * len(names)
    knobs = kernels[0].plan.knobs
    if algorithms == ("indirect:panel=16",):
        assert (knobs["panel"], knobs["columns"]) == (16, 3)
    elif names[0] != "indirect":
        assert knobs["columns"] == 2


@pytest.mark.parametrize("objective", ["memory", "least-memory"])
def test_memory_as_the_objective_takes_no_more_of_it(objective: str, tmp_path: Path) -> None:
    writer = ModelWriter()
    x = writer.tensor((1, 14, 14, 16))
    y, _ = writer.conv(x, (1, 14, 14, 16), CONVS[3])
    path = tmp_path / "layer.tflite"
    path.write_bytes(writer.finish([x], [y]))
    model = tflite_model.read(path)
    untuned = plan_of(chosen(model, [], objective=objective), 0)
    assert "of the whole network" in untuned.why
    records = [
        layer(model, 0, "winograd", 0.1),
        layer(model, 0, "im2col_tiled", 0.2),
        layer(model, 0, "indirect:columns=3:panel=8:weights=in_place", 0.3),
    ]
    tuned = plan_of(chosen(model, records, objective=objective), 0)
    assert tuned.held_bytes <= untuned.held_bytes
    assert tuned.workspace_bytes <= untuned.workspace_bytes
    if objective == "least-memory":
        assert untuned.held_bytes <= untuned.layer.weight_bytes
        assert tuned.knobs["columns"] == 3
    assert plan_of(chosen(model, records), 0).algorithm == "winograd"


def test_objectives_are_points_of_the_curve(model: tflite_model.Model) -> None:
    """Of the whole network; what lies between the layers of a chain is not held."""
    held = {
        objective: sum(peak_and_packed(chosen(model, [], objective=objective)))
        for objective in ("time", "memory", "least-memory")
    }
    assert held["least-memory"] < held["memory"] < held["time"]


def test_an_objective_of_bytes_is_for_auto_alone(model: tflite_model.Model) -> None:
    with pytest.raises(LeanconvError, match="objective 'memory' is for auto alone"):
        chosen(model, [], ("im2col", "auto"), objective="memory")
    selection = chosen(model, [], ("im2col",), objective="memory")
    assert (selection.objective, plan_of(selection).algorithm) == ("memory", "im2col")


# Blocks


def test_a_block_that_is_faster_than_its_layers(model: tflite_model.Model) -> None:
    """They take 3 ms."""
    selection = chosen(model, [*layers_of_block(model), block(model, (0, 1, 2), 2.6)])
    ((chain, kernel),) = selection.blocks.items()
    assert chain == (0, 1, 2)
    assert kernel.tuning == "tuned"
    assert kernel.seconds == pytest.approx(2.6e-3)
    assert "faster than its layers one by one; tuned: 2.6 ms" in kernel.plan.why


def test_a_block_that_is_slower_than_its_layers(models: list[tflite_model.Model]) -> None:
    """They take 3 ms, the last two of them 2 ms."""
    slow = [block(models[1], (0, 1, 2), 3.4), block(models[1], (1, 2), 2.3)]
    selection = chosen(models[1], [*layers_of_block(models[1]), *slow])
    assert selection.blocks == {}
    assert [plan_of(selection, i).algorithm for i in range(2)] == ["indirect", "depthwise"]


def test_the_block_that_saves_most(model: tflite_model.Model) -> None:
    blocks = [block(model, (0, 1, 2), 2.6), block(model, (1, 2), 1.5)]
    assert set(chosen(model, layers_of_block(model) + blocks).blocks) == {(1, 2)}


def test_a_block_that_is_about_as_fast(models: list[tflite_model.Model]) -> None:
    """The planner's model decides."""
    for model, fused in zip(models, ([], [(0, 1, 2)]), strict=True):
        for milliseconds in (2.8, 3.2):
            close = [block(model, (0, 1, 2), milliseconds), block(model, (1, 2), 2.0)]
            selection = chosen(model, [*layers_of_block(model), *close])
            assert list(selection.blocks) == fused


def test_a_block_with_layers_that_are_not_on_record(models: list[tflite_model.Model]) -> None:
    """The planner's model decides as without records; knobs are those on record."""
    for model, fused in zip(models, ([], [(0, 1, 2)]), strict=True):
        trial = record(block_of(model, (0, 1, 2)), SIMD, "fused_block:project_columns=3", 9.0)
        selection = chosen(model, [trial, *layers_of_block(model)[:2]])
        assert list(selection.blocks) == fused
        for kernel in selection.blocks.values():
            assert kernel.plan.knobs == trial.candidate.knobs
            assert "saves time and the memory of what lies between; tuned: 9 ms" in kernel.plan.why


def test_records_for_another_target(model: tflite_model.Model) -> None:
    workload = model.layers[3].workload
    assert workload is not None
    other = record(of_one_kernel(workload), Simd.named("cortex-a53"), "mec", 1.0)
    with pytest.raises(LeanconvError, match="no records for cortex-a76, but for cortex-a53"):
        chosen(model, [other])
