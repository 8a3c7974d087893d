"""From a model to a library: the report, the table, and everything that can go wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cmake
import ninja
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from schedules.algorithms import REGISTRY
from schedules.errors import LeanconvError
from schedules.layer.network import block_of, of_one_kernel
from schedules.plan import builder
from schedules.target.simd import PRESETS, Simd
from schedules.target.toolchain import Toolchain
from tests.support.kernels import serves
from tests.support.operator_models import model as model_of
from tests.support.quantised_layers import random_layers
from tests.support.tflite_writer import Conv, ModelWriter, chain, single_conv
from tests.support.trials import record
from tests.tflite_delegate.conftest import InterpreterApi, random_inputs, read_report, run
from tests.tflite_delegate.csrc.test_delegate import check_conv
from tflite_delegate.build import build, export_sources
from tflite_delegate.read.model import read
from tflite_delegate.table import kernel_table

HOST = Simd.named("host")
#: Those for any convolution.
ALGORITHMS = [
    name for name in REGISTRY.names() if serves(name, Conv(8).workload((1, 8, 8, 8)), HOST)
]


def write_model(folder: Path, content: bytes) -> Path:
    path = folder / "model.tflite"
    path.write_bytes(content)
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Two equal convolutions and a different one."""
    return write_model(tmp_path, chain((1, 8, 8, 8), [Conv(8), Conv(8, seed=1), Conv(4, (1, 1))]))


def test_report(model: Path, tmp_path: Path) -> None:
    steps: list[tuple[int, int, str]] = []
    report = build(
        model, tmp_path / "lib.so", HOST, algorithms=ALGORITHMS[:2],
        progress=lambda *step: steps.append(step),
    )  # fmt: skip
    entries = report.to_dict()
    assert json.loads(json.dumps(entries))["model"] == "model.tflite"
    assert entries["target"] == "host"
    assert entries["algorithms"] == tuple(ALGORITHMS[:2])
    assert entries["library_bytes"] == (tmp_path / "lib.so").stat().st_size
    assert entries["seconds"] > 0
    assert [layer["index"] for layer in entries["layers"]] == [0, 1, 2]
    first = entries["layers"][0]
    assert first["claimed"]
    assert first["op"] == "CONV_2D"
    assert first["geometry"] == "conv3x3 8x8x8->8"
    assert first["algorithm"] == ALGORITHMS[0]
    assert first["knobs"]
    assert first["weight_bytes"] == 8 * 9 * 8 * 4
    assert first["packed_bytes"] >= first["weight_bytes"]
    assert first["macs"] == 64 * 8 * 72
    assert first["reason"] is None
    # Equal layers share their kernels: two geometries, two algorithms, one link.
    assert [done for done, _, _ in steps] == [0, 1, 2, 3, 4, 4, 5]
    assert {total for _, total, _ in steps} == {5}


@pytest.mark.parametrize("name", ["layer.o", "kernel_table.c", '-l, "ü" = $x.so', "plain"])
def test_names_of_libraries(model: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "out").mkdir()
    build(model, tmp_path / "out" / name, HOST, jobs=1)
    assert read_report(tmp_path / "out" / name, None)["kernels"] == 2
    assert [path.name for path in (tmp_path / "out").iterdir()] == [name]


@pytest.mark.slow  # as of kernels, tests/schedules/select/test_compile.py asks it every time
@pytest.mark.usefixtures("nothing_stored")
def test_one_process_and_several_give_the_same(model: Path, tmp_path: Path) -> None:
    for jobs in (1, 2):
        build(model, tmp_path / f"lib{jobs}", HOST, jobs=jobs)
    one, several = (read_report(tmp_path / f"lib{jobs}", None) for jobs in (1, 2))
    assert one == several


#: Layers that not every algorithm serves, and one that each does.
CONVS = {
    "3x3": Conv(8),
    "stride": Conv(8, stride=(1, 2)),
    "dilation": Conv(6, dilation=(2, 1)),
    "1x1": Conv(4, (1, 1)),
    "large kernel": Conv(4, (3, 11)),
    "groups": Conv(8, (2, 3), groups=2, activation="relu"),
}
SHAPE = (1, 9, 12, 4)
SELECTIVE = [
    name
    for name in ALGORITHMS
    if not all(serves(name, conv.workload(SHAPE), HOST) for conv in CONVS.values())
]


