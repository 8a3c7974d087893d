"""Sums that lie in the place of an operand: outputs, and the arena, as planned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, load_delegate

import tvmc
from schedules.algorithms.base import INPUT
from schedules.lower.memory import align
from schedules.target.simd import Simd
from tests.scripts.tvmc.test_pooled import add_pool, check, run_resized
from tests.support.tflite_writer import Conv, ModelWriter
from tests.tflite_delegate.conftest import run
from tflite_delegate.build import build
from tvmc.planning.plan_command import plan
from tvmc.running.interpreter import Session, runtime
from tvmc.running.probe import Probe

SHAPE, OTHER_SHAPE = (1, 23, 18, 5), (2, 19, 26, 5)
#: The layers of each block. The last has no activation but that of the sum.
BLOCKS = (
    (Conv(20, seed=1), Conv(20, seed=2)),
    (Conv(7, (1, 1), seed=3), Conv(7, dilation=(2, 1), seed=4), Conv(20, (1, 1), seed=5)),
    (Conv(20, (5, 5), depthwise=True, seed=6), Conv(20, (1, 1), seed=7)),
)


def pooled(writer: ModelWriter, x: int, shape: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
    """An operator between blocks, which is in no chain."""
    return add_pool(writer, x, shape, ("AVERAGE_POOL_2D", (3, 3), (1, 1), "SAME", "none"))


def blocks() -> bytes:
    writer = ModelWriter()
    image = writer.tensor(SHAPE)
    x, shape = pooled(writer, *writer.conv(image, SHAPE, Conv(20)))
    for layers in BLOCKS:
        source = x
        for layer in layers:
            x, shape = writer.conv(x, shape, layer)
        x, shape = pooled(writer, writer.node("ADD", [x, source], shape), shape)
    return writer.finish([image], [x])


def projections(shape: tuple[int, ...] = SHAPE) -> bytes:
    """Sums whose residual nobody else reads, and one that is the layer's input as well."""
    writer = ModelWriter()
    image = writer.tensor(shape)
    x, shape = pooled(writer, *writer.conv(image, shape, Conv(24)))
    for channels, size in ((37, 3), (16, 1)):
        shortcut, _ = writer.conv(x, shape, Conv(channels, (1, 1), seed=channels))
        inner, inside = writer.conv(x, shape, Conv(19, seed=size, activation="relu"))
        x, shape = writer.conv(inner, inside, Conv(channels, (size, size), seed=channels + 1))
        x = writer.node("ADD", [x, shortcut], shape)
    y, shape = writer.conv(x, shape, Conv(16, (1, 1), seed=9))
    x, shape = pooled(writer, writer.node("ADD", [y, x], shape), shape)
    return writer.finish([image], [x])


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    path = tmp_path / "blocks.tflite"
    path.write_bytes(blocks())
    return path


def test_blocks_in_place_compute_what_tflite_does(graph: Path, tmp_path: Path) -> None:
    least = plan(graph, embeds=True).solutions[0]
    chains = [form.plan for unit, form in least.chosen if unit.first < unit.last]
    assert len(chains) == len(BLOCKS) and all(
        chain.overwrites == INPUT for chain in chains if chain
    )
    library = tmp_path / "lib.so"
    tvmc.compile(graph, output=library, memory_limit=least.bytes, weights="embedded")
    litert = runtime("litert")
    theirs = Session(graph, litert, xnnpack=False, threads=1)
    rng = np.random.default_rng(0)
    image = rng.standard_normal(SHAPE, np.float32)
    expected = theirs.run([image])
    for threads in (1, 3, 30):
        ours = Session(graph, litert, delegate=library, xnnpack=False, threads=threads)
        if threads == 1:
            assert align(Probe(ours.interpreter).arena_bytes()) == least.arena
        check(ours.run([image]), expected)
        check(ours.run([image]), expected)
    # Of another size, plain C computes them, from a copy of what it writes over.
    image = rng.standard_normal(OTHER_SHAPE, np.float32)
    check(run_resized(graph, image, [load_delegate(library)]), run_resized(graph, image, []))


def test_sums_lie_where_residuals_were(tmp_path: Path) -> None:
    graph, library = tmp_path / "projections.tflite", tmp_path / "lib.so"
    graph.write_bytes(projections())
    report = build(graph, library, Simd.named("host"), algorithms=("winograd", "indirect"))
    litert = runtime("litert")
    rng = np.random.default_rng(0)
    image = rng.standard_normal(SHAPE, np.float32)
    expected = Session(graph, litert, xnnpack=False, threads=1).run([image])
    for options in ({}, {"algorithm": "indirect"}, {"num_threads": 3}, {"one_node": 1}):
        interpreter = Interpreter(
            str(graph), experimental_delegates=[load_delegate(library, options)]
        )
        interpreter.allocate_tensors()
        if not options:
            assert align(Probe(interpreter).arena_bytes()) == align(report.peak_bytes)
        check(run(interpreter, [image]), expected)
    for shape in ((3, *SHAPE[1:]), OTHER_SHAPE):
        image = rng.standard_normal(shape, np.float32)
        check(run_resized(graph, image, [load_delegate(library)]), run_resized(graph, image, []))
