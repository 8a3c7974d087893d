"""Layers that their kernels pool: outputs as TFLite's, the arena as promised, and never whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType, load_delegate

import tvmc
from schedules.budget.arena import arena_bytes
from schedules.budget.problem import Solution, Unit
from schedules.budget.promise import placed
from schedules.lower.memory import align
from schedules.select import within
from tests.support.quantised_writer import QuantisedWriter
from tests.support.tflite_writer import Conv, ModelWriter
from tests.tflite_delegate.conftest import run
from tests.tflite_delegate.csrc.run.test_quantised_rows import check as check_codes
from tests.tflite_delegate.csrc.run.test_quantised_rows import images_of
from tflite_delegate.build import Report
from tflite_delegate.read.model import read
from tvmc.planning.plan_command import Curve, plan
from tvmc.running.interpreter import Session, runtime
from tvmc.running.probe import Probe

SHAPE = (1, 27, 22, 5)
OTHER_SHAPE = (2, 18, 31, 5)
#: Name, window, strides, scheme, activation.
Pool = tuple[str, tuple[int, int], tuple[int, int], str, str]
#: A layer, what is padded behind it (top, bottom, left, right), and its pool.
POOLED: Sequence[tuple[Conv, Sequence[int], Pool]] = [
    (Conv(16, activation="relu"), (1, 1, 1, 1), ("MAX_POOL_2D", (3, 3), (2, 2), "VALID", "none")),
    (Conv(7, activation="relu6"), (), ("MAX_POOL_2D", (2, 2), (2, 2), "VALID", "none")),
    (Conv(19, (5, 3), (2, 1)), (), ("MAX_POOL_2D", (3, 2), (2, 3), "SAME", "relu")),
    (Conv(8, (1, 1)), (), ("AVERAGE_POOL_2D", (3, 3), (1, 1), "SAME", "relu6")),
    (Conv(8, (3, 3), padding="VALID"), (), ("AVERAGE_POOL_2D", (2, 4), (3, 1), "VALID", "none")),
    (Conv(5, depthwise=True), (), ("MAX_POOL_2D", (2, 3), (1, 2), "SAME", "none")),
    (Conv(12, dilation=(2, 2)), (), ("MAX_POOL_2D", (1, 2), (3, 2), "VALID", "none")),
]  # fmt: skip


def add_pool(
    writer: ModelWriter, x: int, shape: Sequence[int], pool: Pool
) -> tuple[int, tuple[int, ...]]:
    name, window, strides, scheme, activation = pool
    same = scheme == "SAME"
    sizes = [
        -(-(size if same else size - extent + 1) // stride)
        for size, extent, stride in zip(shape[1:3], window, strides, strict=True)
    ]
    output = (shape[0], *sizes, shape[3])
    tensor = writer.node(
        name,
        [x],
        output,
        padding=getattr(schema.Padding, scheme),
        filterHeight=window[0],
        filterWidth=window[1],
        strideH=strides[0],
        strideW=strides[1],
        fusedActivationFunction=activation,
    )
    return tensor, output


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    writer = ModelWriter()
    image = writer.tensor(SHAPE)
    outputs = []
    for conv, pads, pool in POOLED:
        x, shape = writer.conv(image, SHAPE, conv)
        if pads:
            x, shape = writer.pad(x, shape, pads)
        outputs.append(add_pool(writer, x, shape, pool)[0])
    path = tmp_path / "pools.tflite"
    path.write_bytes(writer.finish([image], outputs))
    return path


def all_pooled(curve: Curve) -> Solution:
    """Whatever it costs, each layer with its pool, by turns in the fewest rows and in the most."""
    chosen = list(curve.solutions[-1].chosen)
    for unit in filter(lambda unit: unit.is_pooled, curve.problem.units):
        forms = sorted(unit.forms, key=lambda form: form.workspace)
        place = next(i for i, (other, _) in enumerate(chosen) if other.first == unit.first)
        chosen[place] = (unit, forms[-(unit.first % 2)])
    arena = max(Unit.need(*choice) for choice in chosen)
    weights = sum(form.weights for _, form in chosen)
    return Solution(0, arena, weights, 0, tuple(chosen))


def test_pooled_layers_compute_what_tflite_does(
    graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    curve = plan(graph)
    chosen = all_pooled(curve)
    assert {unit.first for unit, _ in chosen.chosen if unit.is_pooled} == set(range(len(POOLED)))
    monkeypatch.setattr(within, "fastest_within", lambda *_: chosen)
    library = tmp_path / "lib.so"
    report = tvmc.compile(graph, output=library, memory_limit=1 << 30)
    assert {layer.algorithm for layer in report.layers} == {"pooled_rows"}
    assert isinstance(report, Report) and not report.between and not report.left
    litert = runtime("litert")
    theirs = Session(graph, litert, xnnpack=False, threads=1)
    rng = np.random.default_rng(0)
    for threads in (1, 3):
        ours = Session(graph, litert, delegate=library, xnnpack=False, threads=threads)
        if threads == 1:
            arena = arena_bytes(placed(curve.network, chosen))
            assert align(Probe(ours.interpreter).arena_bytes()) == arena
        image = rng.standard_normal(SHAPE, np.float32)
        check(ours.run([image]), theirs.run([image]))
    # Of another size, plain C computes them.
    image = rng.standard_normal(OTHER_SHAPE, np.float32)
    check(run_resized(graph, image, [load_delegate(library)]), run_resized(graph, image, []))


#: Channels, kernel, stride, whether it is depthwise; a pool, its window and strides, whether SAME.
POOLED_CODES = (
    ((16, 3, 1, False), ("MAX_POOL_2D", (3, 3), (2, 2), True)),
    ((7, 5, 2, False), ("AVERAGE_POOL_2D", (3, 2), (2, 3), True)),
    ((5, 3, 1, True), ("AVERAGE_POOL_2D", (2, 4), (3, 1), False)),
    ((8, 1, 1, False), ("MAX_POOL_2D", (2, 2), (2, 2), False)),
)


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_pooled_codes_are_exact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    graph, library = tmp_path / "codes.tflite", tmp_path / "lib.so"
    writer, ends = QuantisedWriter(dtype, SHAPE), []
    for layer, pool in POOLED_CODES:
        image = writer.begin(SHAPE)
        writer.layer(*layer)
        writer.pool(*pool)
        ends.append((image, writer.last))
    inputs, outputs = zip(*ends, strict=True)
    graph.write_bytes(writer.finish(list(inputs), list(outputs)))
    curve = plan(graph)
    chosen = all_pooled(curve)
    assert len([unit for unit, _ in chosen.chosen if unit.is_pooled]) == len(POOLED_CODES)
    monkeypatch.setattr(within, "fastest_within", lambda *_: chosen)
    tvmc.compile(graph, output=library, memory_limit=1 << 30)
    litert = runtime("litert")
    theirs = Session(graph, litert, xnnpack=True, threads=1)
    images = images_of(theirs.interpreter)
    for threads in (1, 3):
        ours = Session(graph, litert, delegate=library, xnnpack=False, threads=threads)
        if threads == 1:
            arena = arena_bytes(placed(curve.network, chosen))
            assert align(Probe(ours.interpreter).arena_bytes()) == arena
        check_codes(ours.run(images), theirs.run(images))
    # Of another size, plain C computes them.
    images = [np.repeat(image, 2, axis=1) for image in images]
    found = []
    for delegates in ([load_delegate(library)], []):
        interpreter = Interpreter(str(graph), experimental_delegates=delegates)
        for detail in interpreter.get_input_details():
            interpreter.resize_tensor_input(detail["index"], images[0].shape)
        found.append(run(interpreter, images))
    check_codes(*found)


def run_resized(graph: Path, image: np.ndarray, delegates: Sequence[Any]) -> list[np.ndarray]:
    interpreter = Interpreter(
        str(graph),
        experimental_delegates=delegates,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    place = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(place, image.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(place, image)
    interpreter.invoke()
    return [interpreter.get_tensor(output["index"]) for output in interpreter.get_output_details()]


def check(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> None:
    for output, expected in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(output, expected, rtol=1e-4, atol=2e-5)


def test_what_another_reader_needs_is_not_pooled(tmp_path: Path) -> None:
    writer = ModelWriter()
    image = writer.tensor(SHAPE)
    # The first is an output as well; what is padded with zeros may be negative, or is averaged.
    conv, _, pool = POOLED[0]
    seen, shape = writer.conv(image, SHAPE, conv)
    outputs = [seen, add_pool(writer, seen, shape, pool)[0]]
    for activation, name in (("none", "MAX_POOL_2D"), ("relu", "AVERAGE_POOL_2D")):
        x, shape = writer.conv(image, SHAPE, replace(conv, activation=activation))
        x, shape = writer.pad(x, shape, (1, 1, 1, 1))
        outputs.append(add_pool(writer, x, shape, (name, *pool[1:]))[0])
    path = tmp_path / "seen.tflite"
    path.write_bytes(writer.finish([image], outputs))
    assert not read(path).pooled


def test_layers_of_several_groups_are_not_pooled_by_their_kernels(tmp_path: Path) -> None:
    """AlexNet has one: a kernel computes a group of it, whose pixels lie apart."""
    writer, shape = ModelWriter(), (1, 12, 12, 8)
    image = writer.tensor(shape)
    x, computed = writer.conv(image, shape, Conv(8, groups=2))
    output, _ = add_pool(writer, x, computed, POOLED[1][2])
    path = tmp_path / "groups.tflite"
    path.write_bytes(writer.finish([image], [output]))
    assert not read(path).pooled
    assert plan(path).solutions