@pytest.mark.parametrize("algorithm", SELECTIVE)
def test_layers_that_the_algorithm_refuses(
    algorithm: str, tmp_path: Path, litert: InterpreterApi
) -> None:
    """The report says why; TFLite runs them, as it does without a delegate."""
    writer = ModelWriter()
    inputs = [writer.tensor(SHAPE) for _ in CONVS]
    convs = zip(inputs, CONVS.values(), strict=True)
    outputs = [writer.conv(x, SHAPE, conv)[0] for x, conv in convs]
    model, library = write_model(tmp_path, writer.finish(inputs, outputs)), tmp_path / "lib.so"
    layers = build(model, library, HOST, algorithms=[algorithm]).layers
    groups = [conv.workload(SHAPE).one_group() for conv in CONVS.values()]
    refusals = [REGISTRY.get(algorithm).supports(group, HOST) for group in groups]
    assert [layer.reason for layer in layers] == [
        None if refusal is None else f"{algorithm}: {refusal}" for refusal in refusals
    ]
    assert [layer.claimed for layer in layers] == [refusal is None for refusal in refusals]
    assert layers[0].claimed

    delegate = litert.load_delegate(str(library))
    interpreter, builtin = litert.open(model, delegate), litert.open(model)
    values = random_inputs(interpreter)
    results = zip(run(interpreter, values), run(builtin, values), strict=True)
    for layer, (y, y_builtin) in zip(layers, results, strict=True):
        assert layer.claimed or np.array_equal(y, y_builtin), layer.geometry
    report = read_report(library, delegate)
    assert report["claimed"] == sum(layer.claimed for layer in layers)
    assert report["unknown"] == sum(not layer.claimed for layer in layers)


def test_an_algorithm_that_serves_no_layer(tmp_path: Path) -> None:
    model = write_model(tmp_path, single_conv(SHAPE, CONVS["1x1"]))
    message = "node 0, CONV_2D conv1x1 9x12x4->4: winograd: a 1x1 kernel has no overlapping"
    with pytest.raises(LeanconvError, match=message):
        build(model, tmp_path / "lib.so", HOST, algorithms=["winograd"])
    assert not (tmp_path / "lib.so").exists()


def test_batch_is_looped_over(tmp_path: Path, litert: InterpreterApi) -> None:
    conv, shape = Conv(6), (3, 7, 7, 4)
    model = write_model(tmp_path, single_conv(shape, conv))
    build(model, tmp_path / "lib.so", HOST)
    delegate = litert.load_delegate(str(tmp_path / "lib.so"))
    interpreter = litert.open(model, delegate)
    (x,) = random_inputs(interpreter)
    (y,) = run(interpreter, [x])
    check_conv(conv, x, y)
    assert read_report(tmp_path / "lib.so", delegate)["layers"][0]["calls"] == 1


def test_groups_are_looped_over(tmp_path: Path, litert: InterpreterApi) -> None:
    """The kernel is one group's; what is reported is the layer's, and what the delegate takes."""
    shape, library = (1, 6, 9, 15), tmp_path / "lib.so"
    model = write_model(tmp_path, single_conv(shape, Conv(21, groups=3)))
    (layer,) = build(model, library, HOST, algorithms=["im2col"]).layers
    assert layer.geometry == "conv3x3 g3 6x9x15->21"
    assert layer.macs == 6 * 9 * 21 * 9 * 5
    assert layer.weight_bytes == 21 * 9 * 5 * 4
    assert layer.workspace_bytes == 6 * 9 * 9 * 5 * 4
    delegate = litert.load_delegate(str(library))
    interpreter = litert.open(model, delegate)
    interpreter.allocate_tensors()
    (live,) = read_report(library, delegate)["layers"]
    assert live["name"] == "leanconv/im2col conv3x3 g3 6x9x15->21"
    assert live["packed_bytes"] == layer.packed_bytes


# Records


