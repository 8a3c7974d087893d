"""Several layers in one kernel: what is claimed, what it computes, and what becomes of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schedules.plan.planner import plan_kernel
from schedules.target.simd import Simd
from tests.support.chains import ChainPlan, build_kernels
from tests.support.tflite_writer import Conv, ModelWriter
from tests.support.units import Unit
from tests.tflite_delegate.conftest import InterpreterApi, random_inputs, read_report, run

HOST = Simd.named("host")
SHAPE = (1, 12, 11, 4)
#: A bottleneck: many channels between layers of few.
EXPAND = Unit(Conv(70, (1, 1), activation="relu6"))
MIDDLE = Unit(Conv(33, (1, 1), seed=1), activation="HARD_SWISH")
PROJECT = Unit(
    Conv(4, (1, 1), seed=2), activation="RELU", residual="none", output_activation="RELU6"
)
TWO = (EXPAND, PROJECT)
THREE = (EXPAND, MIDDLE, PROJECT)


def add(
    writer: ModelWriter, units: Sequence[Unit], x: int, shape: tuple[int, ...] = SHAPE
) -> list[int]:
    """Write units one after the other, the last one with ``x`` as its residual; their outputs."""
    outputs, first = [], x
    for unit in units:
        outputs.append(x := unit.add(writer, x, shape, first))
        shape = unit.output_shape(shape)
    return outputs


def model_of(units: Sequence[Unit], shape: tuple[int, ...] = SHAPE) -> bytes:
    writer = ModelWriter()
    x = writer.tensor(shape)
    return writer.finish([x], add(writer, units, x, shape)[-1:])


def workloads(units: Sequence[Unit]) -> list[Any]:
    result = []
    shape: tuple[int, ...] = SHAPE
    for unit in units:
        result.append(unit.workload(shape))
        shape = unit.output_shape(shape)
    return result


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Chains of three and of two layers, and each layer alone."""
    path = tmp_path_factory.mktemp("chains") / "lib.so"
    plans = {
        "three": ChainPlan.through(*workloads(THREE)),
        "two": ChainPlan.through(*workloads(TWO)),
    }
    layers = dict.fromkeys([*workloads(THREE), *workloads(TWO)])
    plans |= {f"one{n}": plan_kernel(layer, HOST, "im2col") for n, layer in enumerate(layers)}  # type: ignore[misc]
    build_kernels(plans, path, HOST)
    return path


def check(
    api: InterpreterApi, library: Path, model: bytes, shapes: Sequence[tuple[int, ...]] = (SHAPE,)
) -> list[dict[str, Any]]:
    """Compare with TFLite's own kernels for all of these input shapes; the report's layers."""
    delegate = api.load_delegate(str(library))
    interpreters = [api.open(model, delegate, num_threads=2), api.open(model)]
    for seed, shape in enumerate(shapes):
        results = []
        for interpreter in interpreters:
            for detail in interpreter.get_input_details():
                interpreter.resize_tensor_input(detail["index"], shape)
            results.append(run(interpreter, random_inputs(interpreter, seed)))
        for y, expected in zip(*results, strict=True):
            assert y.shape == expected.shape
            assert np.allclose(y, expected, rtol=0, atol=1e-5)
    layers: list[dict[str, Any]] = read_report(library, delegate)["layers"]
    return layers


@pytest.mark.parametrize("units", [TWO, THREE], ids=["two", "three"])
def test_chains(interpreter_api: InterpreterApi, library: Path, units: Sequence[Unit]) -> None:
    (entry,) = check(interpreter_api, library, model_of(units))
    assert entry["algorithm"] == "naive_chain"
    assert entry["layers"] == [workload.describe() for workload in workloads(units)]
    assert entry["nodes"] == list(range(sum(unit.nodes for unit in units)))
    assert (entry["node"], entry["calls"], entry["generic_calls"]) == (0, 1, 0)
    weights = sum(layer.weight_bytes for layer in workloads(units))
    assert weights < entry["packed_bytes"] < weights + 64 * 2 * len(units) + 4 * 107


@pytest.mark.parametrize("units", [TWO, THREE], ids=["two", "three"])
def test_resized(litert: InterpreterApi, library: Path, units: Sequence[Unit]) -> None:
    """A batch has the kernel; another image is computed layer by layer."""
    shapes = [SHAPE, (3, *SHAPE[1:]), (2, 5, 7, 4), (1, 13, 2, 4), SHAPE]
    (entry,) = check(litert, library, model_of(units), shapes)
    assert (entry["calls"], entry["generic_calls"]) == (3, 2)