def test_a_delegate_from_records(tmp_path: Path, litert: InterpreterApi) -> None:
    """A layer of two groups for three images, a block, and a layer that is not on record."""
    convs = [Conv(8, groups=2), Conv(8, depthwise=True, seed=1), Conv(6, (1, 1), seed=2), Conv(5)]
    model, library = write_model(tmp_path, chain((3, 9, 10, 8), convs)), tmp_path / "lib.so"
    network = read(model)
    workloads = [of_one_kernel(layer.workload) for layer in network.layers if layer.workload]
    records = [
        record(workloads[0], HOST, "im2col:columns=2", 1.0),
        record(workloads[1], HOST, "depthwise", 1.0),
        record(workloads[2], HOST, "indirect", 1.0),
        record(block_of(network, (1, 2)), HOST, "fused_block:strip_rows=3:row_block=3", 1.5),
    ]
    report = build(model, library, HOST, records=records).to_dict()
    assert report["tuning"] == {"board": "pixel6", "cost_kind": "measured", "warnings": ()}
    grouped, depthwise, pointwise, last = report["layers"]
    assert grouped["knobs"] == records[0].candidate.knobs
    assert grouped["seconds"] == pytest.approx(3 * 2 * 1e-3)
    assert depthwise["knobs"] == pointwise["knobs"] == records[3].candidate.knobs
    assert depthwise["seconds"] == pytest.approx(3 * 1.5e-3)
    assert pointwise["seconds"] is last["seconds"] is None
    sources = [layer["tuning"] for layer in report["layers"]]
    assert sources == ["tuned", "tuned", "tuned", "default"]

    interpreter, builtin = (
        litert.open(model, litert.load_delegate(str(library))),
        litert.open(model),
    )
    inputs = random_inputs(interpreter)
    for y, expected in zip(run(interpreter, inputs), run(builtin, inputs), strict=True):
        assert np.allclose(y, expected, rtol=0, atol=1e-5)


# The table


def test_table_without_kernels() -> None:
    table = kernel_table([], 'a"\\\n??=é.tflite', HOST)
    assert r'.model = "a\042\134\012\077\077=\303\251.tflite",' in table
    assert ".kernel_count = 0," in table


def test_table_names_the_features() -> None:
    assert "LC_CPU_NEON | LC_CPU_DOTPROD | LC_CPU_FULLFP16" in kernel_table(
        [], "m", Simd.named("cortex-a76")
    )


def test_table_refuses_unknown_features() -> None:
    from dataclasses import replace

    with pytest.raises(LeanconvError, match="processor feature 'sve'"):
        kernel_table([], "m", replace(HOST, features=frozenset({"sve"})))


# Sources for other build systems


def test_exported_sources_can_be_linked(
    model: Path, tmp_path: Path, litert: InterpreterApi
) -> None:
    folder = tmp_path / "sources"
    report = export_sources(model, folder, HOST)
    names = {path.name for path in folder.iterdir()}
    assert {"CMakeLists.txt", "delegate.c", "kernel_table.c", "exports.map", "leanconv.h"} <= names
    objects = sorted(name for name in names if name.endswith(".o"))
    assert len(objects) == 2
    assert report.library_bytes == sum((folder / name).stat().st_size for name in objects)
    c_files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.c"))
    library = tmp_path / "lib.so"
    Toolchain.default().link_library(folder, c_files, objects, library, HOST)
    delegate = litert.load_delegate(str(library))
    interpreter = litert.open(model, delegate)
    assert read_report(library, delegate)["claimed"] == 3
    interpreter.allocate_tensors()


def test_exported_sources_build_with_cmake(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the Python wheels of cmake, ninja and zig, on a machine without any other compiler."""
    export_sources(model, tmp_path / "sources", HOST)
    monkeypatch.setenv("PATH", str(tmp_path))
    program, make_program = f"{cmake.CMAKE_BIN_DIR}/cmake", f"{ninja.BIN_DIR}/ninja"
    compiler = f"{sys.executable};-m;ziglang;cc"
    configure = [program, "-G", "Ninja", "-B", "build", "-S", "sources"]
    configure += [f"-DCMAKE_MAKE_PROGRAM={make_program}", f"-DCMAKE_C_COMPILER={compiler}"]
    for command in (configure, [program, "--build", "build"]):
        result = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=600
        )
        assert result.returncode == 0, result.stdout + result.stderr
    (library,) = (tmp_path / "build").glob("*.so")
    assert read_report(library, None)["kernels"] == 2


def test_export_replaces_an_earlier_one_only(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "sources"
    for _ in range(2):
        export_sources(model, folder, HOST, jobs=1)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "work.txt").write_text("precious")
    with pytest.raises(LeanconvError, match="holds files that leanconv did not write"):
        export_sources(model, tmp_path / "mine", HOST)
    with pytest.raises(LeanconvError, match=r"lost/own: there is no folder \S*lost$"):
        export_sources(model, tmp_path / "lost" / "own", HOST)
    assert not list(tmp_path.glob(".sources*"))


# Errors


def test_nothing_to_compile(litert: InterpreterApi, tmp_path: Path) -> None:
    *_, layer = random_layers("CONV_2D", "uint8", 1, shapes=2)  # of three channels
    (tmp_path / "m.tflite").write_bytes(model_of([layer], litert.open))
    with pytest.raises(LeanconvError) as caught:
        build(tmp_path / "m.tflite", tmp_path / "lib.so", PRESETS["cortex-a53"])
    text = str(caught.value)
    assert text.startswith("m.tflite has no convolution that leanconv can take: node 0, CONV_2D ")
    assert text.endswith("or channels in sixteens: not faster than XNNPACK on this processor")


def test_no_convolutions(tmp_path: Path) -> None:
    writer = ModelWriter()
    x, y = writer.tensor((1, 4)), writer.tensor((1, 4))
    writer.operator(schema.BuiltinOperator.RELU, [x], [y])
    model = write_model(tmp_path, writer.finish([x], [y]))
    with pytest.raises(LeanconvError, match="has no convolutions"):
        build(model, tmp_path / "lib.so", HOST)


def test_unknown_algorithm(model: Path, tmp_path: Path) -> None:
    with pytest.raises(LeanconvError, match="unknown algorithm 'fft'"):
        build(model, tmp_path / "lib.so", HOST, algorithms=[ALGORITHMS[0], "fft"])


def test_missing_model(tmp_path: Path) -> None:
    with pytest.raises(LeanconvError, match="does not exist"):
        build(tmp_path / "missing.tflite", tmp_path / "lib.so", HOST)


@pytest.mark.parametrize(
    ("output", "message"),
    [("missing/lib.so", "there is no folder"), (".", "not a regular file")],
)
def test_output_that_cannot_be_written(
    model: Path, tmp_path: Path, output: str, message: str
) -> None:
    with pytest.raises(LeanconvError, match=message):
        build(model, tmp_path / output, HOST)


def test_failed_link_leaves_the_old_library(model: Path, tmp_path: Path) -> None:
    output = tmp_path / "lib.so"
    output.write_text("the old library")
    with pytest.raises(LeanconvError, match="false failed"):
        build(model, output, HOST, toolchain=Toolchain.named("false"))
    assert output.read_text() == "the old library"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lib.so", "model.tflite"]


COMPILE_PLAN = builder.compile_plan


@pytest.mark.usefixtures("nothing_stored")
@pytest.mark.parametrize("jobs", [1, 2])
def test_kernel_that_cannot_be_compiled(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jobs: int
) -> None:
    if jobs == 1:
        monkeypatch.setattr(builder, "compile_plans", _refuse)
    else:  # processes start afresh: they would not see the change
        monkeypatch.setattr(builder, "compile_plan", _compile_refused)
    with pytest.raises(LeanconvError, match=r"for conv.* cannot be compiled: the first line;"):
        build(model, tmp_path / "lib.so", HOST, jobs=jobs)
    assert not (tmp_path / "lib.so").exists()


def _refuse(plans: Any, simd: Simd) -> None:
    raise RuntimeError("the first line\n\nmodule:\n@I.ir_module")


def _compile_refused(*arguments: Any) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(builder, "compile_plans", _refuse)
        return COMPILE_PLAN(*arguments)


def _die(*arguments: Any) -> None:
    os._exit(1)


@pytest.mark.usefixtures("nothing_stored")
def test_compiling_process_that_dies(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builder, "compile_plan", _die)
    with pytest.raises(LeanconvError, match="crashed while compiling; is there too little memory"):
        build(model, tmp_path / "lib.so", HOST, jobs=2)


@pytest.mark.usefixtures("nothing_stored")
def test_interrupt_ends_the_workers(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import multiprocessing

    def interrupt(_done: int, _total: int, text: str) -> None:
        if text.startswith("compiled"):
            raise KeyboardInterrupt

    before: Sequence[Any] = multiprocessing.active_children()
    with pytest.raises(KeyboardInterrupt):
        build(model, tmp_path / "lib.so", HOST, jobs=2, progress=interrupt)
    assert set(multiprocessing.active_children()) <= set(before)
    assert not (tmp_path / "lib.so").exists()