def test_float16(litert: InterpreterApi, tmp_path: Path) -> None:
    halves = [
        Unit(Conv(9, (1, 1), weight_type="float16", activation="relu")),
        Unit(Conv(4, (1, 1), weight_type="float16", seed=1), residual="none"),
    ]
    build_kernels({"two": ChainPlan.through(*workloads(halves))}, tmp_path / "lib.so", HOST)
    shapes = [SHAPE, (2, 5, 7, 4)]
    (entry,) = check(litert, tmp_path / "lib.so", model_of(halves), shapes)
    assert entry["layers"] == [
        "conv1x1 5x7x4->9 relu float16 weights",
        "conv1x1 5x7x9->4 + float16 weights",
    ]


def addresses(interpreter: Any, tensors: Sequence[int]) -> int:
    """Bytes from the first to behind the last of these tensors of the arena."""
    arrays = [interpreter.tensor(index)() for index in tensors]
    starts = [array.__array_interface__["data"][0] for array in arrays]
    ends = [start + array.nbytes for start, array in zip(starts, arrays, strict=True)]
    return max(ends) - min(starts)


def test_arena_shrinks(litert: InterpreterApi, library: Path) -> None:
    """What lies between the layers has no memory, until they are computed one by one."""
    writer = ModelWriter()
    x = writer.tensor(SHAPE)
    between, y = add(writer, TWO, x)
    model = writer.finish([x], [y])
    delegate = litert.load_delegate(str(library))
    interpreter, builtin = litert.open(model, delegate), litert.open(model)
    for each in (interpreter, builtin):
        each.allocate_tensors()
    image = 4 * int(np.prod(SHAPE))
    wide = image // 4 * 70
    assert addresses(builtin, [x, between, y]) >= image + wide
    with pytest.raises(ValueError, match="Tensor data is null"):
        interpreter.get_tensor(between)
    workspaces = [
        detail["index"]
        for detail in interpreter.get_tensor_details()
        if detail["name"] == "leanconv/workspace"
    ]
    assert addresses(interpreter, [x, y, *workspaces]) < image + wide // 2
    interpreter.resize_tensor_input(x, (1, 13, 11, 4))
    interpreter.allocate_tensors()
    assert addresses(interpreter, [x, between, y]) >= (image + wide) // 12 * 13


@pytest.mark.parametrize(
    ("kept", "nodes"),
    [
        (0, [[0], [1, 2], [3, 4, 5, 6]]),  # between the first layers
        (1, [[0], [3, 4, 5, 6]]),  # in the middle one, which has no kernel without its activation
        (2, [[0], [1, 2], [3, 4, 5, 6]]),
        (3, [[0], [1, 2]]),
    ],
)
def test_tensors_that_are_needed(
    litert: InterpreterApi, library: Path, kept: int, nodes: list[list[int]]
) -> None:
    """Node ``kept`` computes an output of the model: the chain ends there."""
    writer = ModelWriter()
    x = writer.tensor(SHAPE)
    y = add(writer, THREE, x)[-1]
    model = writer.finish([x], [y, writer.operators[kept].outputs[0]])
    entries = check(litert, library, model)
    assert [entry["nodes"] for entry in entries] == nodes


def test_option_algorithm(litert: InterpreterApi, library: Path) -> None:
    delegate = litert.load_delegate(str(library), {"algorithm": "im2col"})
    interpreter = litert.open(model_of(THREE), delegate)
    run(interpreter, random_inputs(interpreter))
    entries = read_report(library, delegate)["layers"]
    assert [entry["algorithm"] for entry in entries] == ["im2col"] * 3


def test_chain_after_chain(litert: InterpreterApi, library: Path) -> None:
    """Layers of one chain are not those of the next, and packed weights are freed."""
    entries = check(litert, library, model_of([*TWO, *THREE]))
    assert [entry["nodes"] for entry in entries] == [[0, 1, 2, 3, 4], [*range(5, 12)]]
    delegate = litert.load_delegate(str(library))
    interpreters = [litert.open(model_of(THREE), delegate) for _ in range(2)]
    one = read_report(library, delegate)["layers"][0]["packed_bytes"]
    assert read_report(library, delegate)["live_bytes"] == 2 * one
    interpreters.clear()
    assert read_report(library, delegate)["live_bytes"] == 0


def test_verbose(litert: InterpreterApi, library: Path, capfd: pytest.CaptureFixture[str]) -> None:
    litert.open(model_of(TWO), litert.load_delegate(str(library), {"verbose": 1}))
    line, end = [line for line in capfd.readouterr().err.splitlines() if "leanconv" in line]
    names = " | ".join(workload.describe() for workload in workloads(TWO))
    assert line.startswith(f"leanconv: node 0 + 1 + 2 + 3 + 4: leanconv/naive_chain {names}: ")
    assert end.startswith("leanconv: no operator is left to TFLite")
